"""Objects: what `biomask predict` leaves in labels/ against ids, outlines and masks of objects."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.cli import main
from biomask.errors import LabelsError, ManyErrors, PairingError
from biomask.evaluation.evaluate import evaluate, judge
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.metrics import instance_scores
from biomask.recipe import DataSettings

SIDE = 64
COUNT = 3


def cells(i: int) -> np.ndarray:
    """(SIDE, SIDE) ids of touching squares, 12 to 14 of them; other ids in each image."""
    ids = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((16, 16), int))
    inside = np.kron(np.ones((4, 4), int), np.pad(np.ones((14, 14), int), ((1, 1), (0, 2))))
    ids = ids * inside
    return np.where(ids > 12 + i, 0, ids + 3 * i * (ids > 0)).astype(np.uint16)


def found_cells(i: int) -> np.ndarray:
    """The truth with one object missed, one added, two merged and one split, under other ids."""
    truth = cells(i)
    first = int(truth[truth > 0].min())
    out = np.where(truth > 0, truth + 100, 0)
    out[truth == first] = 0
    out[truth == first + 2] = out[truth == first + 1].max()
    rows, columns = np.nonzero(truth == first + 5)
    out[rows[columns < columns.min() + 5], columns[columns < columns.min() + 5]] = 900
    out[-6:, -6:] = 901
    return out.astype(np.uint16)


def predicted(folder: Path, arrays=None, legend: Legend | None = None, classes=None, kind: str | None = "instances") -> Path:
    """A folder as `predict` leaves it."""
    arrays = [found_cells(i) for i in range(COUNT)] if arrays is None else arrays
    legend = legend or Legend.of_values([0, 1], {1: "cell"})
    for i, ids in enumerate(arrays):
        mask = np.asarray(ids > 0, np.uint8) * legend.values[-1] if classes is None else np.asarray(classes[i], np.uint8)
        for sub, array in (("labels", ids), ("masks", mask)):
            (folder / sub).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / sub / f"{i}.tif", array)
    if kind is not None:
        (folder / "run.json").write_text(json.dumps({"command": "predict", "kind": kind, "legend": legend.to_json()}))
    return folder


def true_folder(folder: Path, arrays=None) -> Path:
    for i, ids in enumerate([cells(i) for i in range(COUNT)] if arrays is None else arrays):
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{i}.tif", ids)
    return folder


def data_folder(folder: Path) -> Path:
    true_folder(folder / "masks")
    for i in range(COUNT):
        grey = np.random.default_rng(i).integers(0, 99, (SIDE, SIDE)).astype(np.uint8) + 100 * (cells(i) > 0).astype(np.uint8)
        write_picture(folder / "images" / f"{i}.png", grey)
    return folder


@pytest.fixture
def out(tmp_path):
    return predicted(tmp_path / "out")


@pytest.fixture
def truth(tmp_path):
    return true_folder(tmp_path / "truth")


class TestScores:
    def test_each_image_has_the_scores_of_its_arrays(self, out, truth):
        got = evaluate(out, truth)
        assert (got["kind"], got["n_images"], got["schema_version"]) == ("instances", COUNT, 1)
        for i, row in enumerate(got["per_image"]):
            want = instance_scores(cells(i), found_cells(i))
            assert row["name"] == str(i)
            assert (row["ap50"], row["ap75"]) == (want.precision_at(0.5), want.precision_at(0.75))
            assert row["ap"] == want.average_precision
            assert (row["f1"], row["pq"], row["matched_iou"]) == (want.f1(0.5), want.panoptic_quality, want.matched_iou)
            assert (row["tp"], row["fp"], row["fn"]) == (want.tp(0.5), want.fp(0.5), want.fn(0.5))
            assert (row["merges"], row["splits"], row["true_objects"]) == (1, 1, 12 + i)
            assert row["count_error"] == row["predicted_objects"] - row["true_objects"] == 0
            a, b = cells(i) > 0, found_cells(i) > 0
            assert row["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
            assert row["pixel_error"] == pytest.approx((a != b).mean())

    def test_means_are_over_images_and_pooled_over_objects(self, out, truth):
        got = evaluate(out, truth)
        rows = got["per_image"]
        for key in ("ap50", "ap75", "ap", "f1", "pq", "matched_iou", "dice"):
            assert got["mean"][key] == pytest.approx(np.mean([r[key] for r in rows]))
            assert got["intervals"][key]["kind"] == "range"
            assert got["intervals"][key]["low"] == pytest.approx(min(r[key] for r in rows))
        for key in ("tp", "fp", "fn", "merges", "splits", "true_objects", "predicted_objects"):
            assert got["pooled"][key] == sum(r[key] for r in rows)
        tp, fp, fn = (got["pooled"][k] for k in ("tp", "fp", "fn"))
        assert got["pooled"]["ap50"] == pytest.approx(tp / (tp + fp + fn))
        assert got["pooled"]["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))

    def test_count_errors_and_their_bias(self, tmp_path):
        """One object too many, one too few: a mean error of 1 without bias."""
        one, two = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
        one[:3] = two[:3] = 7
        two[5:] = 9
        got = evaluate(predicted(tmp_path / "out", [one, two]), true_folder(tmp_path / "t", [two, one]))
        assert [r["count_error"] for r in got["per_image"]] == [-1, 1]
        assert (got["mean"]["count_error"], got["mean"]["count_bias"]) == (1, 0)

    def test_an_image_without_objects_is_undefined_unless_some_are_predicted(self, tmp_path):
        nothing, ids = np.zeros((SIDE, SIDE), np.uint16), cells(0)
        got = evaluate(predicted(tmp_path / "out", [nothing, ids, ids]), true_folder(tmp_path / "t", [nothing, nothing, ids]))
        assert [r["ap50"] for r in got["per_image"]] == [None, 0, 1]
        assert got["mean"]["ap50"] == 0.5
        assert got["intervals"]["ap50"]["n"] == 2
        json.dumps(got, allow_nan=False)

    def test_enough_images_have_an_interval(self, tmp_path):
        got = evaluate(predicted(tmp_path / "out", [found_cells(i % 3) for i in range(9)]),
                       true_folder(tmp_path / "t", [cells(i % 3) for i in range(9)]))
        for key in ("ap50", "ap", "pq", "count_error", "dice"):
            assert got["intervals"][key]["kind"].startswith("bootstrap 95")
            assert got["intervals"][key]["low"] <= got["mean"][key] <= got["intervals"][key]["high"]

    def test_unknown_pixels_do_not_count(self, tmp_path):
        """The value 999 is where nothing is known: there the added object lies."""
        arrays = [cells(i) for i in range(COUNT)]
        for array in arrays:
            array[-8:, -8:] = 999
        got = evaluate(predicted(tmp_path / "out"), true_folder(tmp_path / "t", arrays), settings=DataSettings(ignore=999))
        for i, row in enumerate(got["per_image"]):
            want = instance_scores(np.where(arrays[i] == 999, 0, arrays[i]), found_cells(i), arrays[i] == 999)
            assert (row["tp"], row["fp"], row["fn"]) == (want.tp(0.5), want.fp(0.5), want.fn(0.5))
            assert row["pixels"] == SIDE**2 - 64

    def test_volumes(self, tmp_path):
        ids = np.stack([cells(0)] * 4)
        for sub, array in (("out", ids), ("t", ids * 2)):
            (tmp_path / sub).mkdir()
            tifffile.imwrite(tmp_path / sub / "v.tif", array, imagej=True, metadata={"axes": "ZYX"})
        got = evaluate(tmp_path / "out", tmp_path / "t")
        assert (got["mean"]["ap"], got["pooled"]["tp"]) == (1, 12)


class TestForms:
    def test_a_data_folder(self, out, tmp_path):
        got = evaluate(out, data_folder(tmp_path / "data"))
        assert got["pooled"]["tp"] == evaluate(out, tmp_path / "data" / "masks")["pooled"]["tp"]

    @pytest.mark.parametrize("where", ["labels", "."])
    def test_ids_without_a_record(self, tmp_path, truth, where):
        out = predicted(tmp_path / "out", kind=None) / "labels"
        if where == ".":
            out = out.rename(tmp_path / "ids")
        assert evaluate(out, truth)["per_image"] == evaluate(predicted(tmp_path / "again"), truth)["per_image"]

    def test_only_labels_were_written(self, out, truth, tmp_path):
        whole = evaluate(out, truth)["per_image"]
        for file in (out / "masks").iterdir():
            file.unlink()
        (out / "masks").rmdir()
        assert evaluate(out, truth)["per_image"] == whole

    def test_two_files(self, out, truth):
        got = evaluate(out / "labels" / "1.tif", truth / "1.tif", settings=DataSettings(kind="instances"))
        assert got["pooled"]["true_objects"] == 13

    def test_masks_of_objects(self, out, tmp_path, truth):
        for i in range(COUNT):
            for number in np.unique(cells(i))[1:]:
                write_picture(tmp_path / "objects" / str(i) / f"{number:03d}.png", (cells(i) == number).astype(np.uint8) * 255)
        got, want = evaluate(out, tmp_path / "objects"), evaluate(out, truth)
        assert [r["ap"] for r in got["per_image"]] == [r["ap"] for r in want["per_image"]]

    def test_a_few_objects_are_objects_for_a_model_of_objects(self, tmp_path):
        """Two values in one piece each could be classes as well."""
        ids = np.zeros((20, 20), np.uint8)
        ids[2:8, 2:8], ids[10:18, 10:18] = 1, 2
        out, truth = predicted(tmp_path / "out", [ids]), true_folder(tmp_path / "t", [ids])
        assert evaluate(out, truth)["kind"] == "instances"
        assert evaluate(out, truth, settings=DataSettings(kind="classes"))["kind"] == "classes"

    def test_a_truth_of_class_masks_is_compared_with_class_masks(self, tmp_path):
        """Many pieces of one value are no ids, whatever the model was."""
        out = predicted(tmp_path / "out", legend=Legend.of_values([0, 255], {255: "cell"}))
        arrays = [np.where(cells(i) > 0, 255, 0).astype(np.uint8) for i in range(COUNT)]
        got = evaluate(out, true_folder(tmp_path / "t", arrays))
        assert got["kind"] == "classes"
        assert got["per_class"]["255"]["name"] == "cell"

    def test_components_that_a_model_of_classes_wrote(self, tmp_path, truth):
        out = predicted(tmp_path / "out", kind="classes")
        assert evaluate(out, truth)["kind"] == "instances"

    def test_images_can_be_looked_at_where_there_are_class_masks(self, out, truth, tmp_path):
        judged = judge(out, data_folder(tmp_path / "data"))
        assert [c.pair.image.name for c in judged.cases] == ["0.png", "1.png", "2.png"]
        assert len(judge(out / "labels", truth).cases) == 3


class TestClasses:
    """Outlines with class names against ids and a class mask."""

    LEGEND = Legend.of_values([0, 1, 2], {1: "big", 2: "small"})

    def squares(self):
        return [("big", 4, 4, 16), ("big", 24, 4, 16), ("small", 4, 40, 6), ("small", 20, 40, 6), ("small", 36, 40, 6)]

    def truth(self, folder: Path, names=("big", "small")) -> Path:
        folder.mkdir()
        renamed = dict(zip(("big", "small"), names, strict=True))
        shapes = [{"label": renamed[n], "shape_type": "polygon", "points": [[x, y], [x + s, y], [x + s, y + s], [x, y + s]]}
                  for n, y, x, s in self.squares()]
        content = {"version": "5.8", "shapes": shapes, "imagePath": "0.png", "imageHeight": SIDE, "imageWidth": SIDE}
        (folder / "0.json").write_text(json.dumps(content))
        return folder

    def predicted(self, folder: Path) -> Path:
        """All found, the last one as the other class, and one class pixel wrong in the first."""
        ids, classes = np.zeros((SIDE, SIDE), np.uint16), np.zeros((SIDE, SIDE), np.uint8)
        for k, (name, y, x, s) in enumerate(self.squares(), start=1):
            ids[y : y + s, x : x + s] = k
            classes[y : y + s, x : x + s] = 1 if name == "big" or k == 5 else 2
        classes[4, 4] = 2
        return predicted(folder, [ids], self.LEGEND, [classes])

    def test_each_class_on_its_own(self, tmp_path):
        got = evaluate(self.predicted(tmp_path / "out"), self.truth(tmp_path / "t"))
        big, small = got["per_class"]["1"], got["per_class"]["2"]
        assert (big["name"], small["name"]) == ("big", "small")
        assert (big["tp"], big["fp"], big["fn"]) == (2, 1, 0)
        assert (small["tp"], small["fp"], small["fn"]) == (2, 0, 1)
        assert (big["ap50"], small["ap50"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
        assert got["mean"]["ap50"] == 1  # whatever their class

    def test_other_class_names_are_one_class(self, tmp_path):
        got = evaluate(self.predicted(tmp_path / "out"), self.truth(tmp_path / "t", ("large", "little")))
        assert list(got["per_class"]) == ["0", "1"]
        assert got["pooled"]["tp"] == 5


class TestRefused:
    def test_class_masks_against_ids(self, tmp_path, truth):
        out = predicted(tmp_path / "out", kind=None)
        for file in (out / "labels").iterdir():
            file.unlink()
        (out / "labels").rmdir()
        with pytest.raises(LabelsError, match="class masks without ids") as caught:
            evaluate(out, truth)
        assert "--labels classes" in caught.value.fix

    def test_one_value_in_many_pieces_is_no_id(self, tmp_path, truth):
        bare = true_folder(tmp_path / "p", [np.where(found_cells(i) > 0, 1, 0).astype(np.uint8) for i in range(COUNT)])
        with pytest.raises(LabelsError, match="several pieces"):
            evaluate(bare, truth)

    def test_a_missing_file_of_ids_is_named(self, out, truth):
        (out / "labels" / "1.tif").unlink()
        with pytest.raises(LabelsError, match="without ids of objects for 1"):
            evaluate(out, truth)

    def test_a_missing_prediction_is_named(self, out, truth):
        tifffile.imwrite(truth / "late.tif", cells(0))
        with pytest.raises(PairingError, match="late"):
            evaluate(out, truth)

    def test_negative_ids_and_other_sizes_are_all_listed(self, out, truth):
        tifffile.imwrite(out / "labels" / "0.tif", found_cells(0).astype(np.int32) - 1)
        tifffile.imwrite(out / "labels" / "2.tif", found_cells(2)[:-1])
        with pytest.raises(ManyErrors) as caught:
            evaluate(out, truth)
        assert [e.where.name for e in caught.value.errors] == ["0.tif", "2.tif"]


class TestShown:
    def test_the_command_line(self, out, truth, capsys):
        assert main(["evaluate", str(out), str(truth)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        got = evaluate(out, truth)
        ends = f"(range {got['intervals']['ap50']['low']:.2f} to {got['intervals']['ap50']['high']:.2f})"
        assert f"AP@0.5 {got['mean']['ap50']:.2f} {ends}, mean AP {got['mean']['ap']:.2f}" in said
        assert "3 merges, 3 splits, over 3 images" in said

    def test_one_merge_is_not_merges(self, tmp_path, capsys):
        out, truth = predicted(tmp_path / "o", [found_cells(0)]), true_folder(tmp_path / "t", [cells(0)])
        assert main(["evaluate", str(out), str(truth)]) == 0
        assert "1 merge, 1 split, over 1 image" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize("images", [True, False])
    def test_the_report(self, out, truth, tmp_path, images):
        place = data_folder(tmp_path / "data") if images else truth
        got = api.evaluate(out, place, report=tmp_path / "r.html").scores
        page = (tmp_path / "r.html").read_text()
        for word in ("panoptic quality", "AP at 0.5", "3 merges", f"{got['pooled']['tp']} of 39 objects"):
            assert word in page
        assert ("Errors:" in page) == images

    def test_the_report_of_nothing(self, tmp_path):
        nothing = np.zeros((9, 9), np.uint8)
        api.evaluate(predicted(tmp_path / "o", [nothing]), true_folder(tmp_path / "t", [nothing]), report=tmp_path / "r.html",
                     settings=DataSettings(kind="instances"))
        assert "–" in (tmp_path / "r.html").read_text()
