"""One reading tells the facts of images and labels, in order, and names every file that is bad."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage as ndi

from biomask.data.facts import Inspected
from biomask.data.layouts import find_layout
from biomask.data.pairing import Pair, Truth
from biomask.data.survey import AHEAD, MOST_IDS, file_hash, image_facts, inspect, label_facts, survey
from biomask.data.truth import Raw
from biomask.errors import LabelsError
from biomask.image import Image
from biomask.io.files import write_picture
from biomask.progress import Silent
from biomask.recipe import DataSettings

WHERE = Path("m.png")
SETTINGS = DataSettings()


def facts(array: np.ndarray, ignore: int | None = None, form: str = "values"):
    return label_facts(Raw(np.asarray(array), form), ignore, WHERE)


class TestLabelFacts:
    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(st.sampled_from([np.uint8, np.int16, np.uint16, np.int64]), st.tuples(st.integers(1, 9), st.integers(1, 9)),
                      elements=st.integers(0, 4)), st.sampled_from([None, 0, 3]))
    def test_against_a_brute_force(self, array, ignore):
        found = facts(array, ignore)
        values = sorted(set(array.ravel().tolist()))
        assert found.counts == {v: int((array == v).sum()) for v in values}
        assert (found.distinct, found.pixels, found.low, found.high) == (len(values), array.size, values[0], values[-1])
        foreground = [v for v in values if v not in (0, ignore)]
        assert found.objects == len(foreground)
        labelled = [ndi.label(array == v, np.ones((3, 3))) for v in foreground]
        assert found.pieces == sum(n for _, n in labelled)
        if foreground:
            areas = np.concatenate([np.bincount(a.ravel())[1:] for a, _ in labelled])
            assert found.areas == tuple(np.percentile(areas, [10, 50, 90]))
        assert found.empty == (not foreground)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32, np.uint64, bool])
    def test_of_any_dtype(self, dtype):
        assert facts(np.eye(6).astype(dtype)).counts == {0: 30, 1: 6}

    def test_large_and_negative_values(self):
        found = facts(np.array([[-5, 0], [2**40, 2**40]]))
        assert found.counts == {-5: 1, 0: 1, 2**40: 2}
        assert found.objects == 2

    def test_of_volumes(self):
        volume = np.zeros((6, 8, 8), np.uint8)
        volume[1, :3], volume[4, 5:] = 1, 2
        found = facts(volume)
        assert (found.pieces, found.gaps, found.ends) == (2, (2, 3), 2)
        assert (facts(volume * 0).gaps, facts(volume * 0).ends) == ((), 0)

    def test_levels_one_inside_the_other(self):
        y, x = np.ogrid[:40, :40]
        radius = np.hypot(y - 20, x - 20)
        nested = sum((radius < r).astype(np.uint8) for r in (15, 12, 9, 6)) * 63
        assert facts(nested).nested > 0.9
        blocks = np.kron(np.random.default_rng(0).permutation(16).reshape(4, 4) % 4, np.ones((10, 10), int)) * 85
        assert facts(blocks).nested < 0.6
        assert facts(np.eye(4, dtype=int)).nested is None

    def test_fractions(self):
        found = facts(np.array([[0, 0.5], [0.25, 1]], np.float32), form="fractions")
        assert (found.counts, found.distinct, found.low, found.high) == ({}, 4, 0, 1)

    def test_colours(self):
        rgb = np.zeros((3, 4, 4), np.uint8)
        rgb[0, :2] = 255
        found = facts(rgb, form="colours")
        assert found.counts == {0: 8, 0xFF0000: 8}
        assert (found.objects, found.pieces) == (1, 1)

    def test_forty_thousand_objects_are_objects(self):
        """A whole slide: each id in one piece."""
        ids = np.kron(np.arange(1, 40_001, dtype=np.int32).reshape(200, 200), np.ones((3, 3), np.int32))
        assert facts(ids).objects == 40_000
        assert facts(ids).single == 1

    def test_forty_thousand_grey_values_are_none(self):
        noise = np.random.default_rng(0).permutation(np.arange(360_000) % 40_000).reshape(600, 600)
        with pytest.raises(LabelsError, match="40000 distinct values: a grey image") as caught:
            facts(noise.astype(np.uint16))
        assert "--masks" in caught.value.fix
        assert caught.value.where == WHERE

    def test_a_smooth_grey_image_is_none(self):
        smooth = ndi.gaussian_filter(np.random.default_rng(0).normal(0, 1, (300, 300)), 9)
        smooth = ((smooth - smooth.min()) / np.ptp(smooth) * 60_000).astype(np.uint16)
        with pytest.raises(LabelsError, match="grey image"):
            facts(smooth)

    def test_a_ramp_is_none(self):
        """Each value in one piece of a pixel or two, as no object is."""
        with pytest.raises(LabelsError, match="grey image"):
            facts(np.arange((MOST_IDS + 4) * 2).reshape(2, -1) // 2)


class TestImageFacts:
    def test_of_an_image(self):
        array = np.arange(2 * 6 * 5, dtype=np.uint16).reshape(2, 6, 5)
        found = image_facts(Image(array, "cyx", "a", {"y": 0.5, "x": 0.25}, ("DAPI", "GFP")))
        assert (found.size, found.axes, found.channels, found.dtype) == ((6, 5), "cyx", 2, "uint16")
        assert (found.low, found.high, found.not_finite, found.grey) == (0, 59, 0, False)
        assert found.spacing == {"y": 0.5, "x": 0.25}
        assert found.channel_names == ("DAPI", "GFP")

    def test_what_is_not_finite_is_counted(self):
        array = np.ones((1, 4, 4), np.float32)
        array[0, 0] = [np.nan, np.inf, -np.inf, 3]
        found = image_facts(Image(array, "cyx", "a"))
        assert (found.low, found.high, found.not_finite) == (1, 3, 3)
        assert np.isnan(image_facts(Image(array * np.nan, "cyx", "a")).low)

    def test_saturation_of_the_worst_channel(self):
        array = np.zeros((2, 4, 4), np.uint8)
        array[1, :2] = 255
        assert image_facts(Image(array, "cyx", "a")).at_top == 0.5
        assert image_facts(Image(array * 0, "cyx", "a")).at_top == 0

    def test_grey_in_colour(self):
        plane = np.arange(16, dtype=np.uint8).reshape(4, 4)
        assert image_facts(Image(np.stack([plane] * 3), "cyx", "a")).grey
        assert not image_facts(Image(np.stack([plane, plane, plane + 1]), "cyx", "a")).grey
        assert not image_facts(Image(plane[None], "cyx", "a")).grey


class TestInspect:
    def pair(self, folder: Path, name: str = "a") -> Pair:
        write_picture(folder / f"{name}.png", np.arange(400, dtype=np.uint8).reshape(20, 20))
        write_picture(folder / f"{name}_mask.png", np.eye(20, dtype=np.uint8))
        return Pair(name, folder / f"{name}.png", Truth("mask", (folder / f"{name}_mask.png",)))

    def test_a_good_one(self, tmp_path):
        found = inspect(self.pair(tmp_path), SETTINGS, lambda image, raws: (image.size, len(raws)))
        assert isinstance(found, Inspected)
        assert found.extra == ((20, 20), 1)
        assert found.hashes == {"a:image": hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest(),
                                "a:labels": file_hash(tmp_path / "a_mask.png")}

    def test_both_files_are_named_when_both_are_bad(self, tmp_path):
        pair = self.pair(tmp_path)
        for path in (pair.image, pair.truth.files[0]):
            path.write_bytes(b"broken")
        assert {e.where for e in inspect(pair, SETTINGS)} == {pair.image, pair.truth.files[0]}

    def test_a_bad_image_brings_no_complaint_of_its_mask_s_size(self, tmp_path):
        pair = self.pair(tmp_path)
        pair.image.write_bytes(b"")
        assert [e.where for e in inspect(pair, SETTINGS)] == [pair.image]

    @pytest.mark.parametrize(("array", "said"), [
        (np.full((20, 20), np.nan, np.float32), "400 of its values are NaN or infinite"),
        (np.zeros((1, 1), np.uint8), "1 x 1 pixels"), (np.zeros((4, 90), np.uint8), "4 x 90 pixels")])
    def test_images_that_nothing_can_be_learnt_from(self, tmp_path, array, said):
        tifffile.imwrite(tmp_path / "a.tif", array)
        (error,) = inspect(Pair("a", tmp_path / "a.tif", None), SETTINGS)
        assert said in error.what
        assert error.fix

    def test_a_file_that_vanishes_is_named(self, tmp_path, monkeypatch):
        def gone(path):
            raise FileNotFoundError(2, "No such file or directory", str(path))

        pair = self.pair(tmp_path)
        monkeypatch.setattr("biomask.data.survey.file_hash", gone)
        (error,) = inspect(pair, SETTINGS)
        assert "a.png" in str(error)

    def test_hashes_follow_the_content(self, tmp_path):
        pair = self.pair(tmp_path)
        before = inspect(pair, SETTINGS).hashes
        write_picture(pair.truth.files[0], np.eye(20, dtype=np.uint8)[::-1])
        after = inspect(pair, SETTINGS).hashes
        assert before["a:image"] == after["a:image"]
        assert before["a:labels"] != after["a:labels"]


class TestSurvey:
    def folder(self, tmp_path: Path, count: int = 12) -> Path:
        for i in range(count):
            write_picture(tmp_path / "images" / f"{i:02d}.png", np.full((12, 12 + i), i, np.uint8))
            write_picture(tmp_path / "masks" / f"{i:02d}.png", np.eye(12, 12 + i, dtype=np.uint8))
        return tmp_path

    def test_in_the_order_of_the_pairs(self, tmp_path):
        pairs = find_layout(self.folder(tmp_path)).pairs
        found = survey(pairs, SETTINGS, Silent(), lambda image, raws: time.sleep(0.02 * (image.size[1] % 3)))
        assert [i.pair.name for i in found.good] == [p.name for p in pairs]
        assert [i.image.size for i in found.good] == [(12, 12 + n) for n in range(12)]

    def test_all_bad_files_in_order(self, tmp_path):
        self.folder(tmp_path)
        for path in ("images/03.png", "masks/03.png", "masks/07.png", "images/11.png"):
            (tmp_path / path).write_bytes(b"")
        found = survey(find_layout(tmp_path).pairs, SETTINGS, Silent())
        assert {n: len(e) for n, e in found.bad.items()} == {"03": 2, "07": 1, "11": 1}
        assert list(found.bad) == ["03", "07", "11"]
        assert len(found.good) == 9

    def test_few_are_read_ahead(self, tmp_path):
        """All results together may not fit in memory: a slow image holds up those behind it."""
        pairs, started = find_layout(self.folder(tmp_path, 40)).pairs, []

        def probe(image, raws):
            started.append(image.size)
            if image.size == (12, 12):
                time.sleep(0.3)
                return len(started)
            return None

        first = survey(pairs, SETTINGS, Silent(), probe).good[0].extra
        assert len(started) == 40
        assert first <= (AHEAD + 1) * len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else True

    def test_progress_ends_at_one(self, tmp_path):
        class Heard(Silent):
            def __init__(self):
                self.seen = []

            def bar(self, title):
                outer = self

                class Bar:
                    def __enter__(self):
                        return self

                    def __exit__(self, *error):
                        return None

                    def update(self, share, text=""):
                        outer.seen.append((share, text))

                return Bar()

        heard = Heard()
        survey(find_layout(self.folder(tmp_path, 4)).pairs, SETTINGS, heard)
        assert heard.seen == [(0.25, "00"), (0.5, "01"), (0.75, "02"), (1.0, "03")]

    def test_nothing(self):
        found = survey((), SETTINGS, Silent())
        assert (found.good, found.bad) == ((), {})

    def test_a_file_of_many_planes_is_hashed_once(self, tmp_path, monkeypatch):
        from biomask.data import survey as module
        from biomask.data.understand import split_planes

        for side in ("images", "masks"):
            (tmp_path / side).mkdir()
            tifffile.imwrite(tmp_path / side / "v.tif", np.ones((20, 12, 12), np.uint8), imagej=True, metadata={"axes": "ZYX"})
        hashed = []
        monkeypatch.setattr(module, "file_hash", lambda path: hashed.append(path) or "0")
        each = DataSettings(z="each")
        layout, _ = split_planes(find_layout(tmp_path), each)
        assert len(survey(layout.pairs, each, Silent()).good) == 20
        assert len(hashed) < 10
