"""What a detector's recipe leaves open follows from the objects; what it gives stays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from biomask import recipes
from biomask.data.keypoints import KeypointNames
from biomask.data.object_facts import ObjectFacts
from biomask.errors import UsageError
from biomask.training.detection_anchors import anchor_overlaps
from biomask.training.detection_plan import plan_detection, seen_scale, varies_size
from biomask.training.speed import Machine

CPU = Machine("cpu", "CPU with 2 threads", 2, 16 * 10**9, 8 * 10**9, True)
GPU = Machine("cuda", "GPU", 16, 80 * 10**9, 70 * 10**9, True)
SIZES = [(512, 640)] * 40


def facts(side: float = 40.0, most: int = 20, **changes: Any) -> ObjectFacts:
    """Objects of half to twice a side."""
    sides = np.geomspace(side / 2, side * 2, 200)
    usual = ObjectFacts(40, 40, 400, 0, 0, 0, (10, 18.0, most), (side / 2, side * 0.55, side, side * 1.8, side * 2),
                        (1.0,) * 5, side**2 / 4, {"cell": 400}, np.stack([sides, sides], axis=1), {})
    return replace(usual, **changes)


def plan(name: str = "mask-rcnn-small", have: ObjectFacts | None = None, settings: tuple[str, ...] = (), machine: Machine = CPU,
         sizes: Any = SIZES, **more: Any) -> Any:
    return plan_detection(recipes.get(name).with_settings(settings), sizes, have or facts(), machine, **more)


def options(found: Any) -> dict[str, Any]:
    return dict(found.recipe.network.options)


@pytest.mark.parametrize("side", [10.0, 25.0, 60.0, 150.0, 400.0])
def test_anchors_reach_the_objects_whatever_their_size(side):
    """As the network sees them, in crops that hold the large ones whole."""
    found = plan(have=facts(side))
    sizes, patch = options(found)["anchor_sizes"], found.recipe.training.patch
    scale = seen_scale(SIZES, patch, options(found))
    strides = (4, 8, 16, 32, 64)
    assert (anchor_overlaps(facts(side).boxes * scale, sizes, (0.5, 1.0, 2.0), strides) >= 0.5).mean() > 0.85
    assert min(sizes) >= 4
    assert all(b == 2 * a for a, b in pairwise(sizes))
    assert not found.warnings
    if patch is not None:
        assert scale * facts(side).sides[3] <= 0.6 * 256
        assert seen_scale(SIZES, patch, options(found)) * max(patch) <= 258
    else:
        assert options(found)["short_side"] == 256


@pytest.mark.parametrize(("side", "scale"), [(12.0, 2.0), (20.0, 1.5), (60.0, 1.0)])
def test_small_objects_are_enlarged(side, scale):
    found = plan(have=facts(side))
    assert seen_scale(SIZES, found.recipe.training.patch, options(found)) == pytest.approx(scale, rel=0.01)


def test_overlaps_of_anchors_by_a_written_out_rule():
    """A box of 16 x 8 and an anchor of 12 x 12, centres 1 px apart along each axis: 12 rows (all that the anchor has) of 8."""
    assert anchor_overlaps(np.array([[16.0, 8.0]]), (12.0,), (1.0,), (4,))[0] == pytest.approx(96 / (128 + 144 - 96))


def test_anchors_that_do_not_fit_are_warned_of():
    found = plan("mask-rcnn-r50-fpn", facts(6.0), sizes=[(800, 1000)])
    assert any("reach" in w for w in found.warnings)
    assert not plan("mask-rcnn-r50-fpn", facts(100.0), sizes=[(800, 1000)]).warnings


def test_limits_come_from_the_fullest_image_or_crop():
    assert options(plan(have=facts(most=20)))["limits"]["detections"] == 100
    whole = plan("mask-rcnn-r50-fpn", facts(most=501))
    assert options(whole)["limits"]["detections"] == 760
    assert options(whole)["limits"]["proposals"] == 1520
    # A crop of 256 x 256 is a fifth of the image and may hold two fifths of its objects: 1.5 x 201.
    crops = plan(have=facts(50.0, most=501), counts=[501] + [10] * 39)
    assert options(crops)["limits"]["detections"] == 310
    given = plan(settings=("network.options.limits={detections: 7}",))
    assert options(given)["limits"]["detections"] == 7


@pytest.mark.parametrize(("batch", "lr"), [(16, 0.02), (2, 0.0025), (32, 0.04)])
def test_the_rate_is_in_proportion_to_the_batch(batch, lr):
    assert plan("mask-rcnn-r50-fpn", settings=(f"training.batch={batch}",)).recipe.training.lr == pytest.approx(lr)
    assert plan(settings=(f"training.batch={batch}",)).recipe.training.lr == recipes.get("mask-rcnn-small").training.lr


def test_the_length_comes_from_the_number_of_images_unless_it_is_given():
    found = plan("mask-rcnn-r50-fpn", machine=GPU, sizes=[(480, 640)] * 115_000)
    assert found.recipe.training.batch == 16
    assert found.recipe.training.steps == pytest.approx(160_000, rel=0.02)  # the paper's
    assert plan("mask-rcnn-finetune").recipe.training.steps == 500  # few images: the least
    assert plan("mask-rcnn-finetune", settings=("training.steps=9",)).recipe.training.steps == 9
    small = plan().recipe.training
    assert (small.steps, small.until_flat) == (None, True)


def test_masks_and_keypoints_are_what_the_data_have():
    names = KeypointNames(("a", "left_b", "right_b"))
    assert options(plan())["masks"] is True
    assert options(plan())["keypoints"] == 0
    assert options(plan(have=facts(with_keypoints=300, keypoints=names)))["keypoints"] == 3
    assert options(plan(have=facts(keypoints=names)))["keypoints"] == 0  # named, and nobody labelled any
    assert options(plan(have=facts(boxes_alone=390)))["masks"] is False
    assert options(plan(settings=("network.options.masks=false",)))["masks"] is False
    for given in (0, 3):
        found = plan(have=facts(with_keypoints=300, keypoints=names), settings=(f"network.options.keypoints={given}",))
        assert options(found)["keypoints"] == given


@pytest.mark.parametrize(("setting", "have", "said"), [
    ("keypoints=true", {"keypoints": KeypointNames(("a", "b", "c"))}, "keypoints is true, .* the objects have 3"),
    ("keypoints=5", {"keypoints": KeypointNames(("a", "b", "c"))}, "keypoints is 5, .* the objects have 3"),
    ("keypoints=5", {}, "the objects have no keypoints"), ("masks=true", {"boxes_alone": 400}, "a box alone")])
def test_what_is_asked_for_and_the_objects_have_not_is_refused(setting, have, said):
    with pytest.raises(UsageError, match=said):
        plan(have=facts(**have), settings=(f"network.options.{setting}",))


def test_what_weights_came_with_is_kept_as_in_the_paper():
    assert (options(plan("mask-rcnn-r50-fpn"))["norm"], options(plan("mask-rcnn-r50-fpn"))["trainable"]) == ("batch", 5)
    begun = options(plan("mask-rcnn-r50-fpn", begins=True))
    assert (begun["norm"], begun["trainable"]) == ("frozen", 3)


@pytest.mark.parametrize(("network", "most", "before", "after"), [
    ({}, 100, 1000, None), ({}, 600, 1000, 1200), ({"neck": "c4"}, 150, 300, None), ({"neck": "c4"}, 200, 300, 400)])
def test_there_are_twice_as_many_proposals_as_detections(network, most, before, after):
    """`before`: the network's own limit, which stays where it is enough."""
    recipe = recipes.get("mask-rcnn-r50-fpn").with_settings(tuple(f"network.options.{k}={v}" for k, v in network.items()))
    found = plan_detection(recipe.with_settings((f"network.options.limits.detections={most}",)), SIZES, facts(), CPU)
    limits = options(found)["limits"]
    assert limits.get("proposals") == after
    assert (before >= 2 * most) == (after is None)


@pytest.mark.parametrize(("side", "settings", "varies"), [
    (25.0, (), True), (400.0, (), False), (25.0, ("augmentation.scale=0",), False), (25.0, ("augmentation.warp=0",), False)])
def test_sizes_are_varied_unless_the_network_would_undo_it(side, settings, varies):
    found = plan(have=facts(side), settings=settings)
    assert varies_size(found.recipe) == varies
    assert any("larger or smaller at random" in s for s in found.sentences) == (side == 400)


def test_crops_of_rare_objects_are_laid_on_them():
    assert plan(have=facts(per_image=(2, 3.0, 4))).recipe.training.oversample == 0.5
    assert plan(have=facts(per_image=(60, 70.0, 80))).recipe.training.oversample == 0.0


def test_a_gpu_takes_what_fits():
    found = plan("mask-rcnn-r50-fpn", machine=replace(GPU, memory=12 * 10**9))
    assert 1 <= found.recipe.training.batch <= 4
    assert plan("mask-rcnn-r50-fpn", machine=replace(GPU, processes=3)).recipe.training.batch % 3 == 0
    assert plan("mask-rcnn-r50-fpn").recipe.training.batch == 2
