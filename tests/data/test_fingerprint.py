"""Figures of a data set against counts by hand, scikit-image and brute force."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import disk
from skimage.measure import label, regionprops

from biomask.data.fingerprint import MOST_IMAGES, MOST_PIXELS, sample_of, take_fingerprint
from biomask.data.pieces import components_of, pieces_of
from biomask.errors import LabelsError
from biomask.image import Image
from biomask.labels import LabelKind, Labels, Legend

NAMES = {0: "background", 1: "cup", 2: "disc"}


class Made:
    """A data set of arrays."""

    def __init__(self, labels: list[Labels], images: list[Any] | None = None, spacing: dict[str, float] | None = None) -> None:
        self.all = labels
        self.images = images or [np.zeros((1, *found.size), np.uint8) for found in labels]
        self.facts = SimpleNamespace(sizes=tuple(found.size for found in labels), channels=len(self.images[0]) if labels else 1,
                                     axes="czyx"[-len(labels[0].size) - 1:] if labels else "cyx", spacing=spacing)

    def __len__(self) -> int:
        return len(self.all)

    def image(self, i: int) -> Image:
        return Image(self.images[i], "cyx" if self.images[i].ndim == 3 else "czyx", str(i))

    def labels(self, i: int) -> Labels:
        return self.all[i]


def labels_of(array: Any, kind: LabelKind = "instances", values: tuple[int, ...] = (0, 1), **more: Any) -> Labels:
    return Labels(np.asarray(array), kind, "made", Legend.of_values(values, NAMES), **more)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_agree_with_scikit_image_and_brute_force(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5))
    ids = data.draw(arrays(np.int32, shape, elements=st.sampled_from([-3, 0, 1, 2, 900])))
    found = pieces_of(ids)
    values = sorted(set(ids.reshape(-1).tolist()) - {0})
    assert found.areas.tolist() == [int((ids == v).sum()) for v in values]
    for value, extent in zip(values, found.extents.tolist(), strict=True):
        (region,) = regionprops((ids == value).astype(int))
        assert extent == [b - a for a, b in zip(region.bbox[: ids.ndim], region.bbox[ids.ndim :], strict=True)]
    touching = set()
    for place in product(*(range(n) for n in shape)):
        for axis in range(ids.ndim):
            beside = tuple(p + (a == axis) for a, p in enumerate(place))
            if beside[axis] < shape[axis] and 0 not in (ids[place], ids[beside]) and ids[place] != ids[beside]:
                touching |= {int(ids[place]), int(ids[beside])}
    assert found.touching.tolist() == [v in touching for v in values]


def test_components_are_those_of_scikit_image_without_specks() -> None:
    mask = np.random.default_rng(0).random((60, 60)) < 0.55
    areas = np.bincount(label(mask, connectivity=1).reshape(-1))[1:]
    assert (areas >= 16).any()
    assert (areas < 16).any()
    assert sorted(components_of(mask).areas.tolist()) == sorted(a for a in areas.tolist() if a >= 16)
    dots = np.zeros((20, 20), bool)
    dots[2:4, 2:4] = dots[10, 10] = True
    assert sorted(components_of(dots).areas.tolist()) == [1, 4]


def test_discs_have_their_diameter_and_length() -> None:
    ids = np.zeros((200, 200), np.int32)
    for number, (y, x) in enumerate(product((40, 100, 160), repeat=2), start=1):
        ids[disk((y, x), 15.5)] = number
    objects = take_fingerprint(Made([labels_of(ids)])).objects
    assert objects.count == 9
    assert objects.per_image == (9, 9, 9)
    assert np.allclose(objects.diameter, 31, atol=0.5)
    assert objects.extent == objects.extent_95 == (31, 31)
    assert objects.largest == 31
    assert objects.area_1 == (ids == 1).sum()
    assert objects.touching == 0


def test_balls_have_their_diameter() -> None:
    z, y, x = np.mgrid[:41, :41, :41] - 20
    ids = (z**2 + y**2 + x**2 <= 10.5**2).astype(np.int32)
    assert np.allclose(take_fingerprint(Made([labels_of(ids)])).objects.diameter, 21, atol=0.3)


def test_share_that_touches() -> None:
    ids = np.zeros((20, 30), np.int32)
    ids[5:10, 2:8], ids[5:10, 8:14], ids[5:10, 20:25] = 4, 9, 7
    assert take_fingerprint(Made([labels_of(ids)])).objects.touching == pytest.approx(2 / 3)


def test_shares_count_known_pixels_only() -> None:
    array = np.zeros((10, 10), np.uint8)
    array[:2], array[2:3] = 1, 2
    ignore = np.zeros((10, 10), bool)
    ignore[:1] = ignore[9:] = True
    first = labels_of(array, "classes", (0, 1, 2), ignore=ignore)
    second = labels_of(np.zeros((10, 10), np.uint8), "classes", (0, 1, 2))
    found = take_fingerprint(Made([first, second]))
    assert found.class_names == ("background", "cup", "disc")
    assert found.shares == pytest.approx((160 / 180, 10 / 180, 10 / 180))
    assert found.presence == (1.0, 0.5, 0.5)
    assert found.rarest == ("cup", pytest.approx(10 / 180))
    assert found.objects.per_image == (0, 1, 2)


def test_structures_may_overlap() -> None:
    array = np.zeros((2, 8, 8), bool)
    array[0, 2:4, 2:4] = array[1, 1:5, 1:5] = True
    found = take_fingerprint(Made([labels_of(array, "multilabel", (0, 1, 2))]))
    assert found.shares == (48 / 64, 4 / 64, 16 / 64)
    assert found.rarest == ("cup", 4 / 64)


def test_objects_with_classes_count_for_their_class() -> None:
    ids = np.zeros((10, 10), np.int32)
    ids[:2, :5], ids[4:6, :5], ids[8:, :] = 1, 2, 3
    found = take_fingerprint(Made([labels_of(ids, values=(0, 1, 2), classes={1: 1, 2: 1, 3: 2})]))
    assert found.shares == (0.6, 0.2, 0.2)
    plain = take_fingerprint(Made([labels_of(ids, values=(0, 1))]))
    assert plain.shares == (0.6, 0.4)


def test_images_without_objects_give_no_sizes() -> None:
    found = take_fingerprint(Made([labels_of(np.zeros((30, 30), np.int32))]))
    assert found.objects.count == 0
    assert found.objects.extent_95 == (0, 0)
    assert found.rarest is None
    with pytest.raises(LabelsError, match="no labelled images"):
        take_fingerprint(Made([]))


def test_dark_images_with_few_bright_pixels() -> None:
    rng = np.random.default_rng(0)
    empty = labels_of(np.zeros((64, 64), np.int32))
    fluorescent = rng.normal(100, 5, (1, 64, 64))
    fluorescent[:, 20:30, 20:30] += 2000
    stained, constant = 255 - rng.random((3, 64, 64)) * 20, np.full((1, 64, 64), 7)
    spread, broken = rng.random((1, 64, 64)), np.full((1, 64, 64), np.nan)
    for image, dark in ((fluorescent, 1.0), (stained, 0.0), (spread, 0.0), (constant, 0.0), (broken, 0.0)):
        assert take_fingerprint(Made([empty], [image])).dark == dark
    assert take_fingerprint(Made([empty] * 4, [fluorescent, fluorescent, spread, constant])).dark == pytest.approx(2 / 3)


def volume(depth: int, side: int, height: int, width: int) -> Labels:
    """Boxes in a volume, apart from each other."""
    ids = np.zeros((depth, side, side), np.int32)
    for number, (y, x) in enumerate(product(range(1, side - width, width + 2), repeat=2), start=1):
        ids[2 : 2 + height, y : y + width, x : x + width] = number
    return labels_of(ids)


def test_anisotropy_and_what_it_is_known_from() -> None:
    spaced = take_fingerprint(Made([volume(20, 40, 4, 8)], spacing={"z": 2.0, "y": 0.5, "x": 0.5}))
    assert (spaced.spacing, spaced.anisotropy, spaced.anisotropy_source) == ((2.0, 0.5, 0.5), (4.0, 1.0, 1.0), "spacing")
    flat = take_fingerprint(Made([volume(20, 40, 4, 8)]))
    assert (flat.anisotropy, flat.anisotropy_source) == ((2.0, 1.0, 1.0), "objects")
    cut = take_fingerprint(Made([volume(6, 60, 4, 8)]))  # objects as high as the volume tell nothing
    assert (cut.anisotropy, cut.anisotropy_source) == ((3.0, 1.0, 1.0), "sizes")
    few = take_fingerprint(Made([volume(20, 20, 4, 8)]))
    assert (few.anisotropy, few.anisotropy_source) == ((1.0, 1.0, 1.0), "nothing")


@given(st.integers(1, 400), st.integers(1, 9000))
def test_the_sample_is_spread_evenly(count: int, side: int) -> None:
    chosen = sample_of([(side, side)] * count)
    assert chosen == sorted(set(chosen))
    assert 1 <= len(chosen) <= MOST_IMAGES
    assert chosen[0] >= 0
    assert chosen[-1] < count
    assert len(chosen) == 1 or len(chosen) * side * side <= MOST_PIXELS
    gaps = np.diff([-1 - chosen[0], *chosen, 2 * count - 1 - chosen[-1] + 1])
    assert gaps.max() <= 2 * gaps.min() + 2


def test_the_same_data_give_the_same_figures() -> None:
    rng = np.random.default_rng(1)
    made = Made([labels_of(rng.integers(0, 6, (40 + i, 50)).astype(np.int32)) for i in range(70)])
    first = take_fingerprint(made)
    assert first == take_fingerprint(made)
    assert (first.images, first.looked_at) == (70, 50)
    assert (first.smallest, first.largest) == ((40, 50), (109, 50))


@pytest.mark.data
def test_real_volumes(data_root: Path) -> None:
    truths = [tifffile.imread(f).astype(np.int32) for f in sorted((data_root / "mouse_embryo3d/train/labels").iterdir())]
    found = take_fingerprint(Made([labels_of(t) for t in truths]))
    assert found.objects.count == sum(len(np.unique(t)) - 1 for t in truths)
    assert found.shares[1] == pytest.approx(sum((t > 0).sum() for t in truths) / sum(t.size for t in truths))
    assert found.objects.largest == max(np.ptp(np.nonzero(t == v)[axis]) + 1 for t in truths for v in np.unique(t) if v
                                        for axis in range(3))
