"""The table of a UNet++'s depths in the report of its training."""

from biomask.checkpoint import ModelHeader
from biomask.labels import Legend
from biomask.models.head_score import HeadScore
from biomask.recipe import Recipe
from biomask.reports import training_report
from biomask.reports.run import Run


def header(**more) -> ModelHeader:
    return ModelHeader(recipe=Recipe(name="unet++"), in_channels=1, spatial_dims=2, kind="classes",
                       legend=Legend.of_values([0, 1]).to_json(), scores={"validation.score": 0.9}, **more)


def test_every_depth_is_a_row_and_one_is_recommended():
    heads = (HeadScore(depth=1, mode="fast", score=0.812, parameters=100_961, seconds=0.5),
             HeadScore(depth=2, mode="fast", score=0.845, parameters=511_105, seconds=1.25, recommended=True),
             HeadScore(depth=2, mode="accurate", score=0.851, parameters=511_138, seconds=1.5))
    page = training_report(header(heads=heads), [], Run())
    for shown in ("What each depth is worth", "L1", "L2", "mean of all heads", "100,961", "511,105", "--depth 2"):
        assert shown in page
    assert page.count(">recommended<") == 1
    assert page.index("0.812") < page.index("0.845") < page.index("0.851")


def test_other_networks_have_none():
    assert "What each depth is worth" not in training_report(header(), [], Run())


def test_a_calibration_is_explained():
    thresholds = {"cut": 0.4, **{f"calibration.{n}": n / 3 for n in range(4)}}
    scores = {"validation.score": 0.9, "trial.unrefined": 0.81, "trial.cut before": 0.82, "trial.cut tuned": 0.83}
    page = training_report(header(thresholds=thresholds).model_copy(update={"scores": scores}), [], Run())
    assert "coefficient 3 of the cubic" in page
    assert "without calibration and median filter" in page


def test_the_score_says_over_how_many_images_it_is_and_what_tuning_made_of_it():
    scores = {"validation.score": 0.056, "trial.thresholds tuned": 0.187}
    page = training_report(header(scored=2).model_copy(update={"scores": scores}), [], Run(images=500, held_out=("a", "b", "c")))
    assert "over 2 held-out images" in page
    assert "On 2 held-out images" in page
    assert "once tuned" in page
    assert "0.187" in page


def test_channels_that_were_made_are_said():
    grey = header().model_copy(update={"recipe": Recipe(name="default", data={"channels": ["grey"]})})
    assert "Colour was turned into grey." in training_report(grey, [], Run())
    assert "Colour was turned" not in training_report(header(), [], Run())
