"""Training samples of detectors: pure functions of (seed, n), with objects that stay on their pixels."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.dataset import Dataset, open_dataset
from biomask.data.detection import DetectionSampling, batch, draw_detection, placement_of, sample, target_of
from biomask.data.keypoints import KeypointNames, keypoints_of
from biomask.data.objects import Objects, objects_of
from biomask.data.placement import Placement
from biomask.errors import UsageError
from biomask.recipe import AugmentationSettings, DataSettings
from biomask.transforms import Normalization

PLAIN, VARIED = AugmentationSettings(flip=(), rotate90=False), AugmentationSettings()
NAMES = KeypointNames(("nose", "left_eye", "right_eye"), (), ((1, 2),))
SIZES = ((40, 60), (50, 30), (33, 33), (20, 20))

#: Grey values of objects: tens are the class.
GREYS = {1: 11, 2: 22, 3: 13, 4: 24, 5: 25}


def rectangle(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three images with objects that do not overlap, painted in GREYS, the first with a crowd; and an empty one."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("coco")
    places = {1: (0, 3, 4, 11, 9), 2: (0, 25, 20, 20, 12), 3: (1, 2, 2, 20, 30), 4: (1, 24, 40, 6, 10), 5: (2, 10, 12, 7, 7)}
    images, annotations = [np.zeros(size, np.uint8) for size in SIZES], []
    for number, (i, x, y, width, height) in places.items():
        images[i][y:y + height, x:x + width] = GREYS[number]
        annotations.append({"id": number, "image_id": i, "category_id": GREYS[number] // 10,
                            "segmentation": [rectangle(x, y, width, height)],
                            "keypoints": [x + 2.5, y + 1.5, 2, x + 0.5, y + 4.5, 2, x + width - 0.5, y + 4.5, 1]})
    crowd = np.zeros(SIZES[0], bool)
    crowd[30:38, 2:12] = True
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], crowd.T.ravel(), [False]]).astype(int), prepend=0, append=0)))
    counts = [int(np.argmax(crowd.T.ravel())), *runs.tolist()]
    counts.append(crowd.size - sum(counts))
    region = {"size": list(SIZES[0]), "counts": counts}
    annotations.append({"id": 9, "image_id": 0, "category_id": 1, "iscrowd": 1, "segmentation": region})
    listed = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
        listed.append({"id": i, "file_name": f"{i}.png", "height": image.shape[0], "width": image.shape[1]})
    kinds = [{"id": k, "name": n, "keypoints": list(NAMES.names)} for k, n in ((1, "ant"), (2, "bee"))]
    (folder / "labels.json").write_text(json.dumps({"images": listed, "annotations": annotations, "categories": kinds}))
    return open_dataset(folder, DataSettings(kind="instances", unlabelled="background"), Normalization("none"))


def sampling(seed: int = 0, augmentation: AugmentationSettings = VARIED, **more: object) -> DetectionSampling:
    return DetectionSampling(seed, augmentation, keypoints=NAMES, **more)  # type: ignore[arg-type]


samplings = st.builds(
    lambda seed, window, pad, zoom, sides, focus: sampling(
        seed, window=window, pad=pad, zoom=(zoom[0], zoom[0] * zoom[1]), short_sides=sides, long_side=70, focus=focus),
    st.integers(0, 2**40), st.none() | st.tuples(st.integers(8, 70), st.integers(8, 70)), st.booleans(),
    st.sampled_from([(1.0, 1.0), (0.4, 5.0), (1.5, 1.0)]), st.sampled_from([(), (24, 36, 48)]), st.sampled_from([0.0, 1.0]))


@given(samplings, st.integers(0, 2**40))
def test_any_sample(data: Dataset, drawn: DetectionSampling, n: int) -> None:
    image, target = sample(data, drawn, n)
    boxes, labels, masks, crowd = (target[k].numpy() for k in ("boxes", "labels", "masks", "crowd"))
    size = image.shape[-2:]
    assert image.dtype == torch.float32
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert masks.dtype == np.uint8
    assert masks.shape == (len(boxes), *size)
    assert crowd.dtype == bool
    if drawn.window is not None:
        assert size == drawn.window if drawn.pad else (np.array(size) <= drawn.window).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [*size[::-1], *size[::-1]]).all()
    for box, mask, ignored in zip(boxes, masks, crowd, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], "a box is the extent of its mask"
        else:
            assert ignored, "what has no pixel left is not learnt"
    points = target["keypoints"].numpy()
    assert points.shape == (len(boxes), 3, 3)
    assert points.dtype == np.float32
    seen = points[..., 2] > 0
    assert (points[~seen] == 0).all()
    assert (points[seen][:, :2] >= 0).all()
    assert (points[seen][:, :2] <= size[::-1]).all()
    if drawn.zoom == (1.0, 1.0) and not drawn.short_sides:
        _check_greys(image.numpy()[0], labels, masks, points)


def _check_greys(image: np.ndarray, labels: np.ndarray, masks: np.ndarray, points: np.ndarray) -> None:
    """Where no pixel was interpolated, each mask lies on the pixels of one object, which has its class and its keypoints."""
    for label, mask, own in zip(labels, masks.astype(bool), points, strict=True):
        (grey,) = np.unique(image[mask])
        if grey == 0:  # the crowd
            continue
        np.testing.assert_array_equal(mask, image == grey)
        assert label == grey // 10, "ids keep their classes"
        for x, y, visible in own:
            assert not visible or image[int(y), int(x)] == grey, "keypoints stay on their object"
    assert set(np.unique(image)) <= {0, *(image[m.astype(bool)][0] for m in masks)}, "nothing in the window is without an object"


@settings(max_examples=15)
@given(samplings)
def test_samples_are_the_same_in_any_order_and_process(data: Dataset, drawn: DetectionSampling) -> None:
    fresh, again = pickle.loads(pickle.dumps((replace(data, _scenes=type(data._scenes)()), drawn)))  # noqa: S301
    numbers = [5, 0, 2**33, 3]
    first = batch(data, drawn, numbers)
    second = batch(fresh, again, numbers[::-1])
    for k in range(len(numbers)):
        assert torch.equal(first[0][k], second[0][-1 - k])
        for name, tensor in first[1][k].items():
            assert torch.equal(tensor, second[1][-1 - k][name]), name  # type: ignore[literal-required]


def whole(objects: Objects, flips: tuple[int, ...] = (), turns: int = 0) -> Placement:
    return Placement(objects.size, objects.size, (0, 0), objects.size, objects.size, flips, turns)


@pytest.mark.parametrize("i", [0, 1, 2, 3])
def test_all_of_an_image_when_nothing_changes(data: Dataset, i: int) -> None:
    objects = objects_of(data, i)
    target = target_of(objects, whole(objects), sampling())
    np.testing.assert_array_equal(target["boxes"], objects.boxes)
    np.testing.assert_array_equal(target["labels"], objects.classes)
    np.testing.assert_array_equal(target["crowd"], objects.crowd)
    np.testing.assert_array_equal(target["keypoints"], objects.keypoints)


@pytest.mark.parametrize(("flips", "swapped"), [((-1,), True), ((-2,), True), ((-1, -2), False), ((), False)])
def test_a_mirror_swaps_left_and_right(data: Dataset, flips: tuple[int, ...], swapped: bool) -> None:
    """Mirrored along two axes things are merely turned by half."""
    objects = objects_of(data, 0)
    height, width = objects.size
    target = target_of(objects, whole(objects, flips), sampling())
    nose, left, right = objects.keypoints[0] if objects.keypoints is not None else ()
    def moved(point: np.ndarray) -> list[float]:
        x, y, visible = point.tolist()
        return [width - x if -1 in flips else x, height - y if -2 in flips else y, visible]
    assert target["keypoints"][0].tolist() == [moved(nose), *map(moved, (right, left) if swapped else (left, right))]
    masks = np.flip(target["masks"].numpy(), flips)
    np.testing.assert_array_equal(masks, target_of(objects, whole(objects), sampling())["masks"])


def test_quarter_turns_swap_nothing(data: Dataset) -> None:
    objects = objects_of(data, 0)
    target = target_of(objects, whole(objects, turns=1), sampling())
    points = objects.keypoints
    assert points is not None
    x, y, visible = np.moveaxis(points, -1, 0)
    shown = visible > 0
    np.testing.assert_array_equal(target["keypoints"].numpy()[shown], np.stack([y, 60 - x, visible], -1)[shown])


@pytest.mark.parametrize(("left", "expected"), [(3, (False, [0, 4, 11, 13])), (10, (False, [0, 4, 4, 13])),
                                                 (12, (True, [0, 4, 2, 13])), (14, None)])
def test_objects_at_the_edge_are_cut_ignored_or_gone(data: Dataset, left: int, expected: tuple[bool, list[int]] | None) -> None:
    """Object 1 has the columns 3..13; of 11 columns 11, 4, 2 and none are visible, and the least share is a quarter."""
    objects = objects_of(data, 0)
    size = (40, 60 - left)
    target = target_of(objects, Placement(objects.size, objects.size, (0, left), size, size), sampling())
    found = [(bool(c), b) for c, b in zip(target["crowd"], target["boxes"].int().tolist(), strict=True) if b[1] == 4]
    assert found == ([expected] if expected else [])
    nose = target["keypoints"][0, 0].tolist()
    assert nose == ([5.5 - left, 5.5, 2] if left <= 5 else [0, 0, 0] if expected else target["keypoints"][0, 0].tolist())


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(("left", "ignored"), [(40, False), (80, False), (83, True)])
def test_objects_larger_than_the_window_are_learnt_where_they_fill_it(left: int, ignored: bool, masks: bool) -> None:
    """The object has the columns up to 85 of 100, the window 10: it fills all, half and a fifth of it."""
    crop = (np.ones((90, 85), bool), (0, 0)) if masks else None
    objects = Objects((100, 100), np.array([[0.0, 0, 85, 90]]), np.array([1]), (crop,), np.array([False]), np.array([1]))
    placement = Placement((100, 100), (100, 100), (50, left), (10, 10), (10, 10))
    assert target_of(objects, placement, DetectionSampling(0, PLAIN, masks=masks))["crowd"].tolist() == [ignored]


def test_crowds_stay_ignored_whatever_is_visible(data: Dataset) -> None:
    objects = objects_of(data, 0)
    for top in (0, 31, 37):
        size = (40 - top, 60)
        target = target_of(objects, Placement(objects.size, objects.size, (top, 0), size, size), sampling())
        crowd = [box.tolist() for box, c in zip(target["boxes"], target["crowd"], strict=True) if c]
        assert [2, max(0, 30 - top), 12, 38 - top] in crowd


def test_without_masks_the_pixels_of_crowds_are_given(data: Dataset) -> None:
    for n in range(12):
        image, target = sample(data, sampling(window=(40, 40), masks=False), n)
        _, whole = sample(data, sampling(window=(40, 40)), n)
        assert "masks" not in target
        if whole["crowd"].any():
            assert torch.equal(target["crowd_masks"], whole["masks"][whole["crowd"]])
            assert target["crowd_masks"].shape[-2:] == image.shape[-2:]
        else:
            assert "crowd_masks" not in target


def test_some_samples_keep_their_size(data: Dataset) -> None:
    weights = data.facts.weights
    drawn = [[draw_detection(sampling(zoom=(0.5, 2.0), zoom_chance=chance), n, weights) for n in range(200)]
             for chance in (0.0, 0.5, 1.0)]
    kept = [sum(d.zoom == 1 for d in draws) for draws in drawn]
    assert kept[0] == 200
    assert 70 < kept[1] < 130
    assert kept[2] == 0
    assert [replace(d, zoom=1.0) for d in drawn[2]] == drawn[0]  # and nothing else changes


def test_what_becomes_too_small_is_ignored(data: Dataset) -> None:
    """At a hundredth of the size no pixel's centre lies in an object: no background either."""
    objects = objects_of(data, 2)
    target = target_of(objects, Placement(objects.size, (1, 1), (0, 0), (1, 1), (1, 1)), sampling())
    assert len(target["boxes"]) == 1
    if target["masks"].sum() == 0:
        assert target["crowd"].all()


