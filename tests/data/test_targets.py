"""Targets of each kind of task: against scipy, scikit-image and loops, and as the losses take them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from biomask.data.distances import separate
from biomask.data.targets import make_targets
from biomask.data.task import Task
from biomask.data.weight_map import plug_in_weight_map, weight_map
from biomask.errors import LabelsError
from biomask.labels import Legend
from biomask.recipe import InstanceSettings

SETTINGS = InstanceSettings()
OBJECTS = Task("instances", 3)

ids_of = hnp.arrays(np.int32, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))


def labelled(ids: np.ndarray) -> torch.Tensor:
    """(B, 2, *S): ids, and classes 1 and 2 in turn."""
    return torch.from_numpy(np.stack([ids, np.where(ids > 0, (ids - 1) % 2 + 1, 0)], axis=1))


def distances_by_scipy(patch: np.ndarray, spacing=None) -> np.ndarray:
    found = np.zeros(patch.shape)
    for i in np.unique(patch[patch > 0]):
        if (patch == i).all():
            return np.ones(patch.shape)
        own = ndimage.distance_transform_edt(patch == i, sampling=spacing)
        found[patch == i] = own[patch == i] / own.max()
    return found


def borders_by_hand(patch: np.ndarray, width: int) -> np.ndarray:
    found = np.zeros(patch.shape, bool)
    for place in np.ndindex(patch.shape):
        around = patch[tuple(slice(max(0, p - width), p + width + 1) for p in place)]
        found[place] = patch[place] > 0 and bool(((around != patch[place]) & (around > 0)).any())
    return found


class TestTask:
    LEGEND = Legend.of_values([0, 1, 2])

    @pytest.mark.parametrize(("kind", "target", "channels", "names"), [
        ("classes", "distance", 3, ("background", "class 1", "class 2")),
        ("soft", "distance", 3, ("background", "class 1", "class 2")),
        ("multilabel", "distance", 2, ("class 1", "class 2")),
        ("instances", "distance", 5, ("background", "class 1", "class 2", "distance", "border")),
        ("instances", "borders", 3, ("background", "class 1", "class 2"))])
    def test_channels_have_names_and_probabilities(self, kind, target, channels, names):
        task = Task.of(kind, self.LEGEND, target)
        assert task.channels == channels
        assert task.names(self.LEGEND) == names
        logits = torch.randn((channels, 4, 5), generator=torch.Generator().manual_seed(0))
        found = task.activate(logits.bfloat16())
        assert (found.shape, found.dtype) == (logits.shape, torch.float32)
        exclusive = found[: task.softmax]
        if len(exclusive):
            assert torch.allclose(exclusive.sum(dim=0), torch.ones(4, 5), atol=1e-5)
        assert torch.allclose(found[task.softmax:], logits.bfloat16().float()[task.softmax:].sigmoid())


class TestClasses:
    def test_ids_as_they_are(self):
        labels = torch.randint(0, 5, (2, 1, 6, 7), dtype=torch.uint8)
        ignore = torch.rand(2, 6, 7) < 0.5
        found = make_targets(labels, ignore, Task("classes", 5), SETTINGS)
        assert found.classes.dtype == torch.int64
        assert torch.equal(found.classes, labels[:, 0].long())
        assert found.ignore is ignore
        assert (found.structures, found.distance, found.border, found.weight) == (None,) * 4

    def test_structures_as_they_are(self):
        labels = torch.randint(0, 2, (2, 3, 6, 7), dtype=torch.uint8)
        found = make_targets(labels, None, Task("multilabel", 4), SETTINGS)
        assert found.structures.dtype == torch.float32
        assert torch.equal(found.structures, labels.float())
        assert found.classes is None


class TestObjects:
    @settings(max_examples=80, deadline=None)
    @given(ids_of, st.integers(1, 3))
    def test_distance_and_border(self, ids, width):
        found = make_targets(labelled(ids), None, OBJECTS, InstanceSettings(border_width=width))
        assert torch.equal(found.classes, labelled(ids)[:, 1].long())
        assert np.allclose(found.distance.numpy(), np.stack([distances_by_scipy(p) for p in ids]), atol=1e-6)
        assert np.array_equal(found.border.numpy(), np.stack([borders_by_hand(p, width) for p in ids]).astype(np.float32))
        assert found.distance.dtype == found.border.dtype == torch.float32
        assert found.weight is None

    @pytest.mark.parametrize("spacing", [None, (4.0, 1.0, 1.5)])
    def test_volumes_with_thick_slices(self, spacing):
        ids = np.random.default_rng(0).integers(0, 4, (1, 3, 4, 4)).repeat(2, 1).repeat(3, 2).repeat(3, 3).astype(np.int32)
        found = make_targets(labelled(ids), None, OBJECTS, SETTINGS, spacing)
        assert np.allclose(found.distance[0].numpy(), distances_by_scipy(ids[0], spacing), atol=1e-5)

    def test_numbers_of_ids_do_not_matter(self):
        ids = np.kron(np.arange(12).reshape(1, 3, 4), np.ones((1, 5, 5), int)).astype(np.int32)
        large = np.where(ids > 0, ids * 1_000_003 + 2**30, 0).astype(np.int32)
        both = (torch.from_numpy(np.stack([i, (ids > 0).astype(np.int32)], 1)) for i in (ids, large))
        one, two = (make_targets(labels, None, Task("instances", 2), SETTINGS) for labels in both)
        for name in ("classes", "distance", "border"):
            assert torch.equal(getattr(one, name), getattr(two, name))

    def test_a_patch_without_objects(self):
        found = make_targets(torch.zeros(2, 2, 8, 8, dtype=torch.int32), None, OBJECTS, SETTINGS)
        assert not found.classes.any()
        assert not found.distance.any()
        assert not found.border.any()

    def test_ids_below_0_are_a_mistake(self):
        with pytest.raises(LabelsError, match="id -1"):
            make_targets(torch.full((1, 2, 4, 4), -1, dtype=torch.int32), None, OBJECTS, SETTINGS)


class TestThePapers:
    TASK = Task("instances", 3, "borders")

    @settings(max_examples=80, deadline=None)
    @given(ids_of)
    def test_touching_objects_have_background_between_them(self, ids):
        found = make_targets(labelled(ids), None, self.TASK, SETTINGS)
        assert (found.distance, found.border) == (None, None)
        for patch, classes in zip(ids, found.classes.numpy(), strict=True):
            kept = np.where(classes > 0, patch, 0)
            assert np.array_equal(classes, np.where(kept > 0, (kept - 1) % 2 + 1, 0))  # nothing changes its class
            assert not borders_by_hand(kept, 1).any()  # none touches another any more
            assert np.array_equal(kept[~borders_by_hand(patch, 1)], patch[~borders_by_hand(patch, 1)])  # only borders went

    def test_the_weight_map_is_that_of_the_objects(self):
        ids = np.zeros((1, 30, 30), np.int32)
        ids[0, 5:25, 3:14], ids[0, 5:25, 16:27] = 7, 900
        found = make_targets(labelled(ids), None, self.TASK, InstanceSettings(w0=6.0, sigma=3.0))
        y, x = 15, 14  # background: 1 px from one object, 2 from the other
        assert found.weight[0, y, x] == pytest.approx(1 + 6 * np.exp(-9 / 18), rel=1e-5)
        assert torch.equal(found.weight, weight_map(torch.from_numpy(ids), w0=6.0, sigma=3.0))
        assert found.weight[0, 0, 29] < found.weight[0, y, x]

    def test_the_line_between_objects_that_touch_weighs_most(self):
        ids = np.zeros((1, 12, 20), np.int32)
        ids[0, 2:10, 2:10], ids[0, 2:10, 10:18] = 1, 2
        found = make_targets(labelled(ids), None, self.TASK, SETTINGS)
        assert not found.classes[0, 4:8, 9:11].any()
        assert found.classes[0, 4:8, [8, 11]].all()
        assert found.weight[0, 4:8, 9:11].numpy() == pytest.approx(1 + 10 * np.exp(-9 / 50))  # 1 px from one, 2 from the other
        assert float(found.weight.max()) == pytest.approx(1 + 10 * np.exp(-4 / 50))  # at its upper end it is 1 px wide

    def test_class_weights_are_added_to_the_border_term(self):
        ids = np.zeros((1, 12, 20), np.int32)
        ids[0, 2:10, 2:10], ids[0, 2:10, 10:18] = 1, 2
        plain, balanced = (make_targets(labelled(ids), None, self.TASK, SETTINGS, None, weights)
                           for weights in (None, (0.5, 2.0, 7.0)))
        more = torch.tensor([0.5, 2.0, 7.0])[balanced.classes]
        assert torch.allclose(balanced.weight, plain.weight - 1 + more)

    def test_the_plug_ins_weights(self):
        ids = torch.from_numpy(np.kron(np.arange(12).reshape(1, 3, 4), np.ones((1, 6, 6), int)).astype(np.int32))
        labels = labelled(ids.numpy())
        ignore = torch.zeros(ids.shape, dtype=torch.bool)
        ignore[0, :4] = True
        found = make_targets(labels, ignore, self.TASK, InstanceSettings(weights="plug-in"))
        background = separate(ids) == 0
        assert torch.equal(found.classes == 0, background)
        assert torch.equal(found.weight, plug_in_weight_map(ids, classes=labels[:, 1], background=background, ignore=ignore))
        assert (found.weight[ignore] == 0).all()
        assert (found.weight[background & ~ignore] != 1).all(), "also between objects of different classes"
