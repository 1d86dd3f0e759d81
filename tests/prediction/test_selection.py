"""What of a file is an image: as in training, unless told."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import ManyErrors
from biomask.io import read_image, read_label_values
from biomask.progress import Silent
from biomask.stored import Selection

TINY = ("network.options.width=2", "network.options.depth=1", "training.batch=2")


class Heard(Silent):
    def __init__(self):
        self.warned = []

    def warn(self, message):
        self.warned.append(message)


def volume(seed: int, shape: tuple[int, ...] = (5, 24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def stacks(folder: Path, axes: str, masks: str, count: int = 3) -> Path:
    """ImageJ hyperstacks "ZYX" or "ZCYX", with masks of the whole volume or of its brightest plane."""
    for i in range(count):
        array = volume(i) if axes == "ZYX" else np.stack([volume(i), volume(i + 50)], axis=1)
        truth = volume(i).max(axis=0) if masks == "YX" else volume(i)
        for side, content, letters in (("images", array, axes), ("masks", np.where(truth > 120, 255, 0).astype(np.uint8), masks)):
            (folder / side).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / side / f"s {i}.tif", content, imagej=True, metadata={"axes": letters})
    return folder


def train(folder: Path, out: Path, **data: object) -> Path:
    return api.train(folder, out, api.TrainOptions(settings=TINY, steps=2, seed=0, device="cpu", data=data)).model


def predict(model: Path, images: Path, out: Path, **more: object) -> dict:
    api.predict(model, images, out, api.PredictOptions(device="cpu", **more))
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


def test_the_brightest_plane_of_one_channel_is_repeated(tmp_path):
    model = train(stacks(tmp_path / "data", "ZCYX", "YX"), tmp_path / "model", z="max", channels=("1",))
    assert load_model(model).header.recipe.data.selection == Selection(channels=("1",), z="max")
    assert load_model(model).header.in_channels == 1
    record = predict(model, tmp_path / "data" / "images", tmp_path / "out")
    assert record["images"]["s 1"]["size"] == [24, 32]
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(3):
        tifffile.imwrite(flat / f"s {i}.tif", volume(i + 50).max(axis=0))
    predict(model, flat, tmp_path / "out flat", selection=Selection(channels=("0",)))
    for i in range(3):
        masks = [read_label_values(tmp_path / o / "masks" / f"s {i}.tif").array for o in ("out", "out flat")]
        assert np.array_equal(*masks)


def test_each_plane_is_an_image_of_its_own(tmp_path):
    model = train(stacks(tmp_path / "data", "ZYX", "ZYX"), tmp_path / "model", z="each")
    record = predict(model, tmp_path / "data" / "images", tmp_path / "out")
    assert set(record["images"]) == {f"s {i}_z{z:03d}" for i in range(3) for z in range(5)}
    one = tmp_path / "one"
    one.mkdir()
    tifffile.imwrite(one / "plane.tif", volume(2)[3])
    predict(model, one, tmp_path / "out one")
    assert np.array_equal(read_label_values(tmp_path / "out one" / "masks" / "plane.tif").array,
                          read_label_values(tmp_path / "out" / "masks" / "s 2_z003.tif").array)


def test_a_volume_for_a_flat_model_is_told_what_to_type(tmp_path, tiny_model):
    stacks(tmp_path / "data", "ZYX", "ZYX", 1)
    with pytest.raises(ManyErrors, match="--z each"):
        predict(tiny_model, tmp_path / "data" / "images", tmp_path / "out")
    record = predict(tiny_model, tmp_path / "data" / "images", tmp_path / "out", selection=Selection(z="each"))
    assert len(record["images"]) == 5


def test_two_channels_for_a_model_of_one_are_told_what_to_type(tmp_path, tiny_model):
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.ome.tif", np.stack([volume(0)[0], volume(1)[0]]), ome=True,
                     metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    with pytest.raises(ManyErrors, match=r"(?s)--channels 0 \(there are 0 DAPI, 1 GFP\)"):
        predict(tiny_model, tmp_path / "images", tmp_path / "out")
    assert predict(tiny_model, tmp_path / "images", tmp_path / "out", selection=Selection(channels=("GFP",)))["images"]


def test_masks_of_nifti_volumes_lie_where_the_volumes_do(tmp_path, tiny_model_3d):
    affine = np.array([[-0.5, 0, 0.1, 10], [0, 0.7, 0, -20], [0.1, 0, 2, 5], [0, 0, 0, 1]])
    array = volume(3, (9, 12, 8)).astype(np.int16)
    (tmp_path / "images").mkdir()
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "images" / "case 1.nii.gz")
    predict(tiny_model_3d, tmp_path / "images", tmp_path / "out")
    mask = nibabel.load(tmp_path / "out" / "masks" / "case 1.nii.gz")
    assert mask.shape == array.shape
    assert np.allclose(mask.affine, affine, atol=1e-6)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 255}
    spacing = read_image(tmp_path / "out" / "masks" / "case 1.nii.gz").spacing
    assert spacing == pytest.approx(dict(zip("zyx", 1000 * np.linalg.norm(affine[:3, :3], axis=0)[::-1], strict=True)), rel=1e-5)


def test_missing_values_are_said(tmp_path, tiny_model):
    grey = volume(0)[0].astype(np.float32)
    grey[2, 3] = np.nan
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", grey)
    heard = Heard()
    api.predict(tiny_model, tmp_path / "images", tmp_path / "out", api.PredictOptions(device="cpu"), progress=heard)
    assert any("NaN" in line and "a (1)" in line for line in heard.warned)