@pytest.mark.parametrize(("masks", "left", "crowd"), [(True, 0, [True]), (False, 0, [False]), (False, 8, [True]), (False, 10, [])])
def test_boxes_alone(masks: bool, left: int, crowd: list[bool]) -> None:
    """They are learnt where masks are not; of the columns 2 to 10 two are visible at 8."""
    objects = Objects((20, 20), np.array([[2.0, 3, 10, 9]]), np.array([1]), (None,), np.array([False]), np.array([1]))
    size = (20, 20 - left)
    target = target_of(objects, Placement((20, 20), (20, 20), (0, left), size, size, (-1,)),
                       DetectionSampling(0, PLAIN, masks=masks, least_visible=0.3))
    assert target["crowd"].tolist() == crowd
    assert ("masks" in target) == masks
    assert "keypoints" not in target
    if not left:
        assert target["boxes"].tolist() == [[10, 3, 18, 9]]


def test_500_objects_in_a_window() -> None:
    rows, columns = (a.ravel() for a in np.mgrid[:20, :25] * 4)
    boxes = np.stack([columns, rows, columns + 3, rows + 3], 1).astype(float)
    objects = Objects((80, 100), boxes, np.ones(500, np.int64), tuple((np.ones((3, 3), bool), (int(r), int(c))) for r, c in
                      zip(rows, columns, strict=True)), np.zeros(500, bool), np.arange(500))
    target = target_of(objects, Placement((80, 100), (160, 200), (0, 0), (160, 200), (160, 200)), DetectionSampling(0, PLAIN))
    np.testing.assert_array_equal(target["boxes"], boxes * 2)
    assert (target["masks"].flatten(1).sum(1) == 36).all()
    assert target["masks"].sum(0).max() == 1


