"""Splits, statistics and the learning curve of a comparison."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biomask.checkpoint import Model, ModelHeader
from biomask.comparison import cell, run
from biomask.comparison.cell import operations
from biomask.comparison.cells import Cell
from biomask.comparison.curve import AHEAD, NOISE, forecast
from biomask.comparison.options import CompareOptions, checked_names
from biomask.comparison.splits import TestSplit as Split
from biomask.comparison.splits import choose_splits, read_splits, some_of
from biomask.comparison.table import holm, image_scores, joined, rows_of
from biomask.errors import DiskFullError, InputError, ReadError, UsageError
from biomask.io.detections import DETECTIONS, DetectedImage, read_detections, write_detections
from biomask.labels import Legend
from biomask.progress import Silent
from biomask.recipe import NetworkSettings, Recipe
from biomask.shapes import Category


def dataset(names, groups=None):
    return SimpleNamespace(pairs=[SimpleNamespace(name=n) for n in names], facts=SimpleNamespace(groups=tuple(groups or ())))


@pytest.fixture
def no_test_part(monkeypatch):
    monkeypatch.setattr("biomask.comparison.splits.test_pairs", lambda *a: [])


@pytest.mark.usefixtures("no_test_part")
class TestSplits:
    @pytest.mark.parametrize(("images", "folds", "count"), [(4, None, 4), (6, None, 6), (7, None, 3), (9, "loo", 9), (9, 2, 2)])
    def test_every_image_is_judged_once_and_never_trained_with(self, images, folds, count):
        names = [f"i{n}x" for n in range(images)]
        found = choose_splits("data", dataset(names), CompareOptions(folds=folds)).splits
        assert len(found) == count
        assert sorted(n for s in found for n in s.test) == sorted(names)
        for s in found:
            assert set(s.train) | set(s.test) == set(names)
            assert not set(s.train) & set(s.test)

    def test_groups_are_never_cut(self):
        names, groups = [f"i{n}x" for n in range(12)], [f"g{n // 3}" for n in range(12)]
        found = choose_splits("data", dataset(names, groups), CompareOptions())
        assert "each of 4 groups of images left out once" in found.says
        for s in found.splits:
            assert not {groups[names.index(n)] for n in s.train} & {groups[names.index(n)] for n in s.test}

    def test_one_image_cannot_be_compared_on(self):
        with pytest.raises(UsageError, match="one image"):
            choose_splits("data", dataset(["a"]), CompareOptions())
        with pytest.raises(UsageError, match="one group"):
            choose_splits("data", dataset(["a", "b"], ["g", "g"]), CompareOptions())

    def test_fewer_images_are_among_more(self):
        split = Split(tuple(f"i{n}" for n in range(20)), ("t",))
        few, more = some_of(split, 5, 3), some_of(split, 10, 3)
        assert len(few.train) == 5
        assert set(few.train) < set(more.train) < set(split.train)
        assert few.test == split.test
        assert some_of(split, 5, 4).train != few.train


class TestNnunetSplits:
    def write(self, tmp_path, content):
        path = tmp_path / "splits_final.json"
        path.write_text(json.dumps(content))
        return path

    def test_folds_are_taken_as_they_are(self, tmp_path):
        path = self.write(tmp_path, [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "a"], "val": ["b"]}])
        found = read_splits(path, ["train/a", "train/b", "train/c"])
        assert [(s.train, s.test) for s in found.splits] == [(("train/a", "train/b"), ("train/c",)),
                                                             (("train/c", "train/a"), ("train/b",))]

    @pytest.mark.parametrize(("content", "said"), [
        ([{"train": ["a"], "val": ["x"]}], "not in the data: x"), ([{"train": ["a"], "val": ["a"]}], "trained and judged"),
        ([{"train": ["a"], "val": ["b"]}, {"train": ["c"], "val": ["b"]}], "judged twice"),
        ([{"train": ["a"]}], "is not nnU-Net's"),
        ({"a": 1}, "is not nnU-Net's"), ([], "holds no fold"), ([{"train": [], "val": ["a"]}], "empty part")])
    def test_what_cannot_be(self, tmp_path, content, said):
        with pytest.raises(InputError, match=said):
            read_splits(self.write(tmp_path, content), ["a", "b", "c"])


class TestOptions:
    @pytest.mark.parametrize(("options", "said"), [
        ({"minutes": 1, "steps": 1}, "exclude each other"), ({"folds": 1}, "at least 2"), ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "--seeds"), ({"sizes": (1,)}, "--images"), ({"folds": 2, "splits": "x"}, "exclude each other")])
    def test_contradictions(self, options, said):
        with pytest.raises(UsageError, match=said):
            CompareOptions(**options)

    def test_names(self):
        with pytest.raises(UsageError, match="a is compared with itself"):
            checked_names([Recipe(name="a"), Recipe(name="a")], {})
        with pytest.raises(UsageError, match="compared with itself"):
            checked_names([Recipe(name="a")], {"a": "x"})
        with pytest.raises(UsageError, match="name of a folder"):
            checked_names([], {"../a": "x"})
        with pytest.raises(UsageError, match="nothing to compare"):
            checked_names([], {})


class TestHolm:
    @settings(max_examples=100, deadline=None)
    @given(ps=st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_against_its_definition(self, ps):
        """The adjusted p of a hypothesis is the largest of (m - rank) p over it and all with smaller p, at most 1."""
        m, order = len(ps), sorted(range(len(ps)), key=lambda i: ps[i])
        expected = {i: min(1.0, max((m - r) * ps[j] for r, j in enumerate(order[: order.index(i) + 1]))) for i in range(m)}
        assert holm(ps) == pytest.approx([expected[i] for i in range(m)])

    def test_one_comparison_is_left_as_it_is(self):
        assert holm([0.03]) == [0.03]
        assert holm([]) == []


class TestRows:
    def evaluations(self, *scores):
        return [{"per_image": [{"name": f"i{n}", "dice": v} for n, v in enumerate(one)]} for one in scores]

    def test_seeds_are_averaged_image_by_image(self):
        assert image_scores(self.evaluations([0.5, None, 1.0], [0.7, None, None]), "dice") == {"i0": 0.6, "i1": None, "i2": 1.0}

    def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not(self):
        rng = np.random.default_rng(0)
        base = rng.uniform(0.6, 0.9, 40)
        sides = {"first": base, "better": base + 0.05 + rng.normal(0, 0.02, 40), "alike": base + rng.normal(0, 0.02, 40)}
        rows = rows_of({name: {f"i{n}": float(v) for n, v in enumerate(values)} for name, values in sides.items()}, "first", None)
        assert [r["name"] for r in rows] == list(sides)
        assert rows[0]["difference"] is None
        better, alike = rows[1]["difference"], rows[2]["difference"]
        assert better["p_holm"] < 0.01 < 0.05 < alike["p_holm"]
        assert better["low"] > 0
        assert alike["low"] < 0 < alike["high"]
        assert better["mean"] == pytest.approx(sides["better"].mean() - base.mean())

    def test_only_images_of_both_are_compared(self):
        rows = rows_of({"first": {"a": 0.5, "b": 0.6}, "other": {"b": 0.9, "c": 0.1}}, "first", None)
        assert rows[1]["difference"]["mean"] == pytest.approx(0.3)
        assert rows[1]["score"] == pytest.approx(0.5)


class TestForecast:
    def curve(self, rng, a, b, c, counts, images=40, noise=NOISE):
        """Points of a known curve: images of different difficulty, and chance of training."""
        hard = rng.normal(0, 0.08, images)
        scores = {n: a - b * n**-c + rng.normal(0, noise) + hard + rng.normal(0, 0.03, images) for n in counts}
        return {n: {f"i{k}": float(v) for k, v in enumerate(own)} for n, own in scores.items()}

    def test_covers_what_known_curves_give(self):
        """Of 200 curves, whose parameters are drawn at random: the 95 % interval is to hold what another training would give on the
        same images. As hard as they are for both, so what differs between image sets does not count."""
        rng, covered = np.random.default_rng(1), 0
        for _ in range(200):
            a, c = rng.uniform(0.75, 0.95), rng.uniform(0.2, 1.2)
            b = rng.uniform(0.1, 0.5) * 5**c
            points = self.curve(rng, a, b, c, (5, 10, 20))
            hard = np.mean([list(p.values()) for p in points.values()]) - np.mean([a - b * n**-c for n in points])
            true = min(1.0, max(0.0, a - b * 200**-c + hard + rng.normal(0, NOISE)))
            found = forecast(points, targets=[200])["targets"][0]
            covered += found["low"] <= true <= found["high"]
        assert covered >= 180

    def test_more_images_never_forecast_less_and_a_flat_curve_stays_flat(self):
        rng = np.random.default_rng(0)
        found = forecast(self.curve(rng, 0.9, 0.6, 0.7, (5, 10, 20, 40)))
        scores = [t["score"] for t in found["targets"]]
        assert scores == sorted(scores)
        assert [t["images"] for t in found["targets"]] == [40 * k for k in AHEAD]
        flat = forecast(self.curve(rng, 0.8, 0.0, 0.5, (10, 20, 40), noise=0.0))
        assert flat["targets"][0]["high"] < 0.9

    def test_intervals_widen_ahead_and_stay_within_0_and_1(self):
        found = forecast(self.curve(np.random.default_rng(3), 1.0, 0.9, 0.4, (5, 10, 20)))["targets"]
        widths = [t["high"] - t["low"] for t in found]
        assert widths[0] < widths[-1]
        assert all(0 <= t["low"] <= t["score"] <= t["high"] <= 1 for t in found)

    def test_one_point_says_nothing(self):
        assert forecast({5: {"a": 0.5}}) is None
        assert forecast({5: {"a": None}, 10: {"a": 0.5}}) is None


class TestAFullDisk:
    """Whatever follows would fail, too."""

    @pytest.mark.parametrize(("error", "code"), [
        (DiskFullError("the disk is full"), cell.DISK_FULL), (OSError(errno.ENOSPC, "No space left on device"), cell.DISK_FULL),
        (ReadError("is damaged"), 1)])
    def test_a_training_says_so_to_who_began_it(self, tmp_path, monkeypatch, capsys, error, code):
        def fail(*_):
            raise error

        monkeypatch.setattr(cell, "run_cell", fail)
        monkeypatch.setattr(cell, "_end_with_parent", lambda: None)
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # main may take it away
        assert cell.main(tmp_path) == code

    @pytest.mark.parametrize(("code", "begun"), [(cell.DISK_FULL, 1), (1, 3)])
    def test_no_other_training_is_begun(self, tmp_path, monkeypatch, code, begun):
        lines = []
        original = subprocess.Popen

        def begin(line, **how):
            lines.append(line)
            return original([sys.executable, "-c", f"raise SystemExit({code})"], **how)

        monkeypatch.setattr(run.subprocess, "Popen", begin)
        cells = [Cell(Recipe(name="r"), 0, fold, None, Split(("a",), ("b",))) for fold in (1, 2, 3)]
        told = (cells, tmp_path, {"minutes": None, "data": "data"}, CompareOptions(), Silent())
        if code == cell.DISK_FULL:
            with pytest.raises(DiskFullError, match="fold-1"):
                run._run_all(*told)
        else:
            assert len(run._run_all(*told)) == 3
        assert len(lines) == begun


class TestDetectors:
    """Beside other systems: their files are joined over folds too, and their operations are not counted."""

    def test_detections_of_folds_are_joined(self, tmp_path):
        found = {"a.png": [[1.0, 2.0, 3.0, 4.0]], "b.png": [], "c.png": [[5.0, 6.0, 1.0, 1.0]]}
        for fold, names in (("1", ["a.png", "b.png"]), ("2", ["c.png"])):
            images = [DetectedImage(n, (10, 12), np.full(len(found[n]), 7), np.full(len(found[n]), 0.5),
                                    np.array(found[n]).reshape(-1, 4)) for n in names]
            write_detections(tmp_path / fold / DETECTIONS, images, [Category("cell", 7)])
            (tmp_path / fold / "run.json").write_text(json.dumps({"images": {name: {} for name in names}}))
        out = joined(tmp_path, "detector-seed-0", [tmp_path / "1", tmp_path / "2"])
        assert {i.file_name: i.boxes.tolist() for i in read_detections(out / DETECTIONS).images} == found

    def test_operations_are_not_counted(self):
        recipe = Recipe(name="d", network=NetworkSettings(name="mask-rcnn"))
        header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=2, kind="instances",
                             legend=Legend.of_values([0, 1]).to_json())
        assert operations(Model(nn.Identity(), header, Path())) is None
