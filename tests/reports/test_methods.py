"""Methods paragraphs say what was done, all of it, and cite what was used and nothing else."""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask import recipes, reports
from biomask.checkpoint import ModelHeader
from biomask.labels import Legend
from biomask.losses.combined import Published
from biomask.models import DETECTORS, MODELS
from biomask.reports.methods import evaluation_methods, methods_section, prediction_methods, training_methods
from biomask.reports.run import Run
from biomask.reports.sentences import NETWORKS, PUBLISHED, listed
from biomask.reports.sources import SOURCES, cited, literal

RUN = Run(images=24, sizes=((512, 512),) * 24, held_out=("a", "b", "c"), held_out_by="3 of 24 images at random", parameters=12345,
          steps=500, seconds=600.0, device="cpu (4 threads)", machine="a machine", versions={"biomask": "1.2.3", "torch": "2.9"})


def header(*settings, kind="classes", legend=None, **fields):
    """A model of recipe `default` with all that it leaves open filled in."""
    filled = ("network.options.depth=4", "network.options.width=32", "normalization.method=percentile", "augmentation.warp=0.25",
              "training.batch=4", "training.patch=[128, 128]", "training.oversample=0.5", "prediction.augment=symmetries")
    recipe = recipes.get("default").with_settings([*filled, *settings])
    legend = legend or Legend.of_values([0, 1], {1: "cell"})
    return ModelHeader(**{"recipe": recipe, "in_channels": 3, "spatial_dims": 2, "kind": kind, "legend": legend.to_json(),
                          "dtype": "uint8", "scores": {"validation.score": 0.876}, "step": 400, **fields})


def text(*settings, run=RUN, **fields):
    return training_methods(header(*settings, **fields), run).text


