"""Two folders of predictions, a second annotator, and images that belong together."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.cli import main
from biomask.errors import LabelsError, ManyErrors, PairingError, UsageError
from biomask.evaluation.bootstrap import Units, differences
from biomask.evaluation.evaluate import EvaluateOptions, evaluate, judge
from biomask.evaluation.paired import changed
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, overlap
from biomask.recipe import DataSettings

COUNT = 10


def square(i: int, shift: int = 0, side: int = 12) -> np.ndarray:
    mask = np.zeros((32, 40), np.uint8)
    mask[4 + i % 3 : 4 + i % 3 + side, 6 + shift : 6 + shift + side] = 1
    return mask


def write(folder: Path, masks, names=None, suffix: str = ".tif") -> Path:
    for i, mask in enumerate(masks):
        path = folder / f"{names[i] if names else f'{i:02d}'}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.asarray(mask))
    return folder


def dice(truth, found):
    return overlap(confusion_matrix(truth, found, 2)).dice[1]


@pytest.fixture
def truth(tmp_path):
    return write(tmp_path / "truth", [square(i) for i in range(COUNT)])


@pytest.fixture
def good(tmp_path):
    return write(tmp_path / "good", [square(i, shift=1) for i in range(COUNT)])


@pytest.fixture
def bad(tmp_path):
    """Shifts that grow: the scores fall from image to image."""
    return write(tmp_path / "bad", [square(i, shift=i) for i in range(COUNT)])


class TestAgainst:
    def test_the_difference_is_that_of_both_evaluations(self, good, bad, truth):
        got = evaluate(bad, truth, options=EvaluateOptions(against=good))
        one, two = evaluate(bad, truth), evaluate(good, truth)
        assert {**got, "paired": None, "footnotes": None} == {**one, "footnotes": None}
        for key in ("dice", "iou", "precision", "recall", "specificity", "hd95", "assd", "nsd", "pixel_error"):
            found = got["paired"]["difference"][key]
            assert found["mean"] == pytest.approx(one["mean"][key] - two["mean"][key])
            assert found["low"] <= found["mean"] <= found["high"]
            assert (found["n"], found["kind"]) == (COUNT, "bootstrap 95 %")
        assert got["paired"]["mean"] == two["mean"]
        rows = [[r["dice"] for r in side["per_image"]] for side in (one, two)]
        assert got["paired"]["difference"]["dice"] == pytest.approx(differences({"dice": tuple(rows)})["dice"])

    def test_exchanging_them_turns_the_signs(self, good, bad, truth):
        one, other = (evaluate(a, truth, options=EvaluateOptions(against=b))["paired"] for a, b in ((bad, good), (good, bad)))
        assert one["difference"]["dice"]["mean"] == pytest.approx(-other["difference"]["dice"]["mean"])
        assert one["difference"]["dice"]["p"] == other["difference"]["dice"]["p"]
        for key, opposite in (("newly_wrong", "newly_right"), ("newly_right", "newly_wrong")):
            assert one[key] == [{"name": e["name"], "this": e["other"], "other": e["this"]} for e in other[opposite]]

    def test_images_that_became_wrong_are_listed_worst_first(self, good, bad, truth):
        got = evaluate(bad, truth, options=EvaluateOptions(against=good))["paired"]
        pairs = {f"{i:02d}": (dice(square(i), square(i, shift=i)), dice(square(i), square(i, shift=1))) for i in range(COUNT)}
        want = [n for n, (now, before) in pairs.items() if before - now > 0.1 or now < 0.5 <= before]
        assert [e["name"] for e in got["newly_wrong"]] == sorted(want, key=lambda n: pairs[n][0] - pairs[n][1])
        assert len(want) == 7  # shifts of 3 pixels and more
        for entry in got["newly_wrong"]:
            assert (entry["this"], entry["other"]) == pytest.approx(pairs[entry["name"]])
        assert got["newly_right"] == []  # the one without a shift is better by less than 0.1
        assert "0.1" in got["rule"]

    def test_images_that_the_others_lack_are_named(self, good, bad, truth):
        (good / "03.tif").unlink()
        got = evaluate(bad, truth, options=EvaluateOptions(against=good))
        assert (got["n_images"], got["paired"]["n"], got["paired"]["only_here"]) == (COUNT, COUNT - 1, ["03"])
        assert got["paired"]["difference"]["dice"]["n"] == COUNT - 1

    def test_a_class_that_only_the_others_predict(self, good, truth, tmp_path):
        """It has no part in the means, which are over the classes of these predictions and the truth."""
        others = write(tmp_path / "others", [square(i) + (np.arange(40) > 36).astype(np.uint8) * 2 for i in range(COUNT)])
        got = evaluate(good, truth, options=EvaluateOptions(against=others))
        assert list(got["per_class"]) == ["0", "1"]
        assert got["paired"]["difference"]["dice"]["mean"] == pytest.approx(got["mean"]["dice"] - 1)

    def test_objects(self, tmp_path):
        both = np.zeros((30, 30), np.uint16)
        both[2:10, 2:10], both[15:25, 15:25] = 1, 2
        one, none = np.where(both == 1, 5, 0).astype(np.uint16), np.zeros_like(both)
        truth = write(tmp_path / "t", [both, both, none])
        got = evaluate(write(tmp_path / "p", [one, both, none]), truth, settings=DataSettings(kind="instances"),
                       options=EvaluateOptions(against=write(tmp_path / "o", [both, none, both])))["paired"]
        assert got["metric"] == "ap50"
        assert got["newly_wrong"] == [{"name": "00", "this": 0.5, "other": 1.0}]
        assert got["newly_right"] == [{"name": "01", "this": 1.0, "other": 0.0}, {"name": "02", "this": None, "other": 0.0}]
        assert got["difference"]["ap50"]["mean"] == pytest.approx((0.5 + 1) / 2 - (1 + 0 + 0) / 3)
        assert got["difference"]["count_bias"]["mean"] == pytest.approx(-1 / 3 - 0)
        assert got["difference"]["ap50"]["kind"] == "range"

    def test_their_cases_can_be_looked_at(self, good, bad, truth):
        judged = judge(bad, truth, options=EvaluateOptions(against=good))
        assert [c.prediction.parent.name for c in judged.others] == ["good"] * COUNT
        assert judge(bad, truth).others == ()

    def test_two_files(self, good, bad, truth):
        got = evaluate(bad / "05.tif", truth / "05.tif", options=EvaluateOptions(against=good / "05.tif"))
        assert got["paired"]["difference"]["dice"]["mean"] < 0

    def test_refused(self, good, truth, tmp_path):
        with pytest.raises(UsageError, match="themselves"):
            evaluate(good, truth, options=EvaluateOptions(against=good))
        strange = write(tmp_path / "strange", [square(0)], ["elsewhere"])
        with pytest.raises(PairingError, match="no predictions of the images"):
            evaluate(good, truth, options=EvaluateOptions(against=strange))
        small = write(tmp_path / "small", [square(i)[:-1] for i in range(COUNT)])
        with pytest.raises(ManyErrors, match=r"10 of 10") as caught:
            evaluate(good, truth, options=EvaluateOptions(against=small))
        assert "(31, 40)" in str(caught.value)
        with pytest.raises(LabelsError, match="no class is in both"):
            evaluate(good, truth, options=EvaluateOptions(against=write(tmp_path / "o", [square(i) * 7 for i in range(COUNT)])))


class TestNewlyWrong:
    @pytest.mark.parametrize(("this", "other", "wrong"), [
        (0.8, 0.9, False), (0.79, 0.9, True), (0.49, 0.5, True), (0.5, 0.59, False), (0.3, 0.35, False), (0.9, None, False),
        (0.89, None, True), (0.0, None, True), (None, 0.0, False), (None, None, False), (0.9, 0.4, False)])
    def test_the_rule(self, this, other, wrong):
        sides = [{"kind": "classes", "per_image": [{"name": "a", "dice": v}]} for v in (this, other)]
        found, _ = changed(*sides)
        assert found == ([{"name": "a", "this": this, "other": other}] if wrong else [])
        assert changed(*sides[::-1])[1] == ([{"name": "a", "this": other, "other": this}] if wrong else [])


class TestAnnotator:
    def test_the_ceiling_is_the_evaluation_of_the_second_annotator(self, good, bad, truth):
        """`good` as a person's labels: they score what they would as predictions."""
        got = evaluate(bad, truth, options=EvaluateOptions(annotator=good))["annotator"]
        want = evaluate(good, truth)
        assert (got["n_images"], got["mean"], got["intervals"]) == (COUNT, want["mean"], want["intervals"])
        paired = evaluate(bad, truth, options=EvaluateOptions(against=good))["paired"]
        assert got["difference"] == paired["difference"]
        assert [r["dice"] for r in got["per_image"]] == [r["dice"] for r in want["per_image"]]

    def test_other_values_than_the_truth(self, good, bad, truth, tmp_path):
        """A person who drew 255 for what the truth calls 1."""
        own = write(tmp_path / "own", [square(i, shift=1) * 255 for i in range(COUNT)])
        got = evaluate(bad, truth, options=EvaluateOptions(annotator=own))["annotator"]
        assert got["mean"] == evaluate(good, truth)["mean"]

    def test_where_the_annotator_knows_nothing_is_not_judged(self, good, truth, tmp_path):
        own = [square(i) for i in range(COUNT)]
        for mask in own:
            mask[:, 20:] = 9
        got = evaluate(good, truth, settings=DataSettings(ignore=9),
                       options=EvaluateOptions(annotator=write(tmp_path / "own", own)))["annotator"]
        assert got["mean"]["dice"] == 1

    def test_classes_by_name(self, tmp_path):
        """Outlines with names against masks whose classes have these names."""
        names = {0: "background", 1: "big", 2: "small"}
        mask = np.zeros((40, 40), np.uint8)
        mask[4:20, 4:20], mask[24:34, 24:34] = 1, 2
        truth, out = write(tmp_path / "t", [mask]), write(tmp_path / "out" / "masks", [mask])
        (out.parent / "run.json").write_text(json.dumps({"legend": Legend.of_values([0, 1, 2], names).to_json()}))
        shapes = [{"label": n, "shape_type": "polygon", "points": [[a, a], [b, a], [b, b], [a, b]]}
                  for n, a, b in (("small", 24, 34), ("big", 4, 20))]
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "00.json").write_text(json.dumps(
            {"version": "5.8", "shapes": shapes, "imagePath": "00.png", "imageHeight": 40, "imageWidth": 40}))
        got = evaluate(out.parent, truth, options=EvaluateOptions(annotator=tmp_path / "second"))
        assert got["annotator"]["mean"]["dice"] == 1

    def test_objects_have_their_counts(self, tmp_path):
        both = np.zeros((30, 30), np.uint16)
        both[2:10, 2:10], both[15:25, 15:25] = 1, 2
        second = np.where(both == 2, 7, 0).astype(np.uint16)
        out, truth = write(tmp_path / "p", [both] * 3), write(tmp_path / "t", [both] * 3)
        got = evaluate(out, truth, settings=DataSettings(kind="instances"),
                       options=EvaluateOptions(annotator=write(tmp_path / "second", [second] * 3)))["annotator"]
        assert (got["mean"]["ap50"], got["mean"]["count_bias"], got["agreement"]["bias"]) == (0.5, -1, -1)
        assert got["difference"]["ap50"]["mean"] == 0.5

    def test_structures_by_name(self, tmp_path):
        for side, shift in (("out/masks", 2), ("t", 0), ("second", 1)):
            for name, size in (("cup", 6), ("disc", 14)):
                write(tmp_path / side / name, [square(i, shift, size) for i in range(3)])
        got = evaluate(tmp_path / "out", tmp_path / "t", settings=DataSettings(kind="multilabel"),
                       options=EvaluateOptions(annotator=tmp_path / "second"))
        want = [dice(square(0, 0, size), square(0, 1, size)) for size in (6, 14)]
        assert got["annotator"]["mean"]["dice"] == pytest.approx(np.mean(want))
        assert got["mean"]["dice"] < got["annotator"]["mean"]["dice"]

    def test_refused(self, good, truth, tmp_path):
        with pytest.raises(UsageError, match="the truth itself"):
            evaluate(good, truth, options=EvaluateOptions(annotator=truth))
        strange = write(tmp_path / "strange", [np.where(square(0), 3, np.arange(40) // 20).astype(np.uint8)] * COUNT)
        with pytest.raises(LabelsError, match="annotator's classes"):
            evaluate(good, truth, options=EvaluateOptions(annotator=strange))


class TestGroups:
    def names(self):
        return [f"p{i // 2}_{i % 2}" for i in range(20)]

    def folders(self, tmp_path):
        names = self.names()
        truth = write(tmp_path / "data" / "masks", [square(i) for i in range(20)], names)
        return write(tmp_path / "out", [square(i, shift=i // 2) for i in range(20)], names), truth

    def assert_grouped(self, got, says):
        assert got["groups"] == {"n": 10, "says": says}
        assert [r["group"][-1] for r in got["per_image"]] == [str(i // 2) for i in range(20)]
        assert got["intervals"]["dice"]["kind"] == "bootstrap 95 % over 10 groups"
        assert got["intervals"]["dice"]["n"] == 20
        assert any("10 groups of images" in note for note in got["footnotes"])

    def test_a_pattern(self, tmp_path):
        got = evaluate(*self.folders(tmp_path), settings=DataSettings(groups=r"(p\d+)_"))
        self.assert_grouped(got, r"by the pattern (p\d+)_")
        alone = evaluate(*self.folders(tmp_path))
        assert (alone["groups"], alone["intervals"]["dice"]["kind"], "group" in alone["per_image"][0]) == (
            None, "bootstrap 95 %", False)
        widths = [g["intervals"]["dice"]["high"] - g["intervals"]["dice"]["low"] for g in (alone, got)]
        assert widths[1] > 1.2 * widths[0]  # both images of a patient are alike

    def table(self, path: Path, column: str = "group") -> Path:
        path.write_text(f"image,{column}\n" + "".join(f"{n}.png,{n.split('_')[0]}\n" for n in self.names()))
        return path

    def test_a_table_beside_the_truth(self, tmp_path):
        out, truth = self.folders(tmp_path)
        self.table(tmp_path / "data" / "split.csv")
        self.assert_grouped(evaluate(out, truth), "by split.csv")
        assert evaluate(out, truth, settings=DataSettings(groups="none"))["groups"] is None

    def test_a_column_and_a_table_anywhere(self, tmp_path):
        out, truth = self.folders(tmp_path)
        named = self.table(tmp_path / "patients.csv")
        self.assert_grouped(evaluate(out, truth, settings=DataSettings(groups=str(named))), "by patients.csv")
        self.table(tmp_path / "data" / "split.csv", "batch")
        assert evaluate(out, truth)["groups"] is None
        self.assert_grouped(evaluate(out, truth, settings=DataSettings(groups="column:batch")), "by column:batch")

    def test_differences_are_over_groups_too(self, tmp_path):
        out, truth = self.folders(tmp_path)
        others = write(tmp_path / "others", [square(i, shift=1) for i in range(20)], self.names())
        settings = DataSettings(groups=r"(p\d+)_")
        got = evaluate(out, truth, settings=settings, options=EvaluateOptions(against=others))
        rows = [[r["dice"] for r in g["per_image"]] for g in (got, evaluate(others, truth))]
        want = differences({"dice": tuple(rows)}, Units(tuple(r["group"] for r in got["per_image"])))["dice"]
        assert got["paired"]["difference"]["dice"] == pytest.approx(want)
        assert want["kind"] == "bootstrap 95 % over 10 groups"

    def test_refused(self, tmp_path):
        out, truth = self.folders(tmp_path)
        with pytest.raises(UsageError, match="fits no image name"):
            evaluate(out, truth, settings=DataSettings(groups="patient"))
        with pytest.raises(PairingError, match=r"no split\.csv"):
            evaluate(out, truth, settings=DataSettings(groups="column:batch"))
        other = tmp_path / "other.csv"
        other.write_text("image,group\nelsewhere.png,1\n")
        with pytest.raises(PairingError, match="names no group"):
            evaluate(out, truth, settings=DataSettings(groups=str(other)))


class TestShown:
    def test_the_command_line(self, good, bad, truth, tmp_path, capsys):
        arguments = ["evaluate", str(bad), str(truth), "--against", str(good), "--annotator", str(good), "--tolerance", "1",
                     "--groups", "none", "--json", str(tmp_path / "e.json")]
        assert main(arguments) == 0
        said, got = " ".join(capsys.readouterr().out.split()), json.loads((tmp_path / "e.json").read_text())
        for word in ("HD95 (px)", "within 1 px", "second annotator", "newly wrong: 7 images: 09 (", "newly right: no image"):
            assert word in said
        assert f"{got['paired']['difference']['dice']['mean']:+.4f}" in said
        assert got["boundary"]["tolerance"] == 1

    def test_a_tolerance_that_is_none(self, good, truth):
        assert main(["evaluate", str(good), str(truth), "--tolerance", "0"]) == 2

    def test_the_python_interface(self, good, bad, truth):
        got = api.evaluate(bad, truth, options=api.EvaluateOptions(against=good, seed=1))
        assert got.scores["paired"]["n"] == COUNT
