"""What people do wrong in the first hour, and what they must be told."""

import os
import shutil

import numpy as np
import pytest

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import BiomaskError, InputError, LabelsError, UsageError
from biomask.io import read_image
from biomask.io.files import write_picture
from biomask.progress import Silent

TINY = ("network.options.width=2", "network.options.depth=1", "training.batch=2")
CPU = api.PredictOptions(device="cpu")


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)

    warn = say


def half(value: int, side: int = 24) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[:, side // 2 :] = value
    return mask


def test_another_image_of_the_same_name_is_not_taken_for_done(tiny_model, tmp_path):
    """Cameras begin at img_001 every day, and a copy keeps its old date."""
    rng = np.random.default_rng(0)
    for folder in ("monday", "tuesday"):
        write_picture(tmp_path / folder / "img_001.png", rng.integers(0, 255, (40, 40)).astype(np.uint8))
    os.utime(tmp_path / "tuesday" / "img_001.png", (0, 0))
    api.predict(tiny_model, tmp_path / "monday", tmp_path / "out", CPU)
    assert api.predict(tiny_model, tmp_path / "tuesday", tmp_path / "out", CPU).done == ("img_001",)
    api.predict(tiny_model, tmp_path / "tuesday", tmp_path / "fresh", CPU)
    ours, fresh = (read_image(tmp_path / out / "masks" / "img_001.tif").array for out in ("out", "fresh"))
    assert np.array_equal(ours, fresh)


def test_masks_of_two_programs_are_refused_by_name(tmp_path):
    for i, value in enumerate((1, 1, 255)):
        write_picture(tmp_path / "data" / "images" / f"{i}.png", half(100))
        write_picture(tmp_path / "data" / "masks" / f"{i}.png", half(value))
    with pytest.raises(LabelsError, match=r"2 masks with 0 and 1 \(such as 0\.png, 1\.png\), 1 with 0 and 255 \(such as 2\.png\)"):
        api.train(tmp_path / "data", tmp_path / "m", api.TrainOptions(steps=1, settings=TINY, device="cpu"))


def test_tracked_cells_that_recur_in_every_frame_are_no_classes(tmp_path):
    mask = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((8, 8), np.uint8))
    for i in range(3):
        write_picture(tmp_path / "data" / "images" / f"t{i}.png", mask * 10)
        write_picture(tmp_path / "data" / "masks" / f"t{i}.png", mask)
    api.train(tmp_path / "data", tmp_path / "m", api.TrainOptions(steps=1, settings=TINY, device="cpu"))
    assert load_model(tmp_path / "m").header.kind == "instances"


def test_a_data_folder_is_not_predicted_with_its_masks(tiny_model, tiny_data, tmp_path):
    with pytest.raises(UsageError, match="masks would be predicted like images"):
        api.predict(tiny_model, tiny_data, tmp_path / "out", CPU)


def test_swapped_arguments_are_recognised(tiny_model, tiny_data, tmp_path):
    with pytest.raises(UsageError, match="is the model"):
        api.predict(tiny_data / "images", tiny_model, tmp_path / "out", CPU)
    with pytest.raises(BiomaskError, match="this is a model"):
        api.train(tiny_model, tmp_path / "m", api.TrainOptions(steps=1))
    with pytest.raises(BiomaskError, match="give the folder above"):
        api.train(tiny_data / "images", tmp_path / "m", api.TrainOptions(steps=1))


def test_a_folder_against_itself_is_no_evaluation(tiny_data):
    with pytest.raises(UsageError, match="the same folder"):
        api.evaluate(tiny_data, tiny_data)


def test_images_of_the_training_are_pointed_out(tiny_model, tiny_data, tmp_path):
    heard = Heard()
    api.predict(tiny_model, tiny_data / "images", tmp_path / "out", CPU, progress=heard)
    assert any("was trained on" in line for line in heard.lines)


def test_photographs_are_no_truth(tmp_path):
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    write_picture(tmp_path / "truth" / "a.png", grey)
    write_picture(tmp_path / "found" / "a.png", np.where(grey > 100, 255, 0).astype(np.uint8))
    with pytest.raises(LabelsError, match="images rather than masks"):
        api.evaluate(tmp_path / "found", tmp_path / "truth")


def test_somebody_elses_report_is_not_overwritten(tiny_data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("thesis")
    with pytest.raises(UsageError, match=r"report\.html"):
        api.train(tiny_data, tmp_path / "mine", api.TrainOptions(steps=1, settings=TINY, device="cpu"))
    assert (tmp_path / "mine" / "report.html").read_text() == "thesis"


def test_a_finished_training_in_minutes_is_not_trained_on(tiny_data, tmp_path):
    options = api.TrainOptions(minutes=0.02, settings=TINY, device="cpu")
    first = api.train(tiny_data, tmp_path / "m", options)
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    heard = Heard()
    again = api.train(tiny_data, tmp_path / "m", options, progress=heard)
    assert again.step == first.step
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert any("finished already" in line for line in heard.lines)
    longer = 0.03 + 2 * first.seconds / 60
    more = api.train(tiny_data, tmp_path / "m", api.TrainOptions(minutes=longer, settings=TINY, device="cpu"))
    assert more.step > first.step


def test_a_state_of_another_version_is_refused_with_the_way_out(tiny_data, tmp_path):
    from safetensors.numpy import load_file, save_file

    options = api.TrainOptions(steps=1, settings=TINY, device="cpu")
    api.train(tiny_data, tmp_path / "m", options)
    state = tmp_path / "m" / "resume" / "state.safetensors"
    save_file(load_file(state), state, metadata={"version": "99"})
    with pytest.raises(InputError, match="--overwrite"):
        api.train(tiny_data, tmp_path / "m", options)
    shutil.rmtree(tmp_path / "m" / "resume")