@given(st.integers(0, 2**40))
def test_focus_lays_the_window_on_an_object_of_each_class_alike(data: Dataset, n: int) -> None:
    wanted = DetectionSampling(0, VARIED, window=(9, 9), focus=1.0)
    draw = draw_detection(wanted, n, (1.0, 1.0, 1.0, 0.0))
    objects = objects_of(data, draw.image)
    placement = placement_of(draw, wanted, objects)
    (top, left), (height, width) = placement.start, placement.size
    x, y = (objects.boxes[:, 0] + objects.boxes[:, 2]) / 2, (objects.boxes[:, 1] + objects.boxes[:, 3]) / 2
    inside = (x >= left - 1) & (x <= left + width + 1) & (y >= top - 1) & (y <= top + height + 1) & ~objects.crowd
    assert inside.any(), "the middle of an object is in the window, up to rounding"


def test_sizes_are_drawn_as_told(data: Dataset) -> None:
    weights = data.facts.weights
    zooms = np.log2([draw_detection(sampling(zoom=(0.5, 2.0)), n, weights).zoom for n in range(2000)])
    np.testing.assert_allclose(np.histogram(zooms, 4, (-1, 1))[0], 500, atol=80)
    sides = [draw_detection(sampling(short_sides=(640, 800)), n, weights).short_side for n in range(400)]
    assert set(sides) == {640, 800}
    assert 150 < sides.count(640) < 250
    images = [draw_detection(sampling(), n, (1.0, 0.0, 3.0)).image for n in range(1200)]
    assert not images.count(1)
    assert 240 < images.count(0) < 360
    flips = [draw_detection(sampling(), n, weights).flips for n in range(400)]
    assert {f: 70 < flips.count(f) < 130 for f in ((), (-1,), (-2,), (-1, -2))} == dict.fromkeys(((), (-1,), (-2,), (-1, -2)), True)
    assert all(draw_detection(sampling(augmentation=PLAIN), n, weights).flips == () for n in range(20))


