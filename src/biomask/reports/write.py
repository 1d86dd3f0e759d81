"""From the folders that the verbs leave to their `report.html`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biomask.checkpoint import Model, load_model
from biomask.evaluation.evaluate import Judged
from biomask.io.files import write_text, writing
from biomask.reports.card import CARD_FILE, card_markdown, model_card
from biomask.reports.contents import content_blocks
from biomask.reports.demo import demo_report, typical_strip
from biomask.reports.evaluation import evaluation_report
from biomask.reports.gather import (
    HeldOut,
    changed_pictures,
    compared_pictures,
    evaluation_examples,
    fold_examples,
    held_out_examples,
    object_sizes,
    prediction_examples,
)
from biomask.reports.prediction import prediction_report
from biomask.reports.run import read_run
from biomask.reports.training import training_report
from biomask.training.resume import LogRow
from biomask.training.setup import PLAN_FILE

if TYPE_CHECKING:
    import torch

    from biomask.checking import Checked
    from biomask.comparison.run import Compared
    from biomask.data.dataset import Dataset

__all__ = ["evaluation_examples", "read_choices", "read_log", "write_check_report", "write_comparison_report", "write_demo_report",
           "write_evaluation_report", "write_prediction_report", "write_training_report"]


def write_training_report(folder: Path, dataset: Dataset, held_out: Dataset | None, device: torch.device) -> Path:
    """`report.html` and `model_card.md` in a model folder, with predictions of held-out images by the weights that were kept.

    held_out: None where there is none, and of a cross-validation, whose folds are read from folds/.
    """
    model = load_model(folder)
    header, members = model.header, model.header.members
    run = read_run(folder, model, dataset, held_out, device, read_choices(folder))
    held = (held_out_examples(model, held_out, device) if held_out else
            fold_examples(folder, model, dataset, device) if members > 1 else HeldOut())
    logs = [read_log(folder / "folds" / str(n) / "log.csv") for n in range(1, members + 1)] if members > 1 else []
    write_text(folder / CARD_FILE, card_markdown(header, run, model_card(header, run)))
    return _write(folder, training_report(header, read_log(folder / "log.csv"), run, held=held, folds=logs,
                                          contents=content_blocks([i for i in dataset.inspected if i.labels], dataset.encoding)))


def write_prediction_report(model: Model, out: Path) -> Path:
    """`report.html` in a folder of predictions, with a few of them shown."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return _write(out, prediction_report(record, prediction_examples(model, out, record), object_sizes(out), model.header))


def write_check_report(path: Path, checked: Checked) -> Path:
    """The contact sheet of a data folder."""
    from biomask.reports.check import check_report

    return _write(path.parent, check_report(checked), path.name)


def write_evaluation_report(path: Path, judged: Judged) -> Path:
    """An evaluation as HTML, with its images where they stand beside the truth, the worst first."""
    return _write(path.parent, evaluation_report(judged.scores, evaluation_examples(judged), changed_pictures(judged)),
                  path.name)


def write_comparison_report(out: Path, compared: Compared) -> Path:
    """`report.html` of a comparison, with the images on which its sides differ most."""
    from biomask.reports.comparison import comparison_report

    return _write(out, comparison_report(compared.record, compared_pictures(compared)))


def write_demo_report(out: Path, judged: Judged, comparison: Mapping[str, float], *, seconds: float) -> Path:
    """`report.html` of the demo, and its first picture as `example.png`."""
    header, evaluation = load_model(out / "model").header, judged.scores
    facts = {"images": f"{len(header.data_hashes) // 2} synthetic ones to train on, {evaluation['n_images']} held out",
             "time": f"{seconds / 60:.1f} minutes for everything"}
    examples = evaluation_examples(judged)
    strip = typical_strip(examples)
    if strip is not None:
        with writing(out / "example.png") as temporary:
            temporary.write_bytes(strip.data)
    return _write(out, demo_report(header=header, history=read_log(out / "model" / "log.csv"), evaluation=evaluation,
                                   baselines=comparison, examples=examples, facts=facts))


def read_log(path: Path) -> list[LogRow]:
    """The rows of a log.csv; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [LogRow(int(row["step"]), float(row["seconds"]), float(row["lr"]), float(row["loss"]) if row["loss"] else None,
                       float(row["validation_score"]) if row["validation_score"] else None) for row in csv.DictReader(file)]


def read_choices(folder: Path) -> Sequence[str]:
    """What was chosen for the training in a model folder and why, a sentence each; of a cross-validation for its first fold.

    Empty where nothing was left open, or where it is not known any more.
    """
    for place in (folder, folder / "folds" / "1"):
        try:
            found = json.loads((place / "resume" / PLAN_FILE).read_text(encoding="utf-8")).get("sentences") or ()
        except (OSError, ValueError, AttributeError):
            continue
        return tuple(str(sentence) for sentence in found)
    return ()


def _write(folder: Path, html: str, name: str = "report.html") -> Path:
    write_text(folder / name, html)
    return folder / name
