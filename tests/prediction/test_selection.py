"""What of a file is an image: as in training, unless told."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from biomask import api
from biomask.checkpoint import load_model
from biomask.errors import ManyErrors, PairingError
from biomask.evaluation.evaluate import judge
from biomask.io import read_image, read_label_values
from biomask.io.files import write_picture
from biomask.prediction import record as record_module
from biomask.progress import Silent
from biomask.recipe import DataSettings
from biomask.reports.write import evaluation_examples
from biomask.stored import Selection

TINY = ("network.options.width=2", "network.options.depth=1", "training.batch=2")


class Heard(Silent):
    def __init__(self):
        self.warned, self.said = [], []

    def say(self, message):
        self.said.append(message)

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


class TestAgain:
    """What is done is done for this selection of this file alone."""

    def test_another_plane_is_predicted_again(self, tmp_path, tiny_model):
        images = stacks(tmp_path / "data", "ZYX", "ZYX", 2) / "images"
        options = [api.PredictOptions(device="cpu", selection=Selection(z=z)) for z in (0, 4, 4)]
        results, masks = [], []
        for o in options:
            results.append(api.predict(tiny_model, images, tmp_path / "out", o))
            masks.append(read_label_values(tmp_path / "out" / "masks" / "s 0.tif").array)
        assert [len(r.done) for r in results] == [2, 2, 0]
        assert not np.array_equal(masks[0], masks[1])
        record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
        assert {e["selection"]["z"] for e in record["images"].values()} == {4}

    def test_the_same_channels_are_not(self, tmp_path, tiny_model):
        images = stacks(tmp_path / "data", "ZYX", "ZYX", 1) / "images"
        options = api.PredictOptions(device="cpu", selection=Selection(z=1, channels=("0",)))
        assert api.predict(tiny_model, images, tmp_path / "out", options).done
        assert api.predict(tiny_model, images, tmp_path / "out", options).skipped == ("s 0",)

    def test_a_file_is_hashed_once_a_run(self, tmp_path, tiny_model, monkeypatch):
        images, hashed, real = stacks(tmp_path / "data", "ZYX", "ZYX", 2) / "images", [], record_module.file_hash
        monkeypatch.setattr(record_module, "file_hash", lambda path: hashed.append(path.name) or real(path))
        options = api.PredictOptions(device="cpu", selection=Selection(z="each"))
        for count in (10, 0):
            hashed.clear()
            assert len(api.predict(tiny_model, images, tmp_path / "out", options).done) == count
            assert sorted(hashed) == ["s 0.tif", "s 1.tif"]

    def test_a_file_called_like_a_plane(self, tmp_path, tiny_model):
        images = stacks(tmp_path / "data", "ZYX", "ZYX", 1) / "images"
        tifffile.imwrite(images / "S 0_Z003.tif", volume(0)[0])
        with pytest.raises(PairingError, match=r"(?s)s 0\.tif \(z 3\).*S 0_Z003\.tif|S 0_Z003\.tif.*s 0\.tif \(z 3\)"):
            predict(tiny_model, images, tmp_path / "out", selection=Selection(z="each"))


@pytest.mark.parametrize(("channels", "told"), [(3, "grey"), (1, "rgb"), (1, None)])
def test_the_report_of_images_read_as_in_training(tmp_path, make_dataset, channels, told):
    """Grey saved in colour is taken as one channel without being told."""
    if told is None:
        data, settings = stacks(tmp_path / "data", "ZYX", "ZYX"), {"z": "each"}
    else:
        data = make_dataset(tmp_path / "data", size=(24, 32), channels=channels)
        settings = {"channels": ("rgb",)} if told == "rgb" else {}
        for path in (data / "images").glob("*.png") if told == "grey" else ():
            grey = read_image(path).array[:1]
            write_picture(path, np.repeat(grey, 3, axis=0))
    model = train(data, tmp_path / "model", **settings)
    assert load_model(model).header.recipe.data.channels == ((told,) if told else None)
    predict(model, data / "images", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 3


NAMES = ("DAPI", "GFP")


@pytest.fixture(scope="module")
def named_model(tmp_path_factory) -> Path:
    """A model of two channels with names."""
    data = tmp_path_factory.mktemp("named") / "data"
    TestChannelNames.write(data / "images", NAMES, (0, 1))
    (data / "masks").mkdir()
    for i in range(3):
        tifffile.imwrite(data / "masks" / f"im {i}.tif", np.where(volume(10 * i)[0] > 120, 255, 0).astype(np.uint8))
    return train(data, data.parent / "model")


class TestChannelNames:
    @staticmethod
    def write(folder: Path, names: tuple[str, ...], order: tuple[int, ...], count: int = 3) -> Path:
        """Images of channels called so, the k-th of which has the values of the training's order[k]-th."""
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            array = np.stack([volume(10 * i + k)[0] // (1 + k) for k in order])
            tifffile.imwrite(folder / f"im {i}.ome.tif", array, ome=True,
                             metadata={"axes": "CYX", "Channel": {"Name": list(names)}})
        return folder

    def test_another_order_is_mended_and_said(self, tmp_path, named_model):
        assert load_model(named_model).header.channel_names == NAMES
        straight = self.write(tmp_path / "a", NAMES, (0, 1))
        turned = self.write(tmp_path / "b", ("x", "gfp", "Dapi"), (1, 1, 0))
        heard = Heard()
        for folder, out in ((straight, "out a"), (turned, "out b")):
            api.predict(named_model, folder, tmp_path / out, api.PredictOptions(device="cpu"), progress=heard)
            assert sum("picked by name" in line for line in heard.said) == (folder == turned)
        masks = [read_label_values(tmp_path / out / "masks" / "im 0.tif").array for out in ("out a", "out b")]
        assert np.array_equal(*masks)
        assert (tmp_path / "out b" / "report.html").is_file()

    def test_a_missing_name_is_an_error_but_told_numbers_are_not(self, tmp_path, named_model):
        folder = self.write(tmp_path / "a", ("DAPI", "Cy5"), (0, 1), 1)
        with pytest.raises(ManyErrors, match=r"(?s)no channel GFP.*1 Cy5.*--channels"):
            predict(named_model, folder, tmp_path / "out")
        assert predict(named_model, folder, tmp_path / "out", selection=Selection(channels=("0", "1")))["images"]

    def test_images_without_names_are_taken_as_they_are(self, tmp_path, named_model):
        (tmp_path / "a").mkdir()
        tifffile.imwrite(tmp_path / "a" / "im.tif", np.stack([volume(0)[0], volume(1)[0]]), metadata={"axes": "CYX"})
        assert predict(named_model, tmp_path / "a", tmp_path / "out")["images"]["im"]["channels"] is None


class TestEvaluated:
    """Predictions of planes are compared with planes of the truth."""

    @pytest.fixture
    def planes(self, tmp_path, tiny_model) -> tuple[Path, Path]:
        data = stacks(tmp_path / "data", "ZYX", "ZYX", 2)
        predict(tiny_model, data / "images", tmp_path / "out", selection=Selection(z="each"))
        return tmp_path / "out", data

    @pytest.mark.parametrize("truth", ["", "masks"])
    def test_each_plane(self, planes, truth, run_cli):
        out, data = planes
        with pytest.raises(PairingError, match="--z each"):
            judge(out, data / truth)
        found = judge(out, data / truth, settings=DataSettings(z="each"))
        assert {i["name"] for i in found.scores["per_image"]} == {f"s {i}_z{z:03d}" for i in range(2) for z in range(5)}
        mask = read_label_values(out / "masks" / "s 1_z002.tif").array[0]
        true = np.where(volume(1)[2] > 120, 255, 0)
        entry = next(i for i in found.scores["per_image"] if i["name"] == "s 1_z002")
        assert entry["pixel_error"] == pytest.approx((mask != true).mean())
        done = run_cli("evaluate", out, data / truth, "--z", "each", "--report", out.parent / "r.html", "--json", "-")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["n_images"] == 10
        assert (out.parent / "r.html").is_file()
        assert {e.name for e in evaluation_examples(found)} <= {i["name"] for i in found.scores["per_image"]}
        assert evaluation_examples(found)

    def test_masks_elsewhere(self, planes, run_cli):
        out, data = planes
        (data / "masks").rename(data.parent / "second")
        found = judge(out, data / "images", settings=DataSettings(z="each"), masks=data.parent / "second")
        assert found.scores["n_images"] == 10
        done = run_cli("evaluate", out, data / "images", "--masks", data.parent / "second", "--z", "each", "--json", "-")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["mean"] == found.scores["mean"]

    @pytest.mark.parametrize(("unlabelled", "count"), [(None, 10), ("background", 10), ("ignore", 9)])
    def test_planes_without_labels(self, planes, unlabelled, count):
        out, data = planes
        truth = np.where(volume(0) > 120, 255, 0).astype(np.uint8)
        truth[3] = 0
        tifffile.imwrite(data / "masks" / "s 0.tif", truth, imagej=True, metadata={"axes": "ZYX"})
        assert judge(out, data, settings=DataSettings(z="each", unlabelled=unlabelled)).scores["n_images"] == count

    @pytest.mark.parametrize(("unlabelled", "count"), [(None, 5), ("ignore", 5), ("background", 10)])
    def test_an_image_without_labels(self, planes, unlabelled, count):
        out, data = planes
        (data / "masks" / "s 0.tif").unlink()
        assert judge(out, data, settings=DataSettings(z="each", unlabelled=unlabelled)).scores["n_images"] == count

    def test_what_training_ignored_is_not_judged(self, tmp_path, make_dataset):
        data = make_dataset(tmp_path / "data", size=(24, 32), classes=(0, 1))
        for path in (data / "masks").glob("*.png"):
            mask = read_label_values(path).array[0].copy()
            mask[:5] = 255
            write_picture(path, mask.astype(np.uint8))
        model = train(data, tmp_path / "model", ignore=255)
        record = predict(model, data / "images", tmp_path / "out")
        assert record["ignore"] == 255
        heard = Heard()
        found = judge(tmp_path / "out", data, progress=heard).scores
        assert any("255" in line and "--ignore" in line for line in heard.said)
        assert found["ignore"] == 255
        assert {i["pixels"] for i in found["per_image"]} == {19 * 32}
        # Of labels in colour no value is ignored.
        colours = np.asarray([[0, 0, 0], [230, 159, 0]], np.uint8)
        for path in (data / "masks").glob("*.png"):
            mask = read_label_values(path).array[0]
            write_picture(path, np.moveaxis(colours[np.where(mask == 255, 0, mask)], -1, 0).copy())
        assert judge(tmp_path / "out", data).scores["ignore"] is None


def test_labels_beside_the_images_are_no_images(tmp_path, tiny_model):
    for i in range(3):
        tifffile.imwrite(tmp_path / f"x {i}.tif", volume(i)[0])
        tifffile.imwrite(tmp_path / f"x {i}_mask.tif", np.where(volume(i)[0] > 99, 255, 0).astype(np.uint8))
    record = predict(tiny_model, tmp_path, tmp_path.parent / f"{tmp_path.name} out")
    assert set(record["images"]) == {"x 0", "x 1", "x 2"}
