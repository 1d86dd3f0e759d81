"""`evaluate` against hand-computed numbers and a brute force of sets."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask import api
from biomask.errors import InputError, LabelsError, ManyErrors, MissingPathError, PairingError
from biomask.evaluation.bootstrap import FEWEST, interval
from biomask.evaluation.evaluate import SCHEMA_VERSION, ScoredImage, evaluate, summarise
from biomask.labels import Legend
from biomask.metrics import confusion_matrix
from biomask.progress import Silent
from biomask.recipe import DataSettings


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self):
        self.warnings, self.said = [], []

    def warn(self, message):
        self.warnings.append(message)

    def say(self, message):
        self.said.append(message)


def write(folder: Path, masks, names=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        path = folder / f"{names[i] if names else f'{i:02d}'}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.asarray(mask)
        tifffile.imwrite(path, array if array.dtype != np.int64 else array.astype(np.uint8))
    return folder


def scored(tmp_path, predictions, truth, **options):
    return evaluate(write(tmp_path / "p", predictions), write(tmp_path / "t", truth), **options)


def brute_force(truth, prediction, value):
    a, b = ({i for i in np.ndindex(m.shape) if m[i] == value} for m in (truth, prediction))
    return (2 * len(a & b) / (len(a) + len(b)), len(a & b) / len(a | b)) if a | b else (None, None)


def average(values):
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None


class TestNumbers:
    TRUTH = ([[0, 0, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 0, 0]])
    PREDICTIONS = ([[0, 1, 1, 1]], [[0, 0, 0, 1]], [[0, 0, 0, 0]])

    def test_by_hand(self, tmp_path):
        """Class 1: Dice 4/5, 1/2 and undefined; background 2/3, 1/2 and 1."""
        found = scored(tmp_path, self.PREDICTIONS, self.TRUTH)
        assert [image["dice"] for image in found["per_image"]] == [pytest.approx(4 / 5), pytest.approx(1 / 2), None]
        assert [image["pixel_error"] for image in found["per_image"]] == pytest.approx([1 / 4, 2 / 4, 0])
        assert found["per_class"]["1"]["dice"] == pytest.approx((4 / 5 + 1 / 2) / 2)
        assert found["per_class"]["1"]["iou"] == pytest.approx((2 / 3 + 1 / 3) / 2)
        assert found["per_class"]["1"]["images"] == 2
        assert found["per_class"]["0"]["dice"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
        assert found["mean"]["dice"] == pytest.approx(0.65)
        assert found["mean"]["iou"] == pytest.approx(0.5)
        assert found["mean"]["pixel_error"] == pytest.approx(1 / 4)
        # Class 1: precision 2/3, 1 and undefined, recall 1, 1/3 and undefined; specificity 1/2, 1 and 1.
        assert found["mean"]["precision"] == pytest.approx((2 / 3 + 1) / 2)
        assert found["mean"]["recall"] == pytest.approx((1 + 1 / 3) / 2)
        assert found["mean"]["specificity"] == pytest.approx((1 / 2 + 1 + 1) / 3)
        assert found["pooled"]["dice"] == pytest.approx(2 * 3 / (5 + 4))
        assert found["pooled"]["iou"] == pytest.approx(3 / 6)
        assert found["pooled"]["pixel_error"] == pytest.approx(3 / 12)
        assert found["pooled"]["precision"] == pytest.approx(3 / 4)
        assert found["pooled"]["recall"] == pytest.approx(3 / 5)
        assert found["pooled"]["specificity"] == pytest.approx(6 / 7)

    def test_the_schema(self, tmp_path):
        found = scored(tmp_path, self.PREDICTIONS, self.TRUTH)
        assert {"schema_version", "n_images", "per_image", "per_class", "mean", "pooled", "intervals"} <= set(found)
        assert (found["schema_version"], found["n_images"]) == (SCHEMA_VERSION, 3)
        assert isinstance(found["per_image"], list)
        assert [image["name"] for image in found["per_image"]] == ["00", "01", "02"]
        assert set(found["per_class"]) == {"0", "1"}
        assert {"dice", "iou"} <= set(found["mean"])
        assert {"dice", "iou"} <= set(found["pooled"])
        assert {"dice", "iou"} <= set(found["intervals"])
        assert found["footnotes"]
        text = json.dumps(found, allow_nan=False)
        assert json.loads(text) == found

    @settings(max_examples=15, deadline=None)
    @given(st.data())
    def test_equals_a_brute_force_of_sets(self, tmp_path_factory, data):
        values = (0, 3, 255)
        arrays = hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from(values))
        truth = data.draw(st.lists(arrays, min_size=1, max_size=4))
        predictions = [data.draw(arrays) for _ in truth]
        predictions[0][0, 0], truth[0][0, 0] = 3, 3  # one class in both
        found = scored(tmp_path_factory.mktemp("e"), predictions, truth)
        present = [v for v in values if any((m == v).any() for m in (*truth, *predictions))]
        assert list(found["per_class"]) == [str(v) for v in present]
        for v in present:
            pairs = [brute_force(t, p, v) for t, p in zip(truth, predictions, strict=True)]
            assert found["per_class"][str(v)]["dice"] == pytest.approx(average([d for d, _ in pairs]))
            assert found["per_class"][str(v)]["iou"] == pytest.approx(average([i for _, i in pairs]))
            pooled = brute_force(np.stack(truth), np.stack(predictions), v)
            assert found["pooled"]["per_class"][str(v)]["dice"] == pytest.approx(pooled[0])
        foreground = [found["per_class"][str(v)]["dice"] for v in present[1:]]
        assert found["mean"]["dice"] == pytest.approx(average(foreground))
        error = np.mean([(t != p).mean() for t, p in zip(truth, predictions, strict=True)])
        assert found["mean"]["pixel_error"] == pytest.approx(error)

    def test_a_class_that_is_nowhere_is_undefined(self, tmp_path):
        found = scored(tmp_path, [[[0, 0]], [[0, 2]]], [[[0, 0]], [[0, 2]]], names={0: "nothing", 1: "cell", 2: "dust"})
        scores = {"dice", "iou", "precision", "recall", "hd95", "assd", "nsd"}
        assert found["per_class"]["1"] == {"name": "cell", "images": 0, "specificity": 1.0, **dict.fromkeys(scores)}
        assert found["per_image"][0]["classes"]["2"] == {"specificity": 1.0, **dict.fromkeys(scores)}
        assert found["per_image"][0]["dice"] is None
        assert found["mean"]["dice"] == 1.0

    def test_all_empty_is_undefined_and_never_perfect(self, tmp_path):
        found = scored(tmp_path, [[[0, 0]]], [[[0, 0]]])
        assert found["mean"]["dice"] is None
        assert found["intervals"]["dice"]["low"] is None
        assert found["mean"]["pixel_error"] == 0

    def test_a_class_predicted_where_there_is_none_scores_zero(self, tmp_path):
        assert scored(tmp_path, [[[0, 1]]], [[[0, 0]]])["mean"]["dice"] == 0

    def test_volumes(self, tmp_path):
        mask = np.zeros((3, 4, 5), np.uint8)
        mask[1:, 2:, 2:] = 1
        for side in "pt":
            (tmp_path / side).mkdir()
            tifffile.imwrite(tmp_path / side / "a.tif", mask, imagej=True, metadata={"axes": "ZYX"})
        assert evaluate(tmp_path / "p", tmp_path / "t")["mean"]["dice"] == 1

    def test_values_beyond_a_byte(self, tmp_path):
        mask = np.array([[0, 300, 65535]], np.uint16)
        assert set(scored(tmp_path, [mask], [mask])["per_class"]) == {"0", "300", "65535"}

    def test_a_value_of_minus_one_is_a_class_like_others(self, tmp_path):
        truth, prediction = np.array([[-1, 0, 4, 4]], np.int16), np.array([[0, 0, 4, 4]], np.int16)
        found = scored(tmp_path, [prediction], [truth])
        assert set(found["per_class"]) == {"-1", "0", "4"}
        assert found["mean"]["pixel_error"] == 0.25


class TestIgnore:
    def test_unknown_pixels_do_not_count(self, tmp_path):
        truth, prediction = [[0, 1, 255, 255]], [[0, 1, 1, 0]]
        found = scored(tmp_path, [prediction], [truth], settings=DataSettings(ignore=255))
        assert (found["mean"]["dice"], found["mean"]["iou"], found["mean"]["pixel_error"]) == (1.0, 1.0, 0.0)
        assert found["per_image"][0]["pixels"] == 2
        assert set(found["per_class"]) == {"0", "1"}
        assert found["ignore"] == 255

    def test_without_it_they_are_a_class(self, tmp_path):
        assert scored(tmp_path, [[[0, 1, 1]]], [[[0, 1, 255]]])["per_class"]["255"]["dice"] == 0

    def test_zero_may_be_unknown(self, tmp_path):
        found = scored(tmp_path, [[[1, 2, 2]]], [[[1, 2, 0]]], settings=DataSettings(ignore=0))
        assert found["mean"]["pixel_error"] == 0

    def test_all_unknown_is_undefined(self, tmp_path):
        found = scored(tmp_path, [[[0, 1]], [[0, 1]]], [[[255, 255]], [[0, 1]]], settings=DataSettings(ignore=255))
        assert found["per_image"][0]["pixel_error"] is None
        assert found["per_image"][0]["dice"] is None
        assert found["mean"]["dice"] == 1


class TestFolders:
    def test_what_predict_wrote_against_a_data_folder(self, tmp_path, tiny_model, tiny_data):
        api.predict(tiny_model, tiny_data / "images", tmp_path / "out", api.PredictOptions(device="cpu"))
        found = api.evaluate(tmp_path / "out", tiny_data).scores
        assert found["n_images"] == 4
        assert found == {**api.evaluate(tmp_path / "out", tiny_data / "masks").scores, "truth": str(tiny_data)}

    def test_two_files(self, tmp_path):
        write(tmp_path, [[[0, 1]], [[0, 1]]], ["a", "b"])
        assert evaluate(tmp_path / "a.tif", tmp_path / "b.tif")["mean"]["dice"] == 1

    def test_nested(self, tmp_path):
        names = ["day 1/a", "day 2/a"]
        found = evaluate(write(tmp_path / "p", [[[0, 1]]] * 2, names), write(tmp_path / "t", [[[0, 1]]] * 2, names))
        assert [image["name"] for image in found["per_image"]] == names

    def test_a_missing_prediction_is_named(self, tmp_path):
        write(tmp_path / "p", [[[0, 1]]], ["a"])
        write(tmp_path / "t", [[[0, 1]]] * 3, ["a", "missing_one", "missing_two"])
        with pytest.raises(PairingError, match=r"2 of 3.*missing_one, missing_two"):
            evaluate(tmp_path / "p", tmp_path / "t")

    def test_a_prediction_without_truth_is_warned_of_and_listed(self, tmp_path):
        heard = Heard()
        write(tmp_path / "p", [[[0, 1]]] * 2, ["a", "extra"])
        found = evaluate(tmp_path / "p", write(tmp_path / "t", [[[0, 1]]], ["a"]), progress=heard)
        assert found["without_truth"] == ["extra"]
        assert found["n_images"] == 1
        assert any("extra" in w for w in heard.warnings)

    @pytest.mark.parametrize("side", ["p", "t"])
    def test_missing_paths(self, tmp_path, side):
        write(tmp_path / ("t" if side == "p" else "p"), [[[0, 1]]])
        with pytest.raises(MissingPathError, match=side):
            evaluate(tmp_path / "p", tmp_path / "t")

    def test_no_masks_at_all(self, tmp_path):
        (tmp_path / "t").mkdir()
        with pytest.raises(PairingError, match="no masks"):
            evaluate(write(tmp_path / "p", [[[0, 1]]]), tmp_path / "t")

    def test_class_names_come_from_the_prediction(self, tmp_path):
        write(tmp_path / "out" / "masks", [[[0, 9]]])
        (tmp_path / "out" / "run.json").write_text(json.dumps({"legend": [
            {"value": 0, "name": "nothing", "colour": [0, 0, 0]}, {"value": 9, "name": "cell", "colour": [1, 1, 1]}]}))
        write(tmp_path / "t", [[[0, 9]]])
        for predictions in (tmp_path / "out", tmp_path / "out" / "masks"):
            found = evaluate(predictions, tmp_path / "t")
            assert [c["name"] for c in found["per_class"].values()] == ["nothing", "cell"]

    @pytest.mark.parametrize("text", ["", "[]", '{"legend": 3}', '{"legend": [{"value": "x", "name": 1}]}'])
    def test_a_run_json_that_is_not_ours_is_no_crash(self, tmp_path, text):
        write(tmp_path / "out" / "masks", [[[0, 9]]])
        (tmp_path / "out" / "run.json").write_text(text)
        assert evaluate(tmp_path / "out", write(tmp_path / "t", [[[0, 9]]]))["mean"]["dice"] == 1


class TestRefused:
    def test_encodings_that_share_no_class(self, tmp_path):
        with pytest.raises(LabelsError, match=r"\[0, 255\].*\[0, 1\].*no class is in both"):
            scored(tmp_path, [[[0, 1]]], [[[0, 255]]])

    def test_sizes_that_differ_are_all_listed(self, tmp_path):
        with pytest.raises(ManyErrors) as caught:
            scored(tmp_path, [[[0, 1]], [[0, 1]], [[0, 1]]], [[[0, 1, 1]], [[0, 1]], [[0], [1]]])
        assert [e.where.name for e in caught.value.errors] == ["00.tif", "02.tif"]
        assert "(1, 2)" in str(caught.value)
        assert "(1, 3)" in str(caught.value)

    def test_damaged_masks_are_all_listed(self, tmp_path):
        for side in "pt":
            write(tmp_path / side, [[[0, 1]]] * 3)
        for path in ("p/00.tif", "t/00.tif", "t/02.tif"):
            (tmp_path / path).write_bytes(b"broken")
        with pytest.raises(ManyErrors) as caught:
            evaluate(tmp_path / "p", tmp_path / "t")
        assert len(caught.value.errors) == 3

    def test_grey_images_instead_of_masks(self, tmp_path):
        grey = np.arange(600, dtype=np.uint16).reshape(20, 30)
        with pytest.raises(InputError, match="grey image rather than a mask"):
            scored(tmp_path, [grey], [grey])

    def test_an_ignored_value_does_not_hide_other_encodings(self, tmp_path):
        with pytest.raises(LabelsError):
            scored(tmp_path, [[[0, 1, 1]]], [[[0, 255, 7]]], settings=DataSettings(ignore=7))


class TestIntervals:
    def test_few_images_give_a_range(self):
        assert interval([0.5, None, 0.25, 1.0]) == {"low": 0.25, "high": 1.0, "kind": "range", "n": 3}
        assert interval([None, None])["n"] == 0
        assert interval([])["low"] is None
        assert interval([0.3] * (FEWEST - 1))["kind"] == "range"

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.floats(0, 1), min_size=8, max_size=30))
    def test_enough_images_give_an_interval_around_the_mean(self, values):
        found = interval(values)
        assert found["kind"].startswith("bootstrap 95")
        assert found["n"] == len(values)
        assert found["low"] - 1e-12 <= np.mean(values) <= found["high"] + 1e-12
        assert min(values) - 1e-12 <= found["low"] <= found["high"] <= max(values) + 1e-12
        assert found == interval(values)

    def test_its_width_is_that_of_the_normal_approximation(self):
        values = np.random.default_rng(0).normal(0.8, 0.1, 200).tolist()
        found = interval(values)
        assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * np.std(values) / 200**0.5, rel=0.1)

    def test_more_images_narrow_it(self):
        widths = []
        for n in (10, 40, 160):
            found = interval(np.random.default_rng(1).normal(0.5, 0.1, n).tolist())
            widths.append(found["high"] - found["low"])
        assert all(a > b for a, b in pairwise(widths))

    @pytest.mark.parametrize(("n", "kind"), [(7, "range"), (8, "bootstrap")])
    def test_in_an_evaluation(self, tmp_path, n, kind):
        rng = np.random.default_rng(0)
        truth = [rng.integers(0, 2, (6, 6)) for _ in range(n)]
        predictions = [np.where(rng.random((6, 6)) < 0.2, 1 - t, t) for t in truth]
        found = scored(tmp_path, predictions, truth)
        for key in ("dice", "iou", "pixel_error"):
            assert found["intervals"][key]["kind"].startswith(kind)
            assert found["intervals"][key]["low"] <= found["mean"][key] <= found["intervals"][key]["high"]
        again = evaluate(tmp_path / "p", tmp_path / "t")
        assert found["intervals"] == again["intervals"]

    def test_the_interval_is_that_of_the_mean_it_stands_beside(self):
        """In the mean (over images, then over classes) a rare class weighs as much as a common one; so in its interval."""
        legend = Legend.of_values([0, 1, 2])
        common = confusion_matrix(np.array([0, 1] * 10), np.array([0, 1] * 10), 3)
        rare = confusion_matrix(np.array([0, 1, 2] * 10), np.array([0, 1, 0] * 10), 3)
        found = summarise([ScoredImage(str(i), m) for i, m in enumerate([common] * 11 + [rare])], legend)
        assert found["mean"]["dice"] == pytest.approx(0.5, abs=0.01)
        assert found["intervals"]["dice"]["low"] <= found["mean"]["dice"] <= found["intervals"]["dice"]["high"]