#: A setting with another value, and what has to be said then.
SETTINGS = {
    "normalization.method=zscore": "a mean of 0 and a standard deviation of 1", "normalization.method=none": "used as they are",
    "normalization.low=2": "percentiles 2 and 99.8", "normalization.high=99": "percentiles 1 and 99",
    "network.options.depth=3": "3 poolings", "network.options.width=16": "16 feature maps",
    "network.options.up=nearest": "nearest up-",
    "network.options.norm=null": "padded with zeros and bilinear", "network.options.dropout=0.5": "dropout [",
    "network.options.padding=valid": "without padding", "network.options.scales=[[1, 2]]": "factor of two of the finest axis [",
    "augmentation.flip=[x]": "mirrored along x;", "augmentation.rotate90=false": "mirrored along x and y; with",
    "augmentation.warp=0.5": "probability of 0.5 rotated", "augmentation.rotate=15": "by up to 15°",
    "augmentation.scale=0.1": "scaled by up to 10 %", "augmentation.elastic=4": "deviation of 4 px",
    "augmentation.intensity=0.4": "probability of 0.4 changed in brightness",
    "augmentation.blur=0.35": "probability of 0.35 blurred",
    "augmentation.noise=0.15": "probability of 0.15 overlaid", "augmentation.stain=0": "overlaid with noise. ",
    "loss.cross_entropy=2": "2 × cross-entropy", "loss.cross_entropy=0": "The loss was soft Dice loss",
    "loss.dice=0.5": "0.5 × soft Dice",
    "loss.class_weights=[1, 3]": "class weights 1 for background and 3 for cell",
    "loss.tversky=2": "2 × Tversky loss [", "loss.focal=0.5": "0.5 × focal loss [",
    "loss.published=optic-disc": "half the soft Dice",
    "training.batch=8": "batches of 8 patches", "training.patch=[64, 96]": "64 × 96 px",
    "training.oversample=0.25": "25 % of the patches",
    "training.optimizer=sgd": "stochastic gradient descent [", "training.optimizer=adam": "with Adam [",
    "training.schedule=step": "multiplied by 0.1 after each 20 % of the training", "training.lr=0.5": "up to 0.5",
    "training.weight_decay=0.03": "decay 0.03",
    "training.schedule=constant": "learning rate of up to 0.002 after", "training.until_flat=true": "no longer rose",
    "training.warmup=0.125": "the first 12.5 % of", "training.clip=5": "norm of 5 [", "training.clip=null": "rare class. A running",
    "training.average=0.5": "running average", "training.average=null": "norm of 1 [", "prediction.augment=none": "",
    "prediction.calibrate=true": "by a monotone cubic [", "prediction.median=3": "median over a disk of 3 px",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_that_changes_changes_its_sentence(setting):
    assert text(setting) != text()
    assert SETTINGS[setting] in text(setting)


def test_what_shapes_a_part_is_said_where_there_is_that_part():
    assert text("loss.tversky_alpha=0.4", "loss.focal_gamma=1", "training.drop_every=0.5", "loss.heads=[1, 2]") == text()
    assert "(α = 0.4, β = 0.6)" in text("loss.tversky=1", "loss.tversky_alpha=0.4", "loss.tversky_beta=0.6")
    assert "focal loss [" in text("loss.focal=1", "loss.focal_gamma=1")
    assert "(γ = 1)" in text("loss.focal=1", "loss.focal_gamma=1")
    assert "by 0.5 after each 25 %" in text("training.schedule=step", "training.drop_every=0.25", "training.drop_factor=0.5")
    assert "by 0.1 after 50 % and 75 % of" in text("training.schedule=step", "training.drop_at=[0.5, 0.75]")
    heads = header("loss.heads=[1, 1, 2]")
    named = heads.model_copy(update={"recipe": heads.recipe.model_copy(update={"network": recipes.get("unet++").network})})
    assert "heads of the network with weights 1, 1 and 2" in training_methods(named, RUN).text


@pytest.mark.parametrize("name", get_args(Published))
def test_published_losses_are_said_in_place_of_the_sum(name):
    said = text(f"loss.published={name}", "loss.dice=0.5")
    assert "0.5 ×" not in said
    assert said != text("loss.dice=0.5")
    assert PUBLISHED[name].partition(" [")[0] in said


def test_momentum_is_said_of_what_has_it():
    assert text("training.momentum=0.5") == text()
    assert "momentum 0.5" in text("training.optimizer=sgd", "training.momentum=0.5")


#: The same of models of objects.
OBJECTS = {"instances.target=borders": "were background, and weighed up to 10 more",
           "instances.border_width=3": "3 px on either side",
           "loss.distance=2": "2 × balanced cross-entropy of the distance map",
           "loss.border=2": "2 × balanced cross-entropy of the border"}


@pytest.mark.parametrize("setting", OBJECTS)
def test_each_setting_of_objects_changes_its_sentence(setting):
    assert text(setting, kind="instances") != text(kind="instances")
    assert OBJECTS[setting] in text(setting, kind="instances")


def test_weights_of_borders_are_those_that_were_set():
    assert "formula of the U-Net plug-in [" in text("instances.target=borders", "instances.weights=plug-in", kind="instances")
    said = text("instances.target=borders", "instances.w0=7", "instances.sigma=2", kind="instances")
    assert "up to 7 more in the loss (σ = 2 px)" in said
    assert "balanced cross-entropy" not in said


#: What is not in the paragraph, and why: the budget is said as the steps that were done, and the others are in the recipe below it.
UNSAID = {"training.steps", "training.minutes", "training.patience", "training.validations", "training.seed", "training.precision",
          "training.momentum", "prediction.tile", "instances.w0", "instances.sigma", "instances.weights", "instances.balance",
          "loss.tversky_alpha", "loss.tversky_beta", "loss.focal_gamma", "loss.heads", "training.drop_every",
          "training.drop_factor", "training.drop_at", "prediction.rotations"}


def test_no_setting_is_forgotten():
    known = {s.partition("=")[0] for s in (*SETTINGS, *OBJECTS)} | UNSAID
    content = recipes.get("default").model_dump()
    for section in ("normalization", "augmentation", "loss", "instances", "training", "prediction"):
        assert {f"{section}.{key}" for key in content[section]} <= known


@pytest.mark.parametrize(("change", "said"), [
    ({"images": 25}, "25 images ("), ({"sizes": ((64, 64), (64, 96))}, "64 × 64 to 64 × 96 px"), ({"held_out": ("a",)},
                                                                                                  "1 image took no"),
    ({"held_out_by": "by lot"}, "training: by lot."), ({"held_out": ()}, "No image was held out."), ({"parameters": 77},
                                                                                                     "77 trainable"),
    ({"steps": 9}, "for 9 steps"), ({"seconds": 7200.0}, "2 h 0 min"), ({"machine": "another"}, "ran on another"),
    ({"device": "cuda (a GPU)"}, "ran on cuda (a GPU)"), ({"versions": {"numpy": "9.9"}}, "Software: NumPy 9.9 ["),
    ({"groups": 6, "groups_by": "by folder"}, "6 groups (by folder), none of which was split"), ({"bfloat16": True}, "in bfloat16"),
])
def test_what_the_run_was_is_said(change, said):
    assert said in text(run=replace(RUN, **change))
    assert said not in text()


@pytest.mark.parametrize(("fields", "said"), [
    ({"in_channels": 1}, "1 channel,"), ({"dtype": "uint16"}, "uint16"), ({"spacing": {"y": 0.5, "x": 0.25}},
                                                                          "0.5 × 0.25 µm a pixel"),
    ({"spatial_dims": 3}, "3D U-Net [1, 2]"), ({"kind": "multilabel"}, "structures cell, which may overlap"),
    ({"kind": "soft"}, "average of several experts"), ({"kind": "instances"}, "single objects"),
    ({"thresholds": {"cut": 0.375}}, "probability is above 0.375, a threshold tuned"),
    ({"scores": {"validation.score": 0.5}}, "too) was 0.500"), ({"scores": {}}, "none were scored"),
    ({"scores": {"validation.score": 0.5, "before.value": 0.1}}, "weights of another model"),
    ({"members": 5}, "In a 5-fold cross-validation"), ({"legend": Legend.of_values([0, 1], {1: "fibre"})}, "fibre"),
])
def test_what_the_model_is_is_said(fields, said):
    assert said in text(**fields)
    assert said not in text()


def test_thresholds_of_objects_are_those_that_were_tuned():
    said = text(kind="instances", thresholds={"foreground": 0.625, "min_size": 41.0, "sigma": 1.5, "hole": 0.2})
    for part in ("above 0.625", "below 41 px", "a Gaussian of 1.5 px", "up to 20 % of their object", "thresholds tuned"):
        assert part in said
    assert "tuned" not in text(kind="instances").partition("Objects were")[2].partition("filled.")[0]


def test_a_test_on_the_images_that_chose_is_called_none():
    assert "this is no independent test" in text()
    assert "no independent test" not in text(scores={})


#: Of a detector: options of its network and settings, and what has to be said then.
DETECTOR = {"network.options.backbone=resnet101": "a ResNet-101 [",
            "network.options.backbone=resnext101-32x8d": "a ResNeXt-101-32x8d [",
            "network.options.width=16": "of 16 feature maps in its first layer", "network.options.neck=c4": "fourth stage (C4)",
            "network.options.norm=batch": "batch normalisation [", "network.options.short_side=[640, 800]": "640 to 800 px at",
            "network.options.keypoints=17": "and the place of each key point, as in the paper [",
            "network.options.masks=false": "of objectness and boxes of the proposals and classes and boxes of the objects, as",
            "network.name=faster-rcnn": "Faster R-CNN [", "augmentation.scale=0.5": "scaled by up to 50 %",
            "training.patch=[256, 256]": "patches of 256 × 256 px"}


def detector(*given, **fields):
    start = ("network.name=mask-rcnn", "network.options={}", "training.patch=null", "training.batch=2", "augmentation.warp=1.0",
             "prediction.augment=none")
    recipe = recipes.get("default").with_settings([*start, *given])
    return training_methods(header(kind="instances").model_copy(update={"recipe": recipe, **fields}), RUN).text


@pytest.mark.parametrize("setting", DETECTOR)
def test_each_option_of_a_detector_changes_its_sentence(setting):
    assert detector(setting) != detector()
    assert DETECTOR[setting] in detector(setting)
    assert DETECTOR[setting] not in detector()


def test_of_a_detector_nothing_is_said_of_maps():
    said = detector(thresholds={"score": 0.45, "min_size": 12.0}, scores={"trial.thresholds tuned": 0.5})
    for part in ("Mask R-CNN [", "score above 0.45, a threshold tuned", "fewer than 12 visible px", "batches of 2 images",
                 "Images were at random", "taken from another that sees it whole"):
        assert part in said
    assert "score above 0.5." in detector(thresholds={"score": 0.5})
    for part in ("watershed", "distance", "Dice loss", "elastic", "rotated"):
        assert part not in said


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_has_a_paragraph(name):
    recipe = recipes.get(name)
    made = header().model_copy(update={"recipe": recipe})
    found = training_methods(made, RUN)
    assert "None" not in found.text.split()
    assert "[@" not in found.text
    assert len(found.references) == len(set(found.references))


def test_every_network_has_a_name_and_known_sources():
    assert {*MODELS, *DETECTORS} == set(NETWORKS)
    assert {key for _, key in NETWORKS.values() if key} <= set(SOURCES)


def test_every_source_is_cited_somewhere():
    code = "".join(p.read_text(encoding="utf-8") for p in Path(reports.__file__).parent.glob("*.py") if p.name != "sources.py")
    marks = {k.strip() for m in re.findall(r"\[@([^\]{}]+)\]", code) for k in m.split(",")}
    named = {key for _, key in NETWORKS.values()} | {"unet-3d", "pytorch", "numpy", "scipy", "scikit-image"}  # put together
    assert set(SOURCES) == (marks | named) - {"", "key"}  # the word that stands for a key in texts on them


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(SOURCES)), max_size=12))
def test_sources_are_numbered_by_first_use(keys):
    found = cited([f"a [@{key}]." for key in keys])
    order = list(dict.fromkeys(keys))
    assert found.references == tuple(SOURCES[k] for k in order)
    assert found.text == " ".join(f"a [{order.index(k) + 1}]." for k in keys)


