"""Mirrored and turned copies, and their mean."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.data.task import Task
from biomask.models import UNet
from biomask.prediction import predict_array
from biomask.prediction.maps import ROTATIONS, Symmetry, decide, predict_maps, symmetries
from biomask.recipe import PredictionSettings

CLASSES, OBJECTS, STRUCTURES = Task("classes", 3), Task("instances", 2), Task("multilabel", 4)


def network_for(task: Task, dims: int = 2) -> torch.nn.Module:
    torch.manual_seed(1)
    network = UNet(1, task.channels, spatial_dims=dims, width=2, depth=1, norm="batch")
    for module in network.modules():  # statistics as after a training
        if hasattr(module, "running_mean"):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def picture(*size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)


class TestSymmetries:
    @pytest.mark.parametrize(("mode", "dims", "flip", "turn", "count"), [
        ("none", 2, "zyx", True, 1), ("none", 3, "zyx", True, 1), ("mirrors", 2, "zyx", True, 4), ("mirrors", 3, "zyx", True, 8),
        ("symmetries", 2, "zyx", True, 8), ("symmetries", 3, "zyx", True, 16), ("symmetries", 2, "zyx", False, 4),
        ("symmetries", 2, "y", True, 2), ("symmetries", 2, "x", True, 2), ("symmetries", 2, "z", True, 1),
        ("symmetries", 3, "yx", True, 8), ("mirrors", 3, "z", True, 2), ("symmetries", 2, "", True, 1)])
    def test_as_many_as_there_are_and_all_distinct(self, mode, dims, flip, turn, count):
        array = np.arange(3**dims).reshape(1, *[3] * dims)
        copies = symmetries(mode, dims, tuple(flip), turn=turn)
        assert len(copies) == count
        assert len({copy.apply(array).tobytes() for copy in copies}) == count
        assert copies[0] == Symmetry((), False)

    def test_the_eight_are_those_of_the_square(self):
        array = np.arange(9).reshape(1, 3, 3)
        of_numpy = {np.rot90(a, k, (1, 2)).tobytes() for a in (array, array[:, ::-1]) for k in range(4)}
        assert {c.apply(array).tobytes() for c in symmetries("symmetries", 2)} == of_numpy

    def test_rotations_are_what_their_names_say(self):
        array = np.arange(12).reshape(1, 3, 4)
        for name, copy in ROTATIONS.items():
            given = np.flip(array, -1) if name.startswith("mirror") else array
            turns = int(name.removeprefix("mirror ")) // 90
            expected = torch.rot90(torch.from_numpy(given.copy()), turns, (-2, -1)).numpy()  # the turn y → x of `flip_rotate`
            assert np.array_equal(copy.apply(array), expected), name
        assert set(ROTATIONS.values()) == set(symmetries("symmetries", 2))

    def test_the_seven_of_the_paper_are_those_that_the_recipe_lists(self):
        seven = PredictionSettings().rotations
        copies = symmetries("rotations", 2, rotations=seven)
        array = np.arange(9).reshape(1, 3, 3)
        assert len({c.apply(array).tobytes() for c in copies}) == len(copies) == 7
        assert copies[0] == Symmetry((), False)
        assert symmetries("rotations", 2, rotations=("180", "mirror 270")) == [ROTATIONS["180"], ROTATIONS["mirror 270"]]

    def test_rotations_that_data_forbid_are_left_out(self):
        seven = PredictionSettings().rotations
        assert symmetries("rotations", 2, ("x",), rotations=seven) == [ROTATIONS["0"], ROTATIONS["mirror 0"]]
        assert symmetries("rotations", 2, turn=False, rotations=seven) == [ROTATIONS[n] for n in ("0", "180", "mirror 0",
                                                                                                 "mirror 180")]
        assert symmetries("rotations", 2, ("y", "x"), turn=False, rotations=("90",)) == [ROTATIONS["0"]]
        assert len(symmetries("rotations", 3, ("z", "y", "x"), rotations=seven)) == 7

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([2, 3]), st.sampled_from(["none", "mirrors", "symmetries", "rotations"]),
           st.sets(st.sampled_from("zyx")), st.booleans(), st.data())
    def test_undone_it_is_as_before_and_axes_that_carry_meaning_keep_their_sense(self, dims, mode, flip, turn, data):
        size = tuple(data.draw(st.integers(1, 5)) for _ in range(dims))
        array = np.random.default_rng(0).random((2, *size))
        for copy in symmetries(mode, dims, tuple(flip), turn=turn, rotations=tuple(ROTATIONS)):
            assert np.array_equal(copy.undo(copy.apply(array)), array)
            along = {axis: np.broadcast_to(np.arange(5).reshape([5 if i == n else 1 for i in range(dims)]), (1, *[5] * dims))
                     for n, axis in enumerate("zyx"[-dims:]) if axis not in flip}
            assert all(np.array_equal(copy.apply(a), a) for a in along.values())


class TestMaps:
    @pytest.mark.parametrize("task", [CLASSES, OBJECTS, STRUCTURES], ids=lambda t: t.kind)
    def test_one_copy_is_the_activated_output(self, task):
        network, image = network_for(task), picture(21, 34)
        found = predict_maps(network, image, task, (64, 64))
        logits = torch.from_numpy(predict_array(network, image))
        assert (found.shape, found.dtype) == ((task.channels, 21, 34), np.float32)
        assert np.allclose(found, task.activate(logits).numpy(), atol=1e-6)

    @pytest.mark.parametrize("mode", ["none", "mirrors", "symmetries"])
    @pytest.mark.parametrize(("dims", "size", "tile"), [(2, (40, 25), (16, 8)), (2, (9, 70), (8, 24)), (3, (6, 20, 14), (4, 8, 8))])
    def test_tiled_equals_untiled(self, mode, dims, size, tile):
        network, image, copies = network_for(OBJECTS, dims), picture(*size), symmetries(mode, dims)
        whole = predict_maps(network, image, OBJECTS, size, copies=copies)
        assert np.abs(whole - predict_maps(network, image, OBJECTS, tile, copies=copies)).max() < 1e-5

    @pytest.mark.parametrize("task", [CLASSES, OBJECTS, STRUCTURES], ids=lambda t: t.kind)
    def test_many_copies_are_their_mean(self, task):
        network, image = network_for(task), picture(20, 28)
        copies = symmetries("symmetries", 2)
        each = [c.undo(predict_maps(network, np.ascontiguousarray(c.apply(image)), task, (64, 64))) for c in copies]
        found = predict_maps(network, image, task, (64, 64), copies=copies)
        assert np.allclose(found, np.mean(each, axis=0), atol=1e-6)
        assert max(np.abs(a - b).max() for a, b in pairwise(each)) > 1e-3  # the copies do differ

    def test_turning_the_image_turns_the_mean(self):
        network, image, copies = network_for(OBJECTS), picture(24, 24), symmetries("symmetries", 2)
        found = predict_maps(network, image, OBJECTS, (64, 64), copies=copies)
        turned = predict_maps(network, np.rot90(image, 1, (1, 2)), OBJECTS, (64, 64), copies=copies)
        assert np.allclose(np.rot90(found, 1, (1, 2)), turned, atol=1e-5)

    def test_statistics_are_applied_to_each_copy(self):
        network, image = network_for(CLASSES), picture(12, 16)
        statistics = np.array([0.3], np.float32), np.array([2.0], np.float32)
        for mode in ("none", "symmetries"):
            copies = symmetries(mode, 2)
            one = predict_maps(network, image, CLASSES, (64, 64), copies=copies, statistics=statistics)
            assert np.allclose(one, predict_maps(network, (image - 0.3) / 2, CLASSES, (64, 64), copies=copies), atol=1e-5)

    def test_progress_counts_copies(self):
        seen = []
        predict_maps(network_for(CLASSES), picture(8, 8), CLASSES, (8, 8), copies=symmetries("mirrors", 2),
                     done=lambda n, of: seen.append((n, of)))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


class TestDecide:
    def test_classes_and_objects_by_the_largest_structures_by_a_half(self):
        maps = np.zeros((4, 1, 3), np.float32)
        maps[:, 0, 0], maps[:, 0, 1], maps[:, 0, 2] = (0.5, 0.3, 0.2, 0.9), (0.2, 0.3, 0.5, 0.0), (0.1, 0.8, 0.1, 1.0)
        assert decide(maps[:3], CLASSES).tolist() == [[0, 2, 1]]
        assert decide(maps, OBJECTS).tolist() == [[0, 1, 1]]  # distance and border are no classes
        assert decide(maps[:3], STRUCTURES).tolist() == [[[1, 0, 0]], [[0, 0, 1]], [[0, 1, 0]]]
        assert decide(np.full((3, 1, 1), 0.5, np.float32), STRUCTURES).tolist() == [[[1]], [[1]], [[1]]]
