"""Distances of surfaces and calibration of a data set: from files with sizes of pixels, and from probabilities beside the masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.errors import ManyErrors, UsageError
from biomask.evaluation.evaluate import EvaluateOptions, evaluate
from biomask.io.files import read_image, write_mask, write_probabilities
from biomask.labels import Legend
from biomask.metrics import class_reliability, structure_reliability, surface_distances
from biomask.recipe import DataSettings

LEGEND = Legend.of_values([0, 1, 2])


def mask(i: int, shift: int = 0) -> np.ndarray:
    """Class 1 in every image, class 2 in the first."""
    found = np.zeros((24, 30), np.uint8)
    found[4:14, 3 + shift : 15 + shift + i] = 1
    if i == 0:
        found[16:20, 20:26] = 2
    return found


def folder(place: Path, masks, spacing=None, legend: Legend = LEGEND) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(masks):
        size = spacing[i] if isinstance(spacing, list) else spacing
        write_mask(place / f"{i}.tif", array, legend, size)
    return place


class TestSurfaces:
    def scored(self, tmp_path, found, true, spacing=None, **more):
        return evaluate(folder(tmp_path / "p", found, spacing), folder(tmp_path / "t", true), **more)

    def test_each_image_has_the_distances_of_its_arrays(self, tmp_path):
        size = {"y": 0.5, "x": 0.25}
        got = self.scored(tmp_path, [mask(i, 2) for i in range(3)], [mask(i) for i in range(3)], size)
        assert (got["boundary"]["unit"], got["boundary"]["tolerance"], got["boundary"]["undefined"]) == ("µm", 0.5, 0)
        for i, row in enumerate(got["per_image"]):
            want = surface_distances(mask(i) == 1, mask(i, 2) == 1, (0.5, 0.25))
            scores = row["classes"]["1"]
            assert (scores["hd95"], scores["assd"], scores["nsd"]) == (want.hausdorff(), want.average, want.within(0.5))
        assert got["per_image"][0]["hd95"] == pytest.approx(got["per_image"][0]["classes"]["1"]["hd95"] / 2)  # class 2 is exact
        assert got["mean"]["hd95"] == pytest.approx((got["per_class"]["1"]["hd95"] + 0) / 2)
        assert got["per_class"]["0"]["hd95"] is None
        assert got["intervals"]["nsd"]["kind"] == "range"

    def test_pixels_where_a_file_does_not_know_their_size(self, tmp_path):
        sizes = [{"y": 0.5, "x": 0.25}, None, {"y": 0.5, "x": 0.25}]
        got = self.scored(tmp_path, [mask(i, 2) for i in range(3)], [mask(i) for i in range(3)], sizes)
        assert (got["boundary"]["unit"], got["boundary"]["tolerance"]) == ("px", 2)
        assert got["per_image"][1]["hd95"] == surface_distances(mask(1) == 1, mask(1, 2) == 1).hausdorff()
        assert "in px" in got["boundary"]["says"]
        assert got["boundary"]["says"] in got["footnotes"]

    def test_the_finest_pixel_decides_the_tolerance_unless_it_is_given(self, tmp_path):
        sizes = [{"y": 0.5, "x": 0.25}, {"y": 0.1, "x": 0.1}]
        arguments = [mask(0, 2), mask(1, 2)], [mask(0), mask(1)], sizes
        assert self.scored(tmp_path, *arguments)["boundary"]["tolerance"] == pytest.approx(0.2)
        got = self.scored(tmp_path, *arguments, options=EvaluateOptions(tolerance=0.6))
        assert got["boundary"]["tolerance"] == 0.6
        assert got["per_class"]["1"]["nsd"] == 1
        with pytest.raises(UsageError, match="above 0"):
            EvaluateOptions(tolerance=-1)

    def test_a_class_on_one_side_is_counted_and_on_neither_is_not(self, tmp_path):
        found = [np.where(mask(0) == 2, 0, mask(0)).astype(np.uint8), mask(1), mask(1) * 0]
        got = self.scored(tmp_path, found, [mask(0), mask(1), mask(1) * 0])
        assert got["boundary"]["undefined"] == 1
        assert got["per_image"][0]["classes"]["2"] | {"specificity": None} == {
            "dice": 0, "iou": 0, "precision": None, "recall": 0, "specificity": None, "hd95": None, "assd": None, "nsd": 0}
        assert got["per_image"][2]["nsd"] is None
        assert (got["mean"]["hd95"], got["per_class"]["2"]["nsd"], got["mean"]["nsd"]) == (0, 0, 0.5)
        assert "(1 such)" in got["boundary"]["says"]

    def test_unknown_pixels_have_no_surface(self, tmp_path):
        true = mask(1)
        true[:, 10:] = 255
        found = mask(1)
        found[:, 12:] = 0
        (tmp_path / "t").mkdir()
        tifffile.imwrite(tmp_path / "t" / "0.tif", true)
        got = evaluate(folder(tmp_path / "p", [found]), tmp_path / "t", settings=DataSettings(ignore=255))
        assert (got["mean"]["hd95"], got["mean"]["nsd"]) == (0, 1)

    def test_volumes_are_measured_in_space(self, tmp_path):
        true, found = np.zeros((6, 12, 12), np.uint8), np.zeros((6, 12, 12), np.uint8)
        true[1:3, 2:8, 2:8] = found[2:4, 2:8, 2:8] = 1
        got = self.scored(tmp_path, [found], [true], {"z": 3.0, "y": 1.0, "x": 1.0})
        assert (got["mean"]["hd95"], got["boundary"]["unit"]) == (3, "µm")

    def test_the_image_may_know_what_the_masks_do_not(self, tmp_path):
        for name, array in (("images", mask(0) * 9 + np.arange(30, dtype=np.uint8)), ("masks", mask(0))):
            (tmp_path / "data" / name).mkdir(parents=True)
            size = {"resolution": (1e4 / 0.5, 1e4 / 0.5), "resolutionunit": "CENTIMETER"} if name == "images" else {}
            tifffile.imwrite(tmp_path / "data" / name / "0.tif", array, **size)
        got = evaluate(folder(tmp_path / "p", [mask(0, 2)]), tmp_path / "data")
        assert got["boundary"]["unit"] == "µm"
        assert got["per_class"]["1"]["hd95"] == pytest.approx(1.0)


def maps(i: int, classes: int = 3) -> np.ndarray:
    """Probabilities that are often right."""
    rng = np.random.default_rng(i)
    found = rng.dirichlet(np.ones(classes), (24, 30)).transpose(2, 0, 1) + 2 * (np.arange(classes)[:, None, None] == mask(i))
    return (found / found.sum(axis=0)).astype(np.float32)


def write_maps(out: Path, arrays, names, values, kind="classes", legend: Legend = LEGEND) -> None:
    for i, array in enumerate(arrays):
        (out / "probabilities").mkdir(parents=True, exist_ok=True)
        write_probabilities(out / "probabilities" / f"{i}.tif", array, "cyx", None, tuple(names))
    (out / "run.json").write_text(json.dumps({
        "command": "predict", "kind": kind, "legend": legend.to_json(),
        "probability_channels": [{"value": v, "name": n} for v, n in zip(values, names, strict=True)]}))


class TestCalibration:
    NAMES = tuple(e.name for e in LEGEND)

    def test_classes(self, tmp_path):
        out, true = tmp_path / "out", folder(tmp_path / "t", [mask(i) for i in range(3)])
        folder(out / "masks", [m.argmax(axis=0).astype(np.uint8) for m in map(maps, range(3))])
        assert evaluate(out, true)["calibration"] is None
        write_maps(out, map(maps, range(3)), self.NAMES, (0, 1, 2))
        got = evaluate(out, true)["calibration"]
        want = sum((class_reliability(maps(i), mask(i)) for i in (1, 2)), class_reliability(maps(0), mask(0)))
        assert (got["bce"], got["brier"], got["ece"]) == pytest.approx((want.bce, want.brier, want.ece))
        assert (got["pixels"], got["images"], len(got["bins"])) == (3 * 24 * 30, 3, 10)
        assert sum(b["pixels"] for b in got["bins"]) == got["pixels"]
        for b in got["bins"]:
            assert (b["confidence"] is None) == (b["pixels"] == 0)
            assert b["confidence"] is None or b["low"] <= b["confidence"] <= b["high"]
        for place in (out / "masks", out):  # the folder of masks has them beside it
            assert evaluate(place, true)["calibration"] == got

    def test_channels_in_another_order_and_of_classes_that_the_truth_lacks(self, tmp_path):
        """Channel 0 is class 2, and one is of no class in the truth."""
        out, true = tmp_path / "out", folder(tmp_path / "t", [mask(0)])
        folder(out / "masks", [mask(0)])
        order = np.concatenate([maps(0)[[2, 0, 1]] * 0.5, np.full((1, 24, 30), 0.5, np.float32)])
        write_maps(out, [order], ("class 2", "background", "class 1", "dust"), (2, 0, 1, 7))
        got = evaluate(out, true)["calibration"]
        want = class_reliability(np.concatenate([maps(0) * 0.5, np.full((1, 24, 30), 0.5)]), mask(0))
        assert (got["bce"], got["brier"], got["ece"]) == pytest.approx((want.bce, want.brier, want.ece))

    def test_unknown_pixels_and_images_without_maps(self, tmp_path):
        out, true = tmp_path / "out", mask(0)
        true[:10] = 9
        folder(out / "masks", [mask(0), mask(1)])
        write_maps(out, [maps(0)], self.NAMES, (0, 1, 2))
        got = evaluate(out, folder(tmp_path / "t", [true, mask(1)]), settings=DataSettings(ignore=9))["calibration"]
        want = class_reliability(maps(0), mask(0), true == 9)
        assert (got["bce"], got["pixels"], got["images"]) == (pytest.approx(want.bce), 14 * 30, 1)
        assert "1 image of 2" in got["says"]

    def test_structures_by_name(self, tmp_path):
        """Probabilities of disc first, while the truth has cup first."""
        masks = {"cup": mask(1) > 0, "disc": mask(2) > 0}
        p = np.random.default_rng(0).uniform(0, 1, (2, 24, 30)).astype(np.float32)
        for side in ("out/masks", "t"):
            for name, array in masks.items():
                folder(tmp_path / side / name, [array.astype(np.uint8)])
        legend = Legend.of_values([0, 1, 2], {1: "disc", 2: "cup"})
        write_maps(tmp_path / "out", [p], ("disc", "cup"), (1, 2), "multilabel", legend)
        got = evaluate(tmp_path / "out", tmp_path / "t")["calibration"]
        want = structure_reliability(p[1], masks["cup"]) + structure_reliability(p[0], masks["disc"])
        assert (got["bce"], got["ece"], got["pixels"]) == (pytest.approx(want.bce), pytest.approx(want.ece), 2 * 24 * 30)

    def test_objects_by_their_foreground(self, tmp_path):
        """A distance and a border follow the two classes, and are no part of it."""
        ids = np.where(mask(0) == 2, 5, mask(0)).astype(np.uint8)
        out, legend = tmp_path / "out", Legend.of_values([0, 1], {1: "cell"})
        for name in ("masks", "labels"):
            folder(out / name, [ids if name == "labels" else (ids > 0).astype(np.uint8)], legend=legend)
        p = np.concatenate([maps(0, 2), np.full((2, 24, 30), 0.3, np.float32)])
        write_maps(out, [p], ("background", "cell", "distance", "border"), (0, 1, None, None), "instances", legend)
        got = evaluate(out, folder(tmp_path / "t", [ids]))
        want = structure_reliability(1 - p[0], ids > 0)
        assert got["kind"] == "instances"
        assert (got["calibration"]["bce"], got["calibration"]["ece"]) == pytest.approx((want.bce, want.ece))

    def test_maps_that_do_not_fit_are_all_listed(self, tmp_path):
        out, true = tmp_path / "out", folder(tmp_path / "t", [mask(i) for i in range(3)])
        folder(out / "masks", [mask(i) for i in range(3)])
        (out / "probabilities").mkdir()
        for i, array in enumerate((maps(0)[:2], maps(1)[:, 1:], maps(2) * 99)):
            write_probabilities(out / "probabilities" / f"{i}.tif", array, "cyx", None, self.NAMES[: len(array)])
        with pytest.raises(ManyErrors, match="3 of 3") as caught:
            evaluate(out, true)
        for said in ("has 2 channels of probabilities", "has size (23, 30)", "which are no probabilities"):
            assert said in str(caught.value)

    def test_what_predict_wrote(self, tmp_path, tiny_model, tiny_data):
        api.predict(tiny_model, tiny_data / "images", tmp_path / "out", api.PredictOptions(device="cpu", probabilities=True))
        got = api.evaluate(tmp_path / "out", tiny_data).scores["calibration"]
        found = [read_image(p).array for p in sorted((tmp_path / "out" / "probabilities").iterdir())]
        true = [read_image(p).array[0] > 0 for p in sorted((tiny_data / "masks").iterdir())]
        right = np.concatenate([np.where(t, p[1], p[0]).ravel() for p, t in zip(found, true, strict=True)])
        assert (got["images"], got["bce"]) == (4, pytest.approx(-np.log(right).mean(), rel=1e-4))


class TestCounts:
    def objects(self, count: int) -> np.ndarray:
        ids = np.zeros((20, 60), np.uint8)
        for k in range(count):
            ids[4:12, 5 * k : 5 * k + 4] = k + 1
        return ids

    def scored(self, tmp_path, counts, true):
        return evaluate(folder(tmp_path / "p", [self.objects(n) for n in counts]),
                        folder(tmp_path / "t", [self.objects(n) for n in true]), settings=DataSettings(kind="instances"))

    def test_a_planted_bias_appears(self, tmp_path):
        """Two objects too many in each of nine images, one too few in the tenth."""
        true = [3, 4, 5, 6, 7, 8, 9, 3, 4, 5]
        got = self.scored(tmp_path, [n + 2 for n in true[:9]] + [4], true)
        errors = np.array([2.0] * 9 + [-1])
        agreement = got["agreement"]
        assert (agreement["bias"], agreement["n"]) == (pytest.approx(1.7), 10)
        assert agreement["sd"] == pytest.approx(errors.std(ddof=1))
        assert [agreement["low"], agreement["high"]] == pytest.approx(
            [1.7 - 1.96 * errors.std(ddof=1), 1.7 + 1.96 * errors.std(ddof=1)])
        assert agreement["bias_interval"] == got["intervals"]["count_bias"]
        assert agreement["bias_interval"]["low"] <= 1.7 <= agreement["bias_interval"]["high"]
        assert "+1.70 an image" in agreement["says"]

    def test_thresholds_are_means_over_images(self, tmp_path):
        got = self.scored(tmp_path, [3, 5, 0], [4, 4, 0])
        assert [t["iou"] for t in got["thresholds"]] == pytest.approx(np.arange(0.5, 1, 0.05))
        for entry in got["thresholds"]:
            assert entry["ap"] == pytest.approx((3 / 4 + 4 / 5) / 2)
            assert entry["f1"] == pytest.approx((6 / 7 + 8 / 9) / 2)
        assert got["thresholds"][0]["ap"] == got["mean"]["ap50"]
        assert np.mean([t["ap"] for t in got["thresholds"]]) == pytest.approx(got["mean"]["ap"])

    def test_one_image_has_no_limits(self, tmp_path):
        agreement = self.scored(tmp_path, [4], [3])["agreement"]
        assert (agreement["bias"], agreement["low"], agreement["sd"], agreement["slope"]) == (1, None, None, None)
