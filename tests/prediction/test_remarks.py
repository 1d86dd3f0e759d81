"""What `predict` says of images unlike those in training, and of classes that it never found."""

import json
from pathlib import Path

import numpy as np
import pytest

from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import load_model
from biomask.data.appearance import appearance_of
from biomask.data.input_range import InputRange
from biomask.image import Image
from biomask.io.files import write_picture
from biomask.progress import Silent

CPU = PredictOptions(device="cpu")


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings = list[str]()

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def inputs_of(arrays: list[np.ndarray]) -> InputRange:
    looks = [appearance_of(Image(a[None], "cyx", "a")) for a in arrays]
    return InputRange.of([a.shape for a in arrays], [None] * len(arrays), [look for look in looks if look])


def record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


class TestOutside:
    @pytest.fixture
    def model(self, tmp_path, rule_model, draw_scene) -> Path:
        return rule_model(tmp_path / "m", "classes", inputs=inputs_of([draw_scene(i) // 4 for i in range(30, 40)]))

    def test_images_are_named_in_one_line_a_difference(self, tmp_path, model, draw_scene):
        for i in range(4):
            write_picture(tmp_path / "images" / f"good {i}.png", draw_scene(i) // 4)
        for i in range(7):
            write_picture(tmp_path / "images" / f"pale {i}.png", draw_scene(i) // 4 + 150)
        heard = Heard()
        out = api.predict(model, tmp_path / "images", tmp_path / "out", CPU, progress=heard).out
        lines = [w for w in heard.warnings if "brighter than any in training" in w]
        assert lines == ["7 of 11 images are brighter than any in training: pale 0, pale 1, pale 2, pale 3, pale 4 …"]
        assert record(out)["warnings"] == heard.warnings
        assert record(out)["images"]["good 0"]["warnings"] == []
        assert "in training below" in record(out)["images"]["pale 3"]["warnings"][0]
        assert next(iter(record(out)["images"]["pale 3"]["outside"])) == "bright"

    def test_images_of_earlier_runs_count(self, tmp_path, model, draw_scene):
        write_picture(tmp_path / "images" / "pale.png", draw_scene(0) // 4 + 150)
        api.predict(model, tmp_path / "images", tmp_path / "out", CPU)
        write_picture(tmp_path / "images" / "good.png", draw_scene(1) // 4)
        result = api.predict(model, tmp_path / "images", tmp_path / "out", CPU)
        assert result.done == ("good",)
        assert "1 of 2 images are brighter than any in training: pale" in result.warnings

    def test_16_bits_are_named(self, tmp_path, model, draw_scene):
        import tifffile

        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "a.tif", (draw_scene(0) // 4).astype(np.uint16))
        assert "1 of 1 images have another bit depth than any in training: a" in api.predict(
            model, tmp_path / "images", tmp_path / "out", CPU).warnings

    def test_a_model_of_before_says_nothing(self, tmp_path, rule_model, draw_scene):
        write_picture(tmp_path / "images" / "a.png", draw_scene(0) // 4 + 150)
        assert api.predict(rule_model(tmp_path / "old", "classes"), tmp_path / "images", tmp_path / "out", CPU).warnings == ()


class TestNeverPredicted:
    def test_it_is_said_with_the_reasons_that_fit(self, tmp_path, rule_model):
        model = rule_model(tmp_path / "m", "three", shares={"background": 0.9, "cell": 0.098, "bright": 0.002},
                           scores={"validation.bright": 0.07, "validation.cell": 0.9})
        write_picture(tmp_path / "images" / "a.png", np.full((20, 20), 150, np.uint8))
        heard = Heard()
        out = api.predict(model, tmp_path / "images", tmp_path / "out", CPU, progress=heard).out
        assert record(out)["never_predicted"] == ["bright"]
        assert len(heard.warnings) == 1
        for part in ("'bright' was never predicted", "0.002", "Dice 0.07", "may hold none of it"):
            assert part in heard.warnings[0]

    def test_reasons_that_do_not_fit_are_left_out(self, tmp_path, rule_model):
        model = rule_model(tmp_path / "m", "three", shares={"bright": 0.2}, scores={"validation.bright": 0.9})
        write_picture(tmp_path / "images" / "a.png", np.full((20, 20), 150, np.uint8))
        (warning,) = api.predict(model, tmp_path / "images", tmp_path / "out", CPU).warnings
        assert warning == "'bright' was never predicted. What may be behind it: these images may hold none of it"

    def test_in_any_image_is_enough(self, tmp_path, rule_model):
        for name, value in (("a", 150), ("b", 250)):
            write_picture(tmp_path / "images" / f"{name}.png", np.full((20, 20), value, np.uint8))
        result = api.predict(rule_model(tmp_path / "m", "three"), tmp_path / "images", tmp_path / "out", CPU)
        assert result.warnings == ()
        assert record(result.out)["never_predicted"] == []


def test_training_keeps_the_range_and_the_shares(tiny_model):
    """Of the whole way: data folder → survey → model file."""
    header = load_model(tiny_model).header
    assert header.inputs is not None
    assert (header.inputs.images, header.inputs.dtypes, header.inputs.smallest) == (4, ("uint8",), (48, 48))
    low, high = header.inputs.bright[0]
    assert 180 < low <= high <= 255
    assert sum(header.shares.values()) == pytest.approx(1)


def test_training_images_themselves_lie_inside(tiny_model, tiny_data, tmp_path):
    result = api.predict(tiny_model, tiny_data / "images", tmp_path / "out", CPU)
    assert not [w for w in result.warnings if "than any in training" in w]
    assert record(result.out)["trained_on"] == ["im_00", "im_01", "im_02", "im_03"]
