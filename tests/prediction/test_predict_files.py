"""`predict` on folders: everything where the contract says, nothing lost, nothing done twice, nothing overwritten."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import biomask.prediction.one_image as one_image
import biomask.prediction.results as results
from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import MODEL_FILE, Model, load_model, save_model
from biomask.errors import (
    BiomaskError,
    DiskFullError,
    InputError,
    ManyErrors,
    MissingPathError,
    PairingError,
    ReadError,
    SizeError,
    UsageError,
)
from biomask.io import read_image, read_label_values
from biomask.io.files import write_picture
from biomask.prediction import predict_array
from biomask.prediction.options import parse_memory, parse_tile
from biomask.prediction.tile_size import output_bytes
from biomask.prediction.work import Work
from biomask.progress import Silent

CPU = PredictOptions(device="cpu")


@pytest.fixture(scope="session")
def model(tiny_model) -> Model:
    return load_model(tiny_model)


@pytest.fixture(scope="session")
def other_model(tiny_model, tmp_path_factory) -> Path:
    """The same network, but every pixel is class 255."""
    path = tmp_path_factory.mktemp("other") / MODEL_FILE
    opened = load_model(tiny_model)
    state = {k: v.clone() for k, v in opened.network.state_dict().items()}
    state["head.weight"].zero_()
    state["head.bias"] = torch.tensor([-5.0, 5.0])
    save_model(path, state, opened.header)
    return path.parent


def picture(path: Path, size=(20, 24), seed=0, channels=1) -> Path:
    array = np.random.default_rng(seed).integers(0, 255, (channels, *size)).astype(np.uint8)
    write_picture(path, array[0] if channels == 1 else array)
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    for i, name in enumerate(("a", "b", "c")):
        picture(tmp_path / "images" / f"{name}.png", seed=i)
    return tmp_path / "images"


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def record(out: Path) -> dict:
    return json.loads((out / "run.json").read_text(encoding="utf-8"))


class Interrupts(Silent):
    """Ctrl-C once the n-th image has begun."""

    def __init__(self, after):
        self.after = after

    def bar(self, title):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def update(self, fraction, note=""):
        if fraction > self.after:
            raise KeyboardInterrupt


class Heard(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)

    def warn(self, message):
        self.lines.append(message)


class TestOutputs:
    def test_everything_lies_where_the_contract_says(self, tiny_model, images, tmp_path):
        result = api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", probabilities=True))
        assert (result.done, result.skipped, result.out) == (("a", "b", "c"), (), tmp_path / "out")
        kinds = {"masks": "tif", "labels": "tif", "outlines": "png", "probabilities": "tif"}
        expected = [f"{kind}/{name}.{suffix}" for kind, suffix in kinds.items() for name in "abc"]
        assert set(files(tmp_path / "out")) == {*expected, "objects.csv", "images.csv", "run.json", "report.html"}

    def test_no_objects_where_they_are_not_wanted(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", objects=False))
        assert not (tmp_path / "out" / "labels").exists()
        assert not (tmp_path / "out" / "objects.csv").exists()

    def test_no_probabilities_unless_asked(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert not (tmp_path / "out" / "probabilities").exists()

    def test_masks_are_the_arg_max_in_the_datas_own_values(self, tiny_model, model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", probabilities=True))
        for name in "abc":
            image = read_image(images / f"{name}.png")
            mask = read_label_values(tmp_path / "out" / "masks" / f"{name}.tif")
            probabilities = read_image(tmp_path / "out" / "probabilities" / f"{name}.tif")
            logits = predict_array(model.network, image.array, statistics=model.normalization.statistics(image.array))
            assert mask.array.dtype == np.uint8
            assert np.array_equal(mask.array[0], np.array([0, 255])[logits.argmax(axis=0)])
            assert probabilities.array.dtype == np.float32
            assert probabilities.axes == "cyx"
            assert probabilities.channel_names == ("background", "class 255")
            assert np.allclose(probabilities.array, torch.from_numpy(logits).softmax(dim=0).numpy(), atol=1e-6)
            assert np.allclose(probabilities.array.sum(axis=0), 1, atol=1e-6)
            assert np.array_equal(mask.array[0] == 255, probabilities.array.argmax(axis=0) == 1)

    def test_spacing_is_handed_on(self, tiny_model, tmp_path):
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "a.tif", np.random.default_rng(0).integers(0, 9, (20, 20)).astype(np.uint16),
                         imagej=True, resolution=(2.0, 4.0), metadata={"axes": "YX", "unit": "um"})
        api.predict(tiny_model, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu", probabilities=True))
        for kind in ("masks", "probabilities"):
            assert read_image(tmp_path / "out" / kind / "a.tif").spacing == pytest.approx({"y": 0.25, "x": 0.5})

    def test_spacing_of_volumes_is_handed_on(self, tiny_model_3d, tmp_path):
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "a.tif", np.random.default_rng(0).integers(0, 9, (6, 10, 12)).astype(np.uint16),
                         imagej=True, resolution=(2.0, 4.0), metadata={"axes": "ZYX", "unit": "um", "spacing": 3.0})
        api.predict(tiny_model_3d, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu", probabilities=True))
        for kind in ("probabilities", "masks"):
            found = read_image(tmp_path / "out" / kind / "a.tif")
            assert found.size == (6, 10, 12)
            assert found.spacing == pytest.approx({"z": 3.0, "y": 0.25, "x": 0.5})

    def test_outlines_show_the_whole_picture(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert read_image(tmp_path / "out" / "outlines" / "a.png").array.shape == (3, 20, 24)

    def test_the_record_names_model_images_and_channels(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        found = record(tmp_path / "out")
        assert set(found["images"]) == {"a", "b", "c"}
        assert found["failed"] == {}
        assert [c["value"] for c in found["probability_channels"]] == [0, 255]
        assert sum(found["images"]["a"]["class_pixels"].values()) == 20 * 24
        assert found["images"]["a"]["size"] == [20, 24]

    def test_nested_folders_are_kept(self, tiny_model, tmp_path):
        for name in ("a.png", "day 1/a.png", "day 1/deep/b.tif.png"):
            picture(tmp_path / "images" / name)
        api.predict(tiny_model, tmp_path / "images", tmp_path / "out", CPU)
        assert files(tmp_path / "out" / "masks") == ["a.tif", "day 1/a.tif", "day 1/deep/b.tif.tif"]

    def test_one_file_alone(self, tiny_model, images, tmp_path):
        assert api.predict(tiny_model, images / "b.png", tmp_path / "out", CPU).done == ("b",)
        assert files(tmp_path / "out" / "masks") == ["b.tif"]

    @pytest.mark.parametrize("name", ["细胞 01", "Zellen äöü", "a.b.c", "x" * 200, "[red] (1) #", "100%"])
    def test_names(self, tiny_model, tmp_path, name):
        picture(tmp_path / "images" / f"{name}.png")
        assert api.predict(tiny_model, tmp_path / "images", tmp_path / "out", CPU).done == (name,)
        assert (tmp_path / "out" / "masks" / f"{name}.tif").is_file()
        assert name in record(tmp_path / "out")["images"]

    def test_a_name_that_is_no_utf8(self, tiny_model, tmp_path):
        """From an old Windows share; it must not stop the other images."""
        picture(tmp_path / "images" / "good.png")
        odd = os.fsencode(tmp_path / "images") + b"/zell\xe4.png"
        try:
            with open(odd, "wb") as file:
                file.write((tmp_path / "images" / "good.png").read_bytes())
        except OSError:
            pytest.skip("this disk takes no such name")
        try:
            done = api.predict(tiny_model, tmp_path / "images", tmp_path / "out", CPU).done
        except ManyErrors:
            done = ("good",)
        assert "good" in done
        assert (tmp_path / "out" / "masks" / "good.tif").is_file()

    def test_a_model_object_a_folder_and_a_bare_file_do_the_same(self, tiny_model, model, images, tmp_path):
        outs = []
        for i, given in enumerate((tiny_model, tiny_model / MODEL_FILE, model, str(tiny_model))):
            api.predict(given, images, tmp_path / str(i), CPU)
            outs.append((tmp_path / str(i) / "masks" / "a.tif").read_bytes())
        assert len(set(outs)) == 1


class TestSizes:
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (1, 40), (40, 1), (2, 3), (3, 2), (5, 5), (33, 65), (64, 64)])
    @pytest.mark.parametrize("tile", [None, 4, "whole"])
    def test_images_of_any_size(self, tiny_model, model, tmp_path, size, tile):
        path = picture(tmp_path / "images" / "a.png", size)
        api.predict(tiny_model, path, tmp_path / "out", PredictOptions(device="cpu", tile=tile, probabilities=True))
        image = read_image(path)
        whole = predict_array(model.network, image.array, statistics=model.normalization.statistics(image.array))
        assert read_image(tmp_path / "out" / "masks" / "a.tif").size == size
        found = read_image(tmp_path / "out" / "probabilities" / "a.tif").array
        assert np.allclose(found, torch.from_numpy(whole).softmax(dim=0).numpy(), atol=1e-5)

    @pytest.mark.parametrize("size", [(3, 1, 9), (2, 3, 5), (9, 4, 4), (5, 17, 6)])
    def test_volumes_of_any_size(self, tiny_model_3d, tmp_path, size):
        (tmp_path / "images").mkdir()
        array = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / "a.tif", array, imagej=True, metadata={"axes": "ZYX"})
        api.predict(tiny_model_3d, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu", tile=4))
        assert read_image(tmp_path / "out" / "masks" / "a.tif").size == size

    @pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8", ">u2"])
    def test_images_of_any_dtype_give_the_same_mask(self, tiny_model, tmp_path, dtype):
        array = np.random.default_rng(0).integers(0, 100, (20, 20))
        masks = []
        for kind in ("u1", dtype):
            (tmp_path / kind).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / kind / "a.tif", array.astype(kind), byteorder=">" if kind[0] == ">" else "<")
            api.predict(tiny_model, tmp_path / kind, tmp_path / f"out {kind}", CPU)
            masks.append(read_image(tmp_path / f"out {kind}" / "masks" / "a.tif").array)
        assert np.array_equal(*masks)

    @pytest.mark.parametrize("fill", [0, np.nan, np.inf])
    def test_constant_and_missing_pixels(self, tiny_model, tmp_path, fill):
        """What is constant is predicted, and what holds some values; nothing but NaN and inf is a failed input."""
        array = np.full((20, 20), fill, np.float32)
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "all.tif", array)
        array[:10] = np.random.default_rng(0).random((10, 20))
        tifffile.imwrite(tmp_path / "images" / "some.tif", array)
        asked, done = PredictOptions(device="cpu", probabilities=True), ("all", "some")
        if np.isfinite(fill):
            assert api.predict(tiny_model, tmp_path / "images", tmp_path / "out", asked).done == done
        else:
            with pytest.raises(ManyErrors, match=r"(?s)1 of 2 images failed.*all\.tif.*NaN or infinite.*→") as caught:
                api.predict(tiny_model, tmp_path / "images", tmp_path / "out", asked)
            assert caught.value.exit_code == 1
            assert list(record(tmp_path / "out")["failed"]) == ["all"]
            done = ("some",)
        assert files(tmp_path / "out" / "masks") == [f"{name}.tif" for name in done]
        for name in done:
            assert np.isfinite(read_image(tmp_path / "out" / "probabilities" / f"{name}.tif").array).all()

    def test_an_array_without_values_is_refused(self, model):
        with pytest.raises(ReadError, match="NaN or infinite"):
            api.predict_array(model, np.full((20, 20), np.nan))

    @pytest.mark.parametrize("channels", [3])
    def test_other_channels_are_refused_by_number(self, tiny_model, tmp_path, channels):
        picture(tmp_path / "images" / "colour.png", channels=channels)
        with pytest.raises(ManyErrors, match=r"colour\.png.*has 3 channel.*trained on 1") as caught:
            api.predict(tiny_model, tmp_path / "images", tmp_path / "out", CPU)
        assert isinstance(caught.value.errors[0], SizeError)
        assert not (tmp_path / "out" / "masks" / "colour.tif").exists()

    def test_a_volume_to_a_flat_model_and_back(self, tiny_model, tiny_model_3d, tmp_path):
        (tmp_path / "volume").mkdir()
        tifffile.imwrite(tmp_path / "volume" / "v.tif", np.zeros((4, 8, 8), np.uint8), imagej=True, metadata={"axes": "ZYX"})
        picture(tmp_path / "flat" / "f.png")
        for trained, folder, says in ((tiny_model, "volume", "is 3D"), (tiny_model_3d, "flat", "is 2D")):
            with pytest.raises(ManyErrors, match=says):
                api.predict(trained, tmp_path / folder, tmp_path / "out" / folder, CPU)


class TestManyInputs:
    def test_a_bad_image_does_not_stop_the_others_and_only_it_is_done_again(self, tiny_model, images, tmp_path):
        good = (images / "b.png").read_bytes()
        (images / "b.png").write_bytes(good[:50])
        with pytest.raises(ManyErrors, match=r"1 of 3 images failed") as caught:
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert caught.value.exit_code == 1
        assert "b.png" in str(caught.value)
        assert files(tmp_path / "out" / "masks") == ["a.tif", "c.tif"]
        assert list(record(tmp_path / "out")["failed"]) == ["b"]
        before = {name: (tmp_path / "out" / "masks" / name).stat().st_mtime_ns for name in ("a.tif", "c.tif")}
        (images / "b.png").write_bytes(good)
        result = api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert (result.done, result.skipped) == (("b",), ("a", "c"))
        assert before == {name: (tmp_path / "out" / "masks" / name).stat().st_mtime_ns for name in ("a.tif", "c.tif")}
        assert record(tmp_path / "out")["failed"] == {}
        assert set(record(tmp_path / "out")["images"]) == {"a", "b", "c"}

    def test_all_bad_ones_are_listed(self, tiny_model, images, tmp_path):
        for name in "abc":
            (images / f"{name}.png").write_bytes(b"")
        with pytest.raises(ManyErrors) as caught:
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert len(caught.value.errors) == 3

    def test_a_second_run_does_nothing(self, tiny_model, images, tmp_path, monkeypatch):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        before = record(tmp_path / "out")["images"]
        monkeypatch.setattr(one_image, "predict_tiles", None)  # would raise
        monkeypatch.setattr(one_image, "predict_maps", None)
        result = api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert (result.done, result.skipped) == ((), ("a", "b", "c"))
        assert record(tmp_path / "out")["images"] == before

    def test_a_changed_image_is_done_again(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        picture(images / "b.png", seed=9)
        later = (tmp_path / "out" / "masks" / "b.tif").stat().st_mtime + 5
        os.utime(images / "b.png", (later, later))
        assert "b" in api.predict(tiny_model, images, tmp_path / "out", CPU).done

    def test_a_missing_outline_is_made_again(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        (tmp_path / "out" / "outlines" / "a.png").unlink()
        assert api.predict(tiny_model, images, tmp_path / "out", CPU).done == ("a",)

    def test_probabilities_asked_for_later_are_made(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        result = api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", probabilities=True))
        assert result.done == ("a", "b", "c")
        assert len(files(tmp_path / "out" / "probabilities")) == 3

    def test_overwrite_does_all_again(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        result = api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", overwrite=True))
        assert result.done == ("a", "b", "c")

    def test_new_images_are_added(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        picture(images / "d.png")
        assert api.predict(tiny_model, images, tmp_path / "out", CPU).done == ("d",)
        assert set(record(tmp_path / "out")["images"]) == {"a", "b", "c", "d"}

    @pytest.mark.parametrize("twins", [("x.png", "x.tif"), ("x.tif", "x.ome.tif"), ("x.png", "X.tif")])
    def test_stems_that_collide_are_refused_before_anything_is_written(self, tiny_model, tmp_path, twins):
        for name in twins:
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / "images" / name).write_bytes(b"")
        with pytest.raises(PairingError) as caught:
            api.predict(tiny_model, tmp_path / "images", tmp_path / "out", CPU)
        assert all(name in str(caught.value) for name in twins)
        assert not (tmp_path / "out").exists()

    def test_files_that_are_not_read_are_said(self, tiny_model, images, tmp_path):
        """Nothing is skipped silently (design, section 1): two photographs are not predicted, and the user hears of it."""
        for name in ("d.jpg", "e.czi"):
            (images / name).write_bytes(b"x")
        heard = Heard()
        try:
            api.predict(tiny_model, images, tmp_path / "out", CPU, progress=heard)
        except BiomaskError as error:
            heard.lines.append(str(error))
        assert any("d.jpg" in line for line in heard.lines)

    def test_running_out_of_memory_is_named_with_the_way_out(self, tiny_model, images, tmp_path, monkeypatch):
        def out_of_memory(*args, **options):
            raise torch.OutOfMemoryError("no more")

        monkeypatch.setattr(one_image, "predict_tiles", out_of_memory)
        with pytest.raises(BiomaskError, match="--tile") as caught:
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert caught.value.exit_code == 3

    def test_a_full_disk_is_exit_code_3(self, tiny_model, images, tmp_path, monkeypatch):
        def full(path, *args):
            raise DiskFullError("the disk is full", where=path)

        monkeypatch.setattr(results, "write_mask", full)
        with pytest.raises(BiomaskError, match="disk is full") as caught:
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert caught.value.exit_code == 3


class TestInterrupted:
    def test_what_was_done_stays_in_the_record(self, tiny_model, images, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            api.predict(tiny_model, images, tmp_path / "out", CPU, progress=Interrupts(0.5))
        assert files(tmp_path / "out" / "masks")[0] == "a.tif"
        assert not [name for name in files(tmp_path / "out") if ".part" in name]
        result = api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert "a" in result.skipped
        assert set(record(tmp_path / "out")["images"]) == {"a", "b", "c"}

    def test_an_interrupted_overwrite_never_mixes_two_models(self, tiny_model, other_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        with pytest.raises(KeyboardInterrupt):
            api.predict(other_model, images, tmp_path / "out", PredictOptions(device="cpu", overwrite=True),
                        progress=Interrupts(0.5))
        api.predict(other_model, images, tmp_path / "out", CPU)
        for name in "abc":
            assert (read_image(tmp_path / "out" / "masks" / f"{name}.tif").array == 255).all(), f"{name} is the first model's"


class TestOutputFolder:
    def test_another_models_results_are_not_mixed_in(self, tiny_model, other_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
        with pytest.raises(InputError, match="another model") as caught:
            api.predict(other_model, images, tmp_path / "out", CPU)
        assert "--overwrite" in str(caught.value)
        assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == before
        api.predict(other_model, images, tmp_path / "out", PredictOptions(device="cpu", overwrite=True))
        assert (read_image(tmp_path / "out" / "masks" / "a.tif").array == 255).all()

    def test_overwrite_discards_what_the_other_model_left(self, tiny_model, other_model, images, tmp_path):
        """`--overwrite: Discard what an earlier run left in the output folder.`"""
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        (images / "c.png").unlink()
        api.predict(other_model, images, tmp_path / "out", PredictOptions(device="cpu", overwrite=True))
        assert files(tmp_path / "out" / "masks") == ["a.tif", "b.tif"]

    def test_a_copy_of_the_model_elsewhere_is_the_same_model(self, tiny_model, images, tmp_path):
        api.predict(tiny_model, images, tmp_path / "out", CPU)
        shutil.copy(tiny_model / MODEL_FILE, tmp_path / "copy.safetensors")
        assert api.predict(tmp_path / "copy.safetensors", images, tmp_path / "out", CPU).skipped == ("a", "b", "c")

    @pytest.mark.parametrize("out", ["images", "images/.", "images/../images"])
    def test_the_input_folder_is_refused(self, tiny_model, images, tmp_path, out):
        before = files(images)
        with pytest.raises(UsageError, match="where the images are"):
            api.predict(tiny_model, images, tmp_path / out, CPU)
        assert files(images) == before

    def test_a_link_to_the_input_folder_is_refused(self, tiny_model, images, tmp_path):
        (tmp_path / "link").symlink_to(images, target_is_directory=True)
        with pytest.raises(UsageError):
            api.predict(tiny_model, images, tmp_path / "link", CPU)

    def test_beside_a_single_input_is_refused(self, tiny_model, images):
        with pytest.raises(UsageError):
            api.predict(tiny_model, images / "a.png", images, CPU)

    @pytest.mark.parametrize("below", ["out", "new/out", "../images/out", "sub"])
    def test_an_output_below_the_input_is_refused(self, tiny_model, images, below):
        picture(images / "sub" / "d.png")
        before = files(images)
        with pytest.raises(UsageError, match="among the images"):
            api.predict(tiny_model, images, images / below, CPU)
        assert files(images) == before

    def test_an_output_below_the_input_by_way_of_a_link_is_refused(self, tiny_model, images, tmp_path):
        (tmp_path / "link").symlink_to(images, target_is_directory=True)
        for source, out in ((tmp_path / "link", images / "out"), (images, tmp_path / "link" / "out")):
            with pytest.raises(UsageError, match="among the images"):
                api.predict(tiny_model, source, out, CPU)
        assert files(images) == ["a.png", "b.png", "c.png"]

    def test_a_folder_beside_a_single_input_is_no_matter(self, tiny_model, images):
        assert api.predict(tiny_model, images / "a.png", images / "out", CPU).done == ("a",)

    @pytest.mark.parametrize("source", ["masks", "masks/a.tif", "outlines"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_results_are_no_input_for_the_folder_that_they_lie_in(self, tiny_model, images, tmp_path, source, overwrite):
        """--overwrite would remove them before they are read."""
        out = tmp_path / "out"
        api.predict(tiny_model, images, out, CPU)
        before = files(out)
        with pytest.raises(UsageError, match=f"in its {source.partition('/')[0]}"):
            api.predict(tiny_model, out / source, out, PredictOptions(device="cpu", overwrite=overwrite))
        assert files(out) == before
        assert set(record(out)["images"]) == {"a", "b", "c"}

    def test_an_output_above_the_input_does_the_images_or_refuses(self, tiny_model, images, tmp_path):
        """`biomask predict MODEL images -o .` must not do nothing and call it done."""
        try:
            result = api.predict(tiny_model, images, tmp_path, CPU)
        except BiomaskError:
            return
        assert result.done == ("a", "b", "c")

    def test_masks_that_are_not_ours_are_never_overwritten(self, tiny_model, images, tmp_path):
        """-o at a data folder: its masks/ are somebody's annotations."""
        for name in "abc":
            (tmp_path / "data" / "masks").mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / "data" / "masks" / f"{name}.tif", np.full((20, 24), 7, np.uint8))
        with pytest.raises(BiomaskError):
            api.predict(tiny_model, images, tmp_path / "data", CPU)
        for name in "abc":
            assert (read_image(tmp_path / "data" / "masks" / f"{name}.tif").array == 7).all()

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 3, "model_sha256": "x"}', "no json"])
    def test_a_run_json_that_is_not_ours_is_kept(self, tiny_model, images, tmp_path, text):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "run.json").write_text(text)
        with pytest.raises(InputError, match=r"run\.json|another model"):
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert (tmp_path / "out" / "run.json").read_text() == text

    def test_a_file_as_output(self, tiny_model, images, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(BiomaskError, match="out"):
            api.predict(tiny_model, images, tmp_path / "out", CPU)
        assert (tmp_path / "out").read_text() == "mine"


class TestRefused:
    def test_no_images(self, tiny_model, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "notes.txt").write_text("")
        with pytest.raises(InputError, match="no images"):
            api.predict(tiny_model, tmp_path / "empty", tmp_path / "out", CPU)
        assert not (tmp_path / "out").exists()

    def test_missing_images(self, tiny_model, tmp_path):
        with pytest.raises(MissingPathError, match="nowhere"):
            api.predict(tiny_model, tmp_path / "nowhere", tmp_path / "out", CPU)
        assert not (tmp_path / "out").exists()

    def test_too_little_memory_names_the_least(self, tiny_model, images, tmp_path):
        with pytest.raises(ManyErrors, match=r"--memory \d+MB"):
            api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", memory=1_000_000))

    def test_the_least_that_was_named_is_enough(self, tiny_model, images, tmp_path):
        import re

        with pytest.raises(ManyErrors) as caught:
            api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", memory=1_000_000))
        least = max(int(m) for m in re.findall(r"--memory (\d+)MB", str(caught.value)))
        enough = int((least + 20) * 1e6)  # the test process itself grows a little between the two calls
        assert len(api.predict(tiny_model, images, tmp_path / "out", PredictOptions(device="cpu", memory=enough)).done) == 3

    def test_results_count_in_the_memory(self, model, images):
        image = read_image(images / "a.png")
        least = output_bytes(Work.of(model, PredictOptions(device="cpu", objects=False)), image)
        for more in ({"probabilities": True, "objects": False}, {"augment": "symmetries", "objects": False},
                     {"rescale": (0.5,), "objects": False}, {}):
            assert output_bytes(Work.of(model, PredictOptions(device="cpu", **more)), image) > least


class TestParsing:
    @pytest.mark.parametrize(("text", "expected"), [("1", 1), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("500mb", 5 * 10**8),
                                                    (" 1e3 KB ", 10**6), ("1TiB", 2**40), ("0.5g", 5 * 10**8), ("7B", 7)])
    def test_memory(self, text, expected):
        assert parse_memory(text) == expected

    @pytest.mark.parametrize("text", ["", "GB", "two GB", "-1GB", "0", "0GB", "nan", "inf", "1e999", "1e999GB", "1 2GB", "1GBB",
                                      "1,5GB", "1.2.3", "0x10", "--5", "GB2"])
    def test_bad_memory(self, text):
        with pytest.raises(UsageError, match="--memory"):
            parse_memory(text)

    @pytest.mark.parametrize(("text", "expected"), [("whole", "whole"), ("auto", "auto"), ("1", 1), ("512", 512), ("007", 7)])
    def test_tile(self, text, expected):
        assert parse_tile(text) == expected

    @pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "all", "WHOLE", "1e3", "512px", "²", "①", "inf", "nan", "5 5",
                                      "512,256"])
    def test_bad_tile(self, text):
        with pytest.raises(UsageError, match="--tile"):
            parse_tile(text)