@pytest.mark.parametrize(("short", "long", "size"), [(80, None, (80, 120)), (80, 90, (60, 90)), (20, None, (20, 30))])
def test_short_sides(data: Dataset, short: int, long: int | None, size: tuple[int, int]) -> None:
    wanted = DetectionSampling(0, PLAIN, short_sides=(short,), long_side=long, weights=(1.0, 0.0, 0.0, 0.0))
    image, target = sample(data, wanted, 0)
    assert image.shape[-2:] == size
    scale = size[0] / 40
    np.testing.assert_allclose(target["boxes"][0], np.array([3, 4, 14, 13]) * scale, atol=0.51)


@pytest.mark.parametrize("wrong", [{"zoom": (0.0, 1.0)}, {"zoom": (2.0, 1.0)}, {"window": (0, 4)}, {"short_sides": (0,)},
                                   {"short_sides": (5,), "long_side": 0}])
def test_settings_that_mean_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        sampling(**wrong)


def test_grey_values_change_and_objects_do_not(data: Dataset) -> None:
    loud = AugmentationSettings(flip=(), rotate90=False, intensity=1.0, blur=1.0, noise=1.0)
    (image, target), (still, expected) = (sample(data, sampling(augmentation=a), 3) for a in (loud, PLAIN))
    assert image.shape == still.shape
    assert not torch.equal(image, still)
    np.testing.assert_array_equal(target["masks"], expected["masks"])
    assert torch.equal(sample(data, sampling(augmentation=loud), 3)[0], image)


@pytest.mark.data
def test_real_keypoints(data_root: Path, tmp_path: Path) -> None:
    """Keypoints of people lie in their boxes, or a little beside them, whatever is done to the image."""
    file = data_root / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(file.read_text())
    shown = {a["image_id"] for a in content["annotations"] if a["num_keypoints"] > 8}
    for entry in [e for e in content["images"] if e["id"] in shown][:6]:
        shutil.copy(data_root / "coco_mini" / "val2017" / entry["file_name"], tmp_path)
    found = open_dataset(tmp_path, DataSettings(), Normalization("none"), masks=file)
    names = keypoints_of(found)
    assert names is not None
    assert len(names.swaps) == 8
    wanted = DetectionSampling(3, VARIED, window=(300, 300), zoom=(0.5, 2.0), focus=1.0, keypoints=names)
    count = near = 0
    for n in range(25):
        _, target = sample(found, wanted, n)
        for box, points, ignored in zip(target["boxes"], target["keypoints"], target["crowd"], strict=True):
            seen = points[points[:, 2] > 0]
            margin = 0.05 * (box[2:] - box[:2]).max() + 2
            if not ignored and len(seen):
                count += len(seen)
                near += int(((seen[:, :2] >= box[:2] - margin) & (seen[:, :2] <= box[2:] + margin)).all(1).sum())
    assert count > 50
    assert near > 0.97 * count