def test_an_unknown_source_is_an_error():
    with pytest.raises(KeyError):
        cited(["a [@nobody]."])


@pytest.mark.parametrize("name", ["[@unet]", "a [@nobody] b", "<b>", "100 %"])
def test_names_of_users_are_no_citations(name):
    plain = training_methods(header(), RUN)
    named = training_methods(header(legend=Legend.of_values([0, 1], {1: name})), RUN)
    assert named.references == plain.references
    assert literal(name) in named.text


def test_lists_are_read_as_people_write_them():
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


class TestPrediction:
    RECORD: ClassVar = {"legend": Legend.of_values([0, 1], {1: "cell"}).to_json(), "kind": "classes", "model_sha256": "ab" * 32,
              "augment": "none", "images": {"a": {"size": [4, 4], "objects": 3}}, "failed": {}}

    def said(self, header=None, **change):
        return prediction_methods({**self.RECORD, **change}, header, {"biomask": "1.2.3"}).text

    @pytest.mark.parametrize(("change", "said"), [
        ({"augment": "symmetries"}, "mean over mirrored and turned copies"), ({"augment": "mirrors"}, "mean over mirrored copies"),
        ({"augment": "rotations"}, "mean over turned copies"),
        ({"kind": "multilabel"}, "belongs to a structure"), ({"failed": {"b": "broken"}}, "1 image could not be segmented"),
        ({"images": {"a": {"warnings": ["w"]}}}, "1 image was unlike"), ({"model_sha256": "cd" * 32}, "cdcdcdcdcdcd…"),
        ({"images": {"a": {"rescale": [0.5, 0.5]}}}, "1 image was resampled"), ({"images": {}}, "0 images were segmented"),
    ])
    def test_what_was_done_is_said(self, change, said):
        assert said in self.said(**change)
        assert said not in self.said()

    def test_of_the_model_what_decides(self):
        assert "percentiles 1 and 99.8" in self.said(header())
        assert "2D U-Net [1]" in self.said(header())
        assert "cell where its probability is above 0.375." in self.said(header(thresholds={"cut": 0.375}))
        assert "below 41 px" in self.said(header(kind="instances", thresholds={"min_size": 41.0}), kind="instances")
        assert "copies" not in self.said(header(kind="instances"), kind="instances")  # the run took none, whatever is usual


class TestEvaluation:
    def test_results_are_those_of_the_evaluation(self, evaluation):
        found = evaluation_methods(evaluation, {})
        limits = evaluation["intervals"]["dice"]
        assert (f"Dice {evaluation['mean']['dice']:.3f} (95 % interval {limits['low']:.3f} to {limits['high']:.3f})") in found.text
        assert "average precision" not in found.text
        assert any("bootstrap" in r for r in found.references)
        assert not any("Panoptic" in r for r in found.references)

    def test_undefined_results_are_left_out(self, empty_evaluation):
        found = evaluation_methods(empty_evaluation, {}).text
        assert "Results" not in found
        assert "None" not in found


def test_the_section_has_every_reference():
    found = training_methods(header(), RUN)
    section = methods_section(found)
    assert section.blocks[1].text == found.text
    assert section.blocks[2].blocks[0].texts == found.references
    assert section.blocks[2].opened
