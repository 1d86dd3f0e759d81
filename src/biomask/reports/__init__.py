"""Reports: one self-contained HTML file each, readable by a person who doesn't program."""

from biomask.reports.demo import demo_report
from biomask.reports.evaluation import evaluation_report
from biomask.reports.examples import Example
from biomask.reports.prediction import prediction_report
from biomask.reports.training import training_report

__all__ = ["Example", "demo_report", "evaluation_report", "prediction_report", "training_report"]
