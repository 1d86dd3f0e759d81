"""`--rescale`: images become like those in training, results keep the images' own pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import load_model
from biomask.errors import ManyErrors, UsageError
from biomask.image import Image
from biomask.instances import Thresholds
from biomask.io.files import write_picture
from biomask.prediction.options import parse_rescale
from biomask.prediction.rescale import factors_of, resampled, rescaled_image, rescaled_thresholds, scaled_size

HALF = {"y": 0.5, "x": 0.5}


def save(path: Path, image: np.ndarray, spacing: float | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if spacing is None:
        write_picture(path.with_suffix(".png"), image)
    else:
        tifffile.imwrite(path, image, imagej=True, resolution=(1 / spacing, 1 / spacing), metadata={"axes": "YX", "unit": "um"})


def record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


class TestResampling:
    @settings(max_examples=30, deadline=None)
    @given(size=st.tuples(st.integers(1, 30), st.integers(1, 30)), factors=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)),
           value=st.floats(-1e3, 1e3))
    def test_a_constant_image_stays_one(self, size, factors, value):
        out = resampled(np.full((2, *size), value), scaled_size(size, factors))
        assert out.shape == (2, *scaled_size(size, factors))
        assert np.allclose(out, value, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("factor", [0.5, 0.37, 2.0, 1.7])
    def test_places_stay_where_they_are(self, factor):
        """A ramp along x is the same ramp on the new grid, by the middles of pixels."""
        ramp = np.tile(np.arange(60.0), (40, 1))[None]
        size = scaled_size((40, 60), (factor, factor))
        out = resampled(ramp, size)[0]
        middles = (np.arange(size[1]) + 0.5) * 60 / size[1] - 0.5
        inside = slice(size[1] // 4, -size[1] // 4)
        assert np.allclose(out[:, inside], middles[inside], atol=0.05)

    def test_what_becomes_smaller_is_smoothed_first(self):
        stripes = np.tile([0.0, 100.0], (40, 20))[None]
        out = resampled(stripes, (10, 10))
        assert np.abs(out - 50).max() < 10

    def test_missing_values_do_not_spread(self):
        array = np.full((1, 20, 20), 7.0)
        array[0, 5, 5], array[0, 6, 6] = np.nan, np.inf
        assert np.allclose(resampled(array, (10, 10)), 7)

    def test_the_spacing_follows(self):
        found = rescaled_image(Image(np.zeros((1, 20, 30)), "cyx", "a", {"y": 0.25, "x": 0.25}), (0.5, 0.5))
        assert found.size == (10, 15)
        assert found.spacing == pytest.approx(HALF)

    def test_volumes_by_axis(self):
        found = rescaled_image(Image(np.zeros((1, 6, 20, 30)), "czyx", "a", {"z": 2.0, "y": 0.25, "x": 0.25}), (1.0, 0.5, 0.5))
        assert found.size == (6, 10, 15)
        assert found.spacing == pytest.approx({"z": 2.0, **HALF})


def test_thresholds_keep_their_size_in_micrometres():
    found, own = rescaled_thresholds(Thresholds(sigma=2.0, min_size=40), (0.5, 0.5), HALF)
    assert (found.sigma, found.min_size) == (4.0, 160)
    assert own == {"y": 0.25, "x": 0.25}
    thin, own = rescaled_thresholds(Thresholds(sigma=1.0), (1.0, 0.5, 0.5), {"z": 2.0, **HALF})
    assert thin.sigma * min(own.values()) == pytest.approx(1.0 * 0.5)


class TestPredicted:
    @pytest.mark.parametrize("kind", ["classes", "instances", "multilabel"])
    def test_a_finer_image_gives_the_finer_mask(self, tmp_path, rule_model, draw_scene, kind):
        """Twice as many pixels along each axis, half the spacing: the same objects, at twice the size."""
        coarse = draw_scene(1, count=4)
        fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
        save(tmp_path / "coarse" / "a.tif", coarse, 0.5)
        save(tmp_path / "fine" / "a.tif", fine, 0.25)
        model = rule_model(tmp_path / "m", kind, spacing=HALF)
        options = PredictOptions(device="cpu", rescale="auto")
        outs = [api.predict(model, tmp_path / n, tmp_path / f"out {n}", options).out for n in ("coarse", "fine")]
        structure = "disc" if kind == "multilabel" else ""
        masks = [tifffile.imread(out / "masks" / structure / "a.tif") > 0 for out in outs]
        assert masks[1].shape == fine.shape
        both = masks[0].repeat(2, axis=0).repeat(2, axis=1)
        assert 2 * (both & masks[1]).sum() / (both.sum() + masks[1].sum()) > 0.9
        counts = [record(out)["images"]["a"]["objects"] for out in outs]
        assert counts[0] == counts[1]
        assert record(outs[1])["images"]["a"]["factors"] == pytest.approx([0.5, 0.5])
        assert record(outs[0])["images"]["a"]["factors"] is None

    def test_factors_near_one_change_nothing(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), 0.52)
        model = rule_model(tmp_path / "m", "instances", spacing=HALF)
        plain = api.predict(model, tmp_path / "images", tmp_path / "plain", PredictOptions(device="cpu")).out
        auto = api.predict(model, tmp_path / "images", tmp_path / "auto", PredictOptions(device="cpu", rescale="auto")).out
        for name in ("masks/a.tif", "labels/a.tif", "objects.csv"):
            assert (plain / name).read_bytes() == (auto / name).read_bytes()
        assert record(plain)["warnings"] == []

    def test_probabilities_are_on_the_images_grid(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), None)
        out = api.predict(rule_model(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out",
                          PredictOptions(device="cpu", rescale=(0.5,), probabilities=True)).out
        maps = tifffile.imread(out / "probabilities" / "a.tif")
        assert maps.shape == (2, 60, 70)
        assert np.allclose(maps.sum(axis=0), 1, atol=1e-5)
        assert np.array_equal(tifffile.imread(out / "masks" / "a.tif") > 0, maps[1] > 0.5)

    def test_another_factor_is_another_prediction(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), None)
        model = rule_model(tmp_path / "m", "classes")
        for rescale, done in ((None, ("a",)), ((0.5,), ("a",)), ((0.5,), ()), ((0.6,), ("a",)), (None, ("a",))):
            options = PredictOptions(device="cpu", rescale=rescale)
            assert api.predict(model, tmp_path / "images", tmp_path / "out", options).done == done


class TestSaid:
    def test_the_warning_names_what_to_type_and_it_helps(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), 0.26)
        save(tmp_path / "images" / "b.tif", draw_scene(2), 0.5)
        model = rule_model(tmp_path / "m", "classes", spacing=HALF)
        result = api.predict(model, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu"))
        assert len(result.warnings) == 1
        assert result.warnings[0].startswith("1 of 2 images have pixels of another size")
        assert "--rescale 0.52" in result.warnings[0]
        assert result.warnings[0].endswith(": a")
        assert record(result.out)["images"]["a"]["warnings"] == ["a pixel is 0.26 µm, in training 0.5 µm: --rescale 0.52"]
        assert record(result.out)["warnings"] == list(result.warnings)
        for text in ("0.52", "auto"):
            again = api.predict(model, tmp_path / "images" / "a.tif", tmp_path / text,
                                PredictOptions(device="cpu", rescale=parse_rescale(text)))
            assert again.warnings == ()

    def test_auto_where_nobody_knows(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), None)
        auto = PredictOptions(device="cpu", rescale="auto")
        with pytest.raises(UsageError, match="training"):
            api.predict(rule_model(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out", auto)
        assert not (tmp_path / "out").exists()
        with pytest.raises(ManyErrors, match=r"a\.png.*this file does not state"):
            api.predict(rule_model(tmp_path / "m2", "classes", spacing=HALF), tmp_path / "images", tmp_path / "out", auto)

    @pytest.mark.parametrize("text", ["", "half", "0", "-1", "nan", "inf", "1,2,3,4", "0.5;0.5", "1e9", "0.5,"])
    def test_nonsense(self, text):
        with pytest.raises(UsageError, match="--rescale"):
            PredictOptions(rescale=parse_rescale(text))

    def test_a_number_of_factors_that_does_not_fit(self, tmp_path, rule_model, draw_scene):
        save(tmp_path / "images" / "a.tif", draw_scene(1), None)
        with pytest.raises(UsageError, match="3 factors"):
            api.predict(rule_model(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out",
                        PredictOptions(device="cpu", rescale=(1.0, 0.5, 0.5)))


def test_factors_of_one_are_none(tmp_path, rule_model):
    header = load_model(rule_model(tmp_path / "m", "classes")).header
    assert factors_of((1.0, 1.0), Image(np.zeros((1, 4, 4)), "cyx", "a"), header) is None
    assert factors_of((0.5,), Image(np.zeros((1, 4, 4)), "cyx", "a"), header) == (0.5, 0.5)
