"""labels/ and objects.csv of `predict`: objects that are known beforehand, since the network only looks at grey values."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

import biomask.prediction.predict as module
from biomask import api
from biomask.api import PredictOptions
from biomask.checkpoint import MODEL_FILE, ModelHeader, build_network, save_model
from biomask.errors import InputError, ManyErrors
from biomask.io import read_label_values
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.progress import Silent
from biomask.recipe import NetworkSettings, NormalizationSettings, Recipe

CPU = PredictOptions(device="cpu")

#: Grey values above it are foreground.
BRIGHT = 100

#: Of each kind: what the network says of a grey value v, as (slope, offset) a channel in units of (v - BRIGHT).
RULES = {
    "classes": [(0, 0), (1, 0)],
    "multilabel": [(1, 0), (1, -100)],  # the second structure are the brightest pixels of the first
    "instances": [(0, 0), (1, 0), (1, -100), (0, -9)],  # background, object, distance, border
}


def save_rule(folder: Path, kind: str, dims: int = 2, spacing: dict[str, float] | None = None) -> Path:
    """A model whose output follows from the grey value of each pixel alone."""
    recipe = Recipe(name="rule", network=NetworkSettings(name="one-layer", options={"kernel": 1}),
                    normalization=NormalizationSettings(method="none"))
    values = {"classes": [0, 255], "multilabel": [0, 1, 2], "instances": [0, 1]}[kind]
    names = {1: "disc", 2: "cup"} if kind == "multilabel" else {values[-1]: "cell"}
    legend = Legend.of_values(values, names).to_json()
    header = ModelHeader(recipe=recipe, in_channels=1, spatial_dims=dims, kind=kind, legend=legend, spacing=spacing, dtype="uint8")
    network = build_network(recipe, in_channels=1, channels=header.task.channels, spatial_dims=dims)
    slopes, offsets = torch.tensor(RULES[kind], dtype=torch.float32).T
    weight = slopes.reshape(network.state_dict()["conv.weight"].shape).contiguous()
    save_model(folder / MODEL_FILE, {"conv.weight": weight, "conv.bias": offsets - BRIGHT * slopes}, header)
    return folder


def scene(seed: int, size: tuple[int, ...] = (60, 70), count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(image with `count` bright balls that do not touch and are brightest in the middle, their ids)."""
    rng = np.random.default_rng(seed)
    image, placed = rng.integers(0, BRIGHT - 20, size).astype(np.uint8), list[np.ndarray]()
    grid = np.stack(np.indices(size), -1)
    while len(placed) < count:
        centre = np.array([rng.uniform(5, n - 5) for n in size])
        if all(np.linalg.norm(centre - c) > 12 for c in placed):
            placed.append(centre)
            away = np.linalg.norm(grid - centre, axis=-1)
            image[away <= 4] = 150
            image[away <= 2] = 240
    return image, ndimage.label(image > BRIGHT)[0]


@pytest.fixture
def scenes(tmp_path) -> dict[str, np.ndarray]:
    """Ids by name; the images lie in images/."""
    found = {}
    for seed, name in enumerate(("a", "b", "sub/c")):
        image, found[name] = scene(seed, count=4 + seed)
        write_picture(tmp_path / "images" / f"{name}.png", image)
    return found


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "objects.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ids_in(path: Path) -> np.ndarray:
    return tifffile.imread(path)


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the same pixels share an id, whatever number it has."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return a.shape == b.shape and len(pairs[0]) == len(np.unique(a)) == len(np.unique(b)) and bool((pairs[:, 0] == 0).all())


class TestFound:
    @pytest.mark.parametrize("kind", ["classes", "instances"])
    @pytest.mark.parametrize("augment", ["none", "symmetries"])
    def test_labels_and_rows_are_the_objects(self, tmp_path, scenes, kind, augment):
        out = api.predict(save_rule(tmp_path / "m", kind), tmp_path / "images", tmp_path / "out",
                          PredictOptions(device="cpu", augment=augment, tile=16)).out
        table = rows(out)
        for name, truth in scenes.items():
            found = ids_in(out / "labels" / f"{name}.tif")
            assert same_objects(found, truth)
            assert np.array_equal(read_label_values(out / "masks" / f"{name}.tif").array[0] > 0, truth > 0)
            of_image = [row for row in table if row["image"] == name]
            assert sorted(int(row["id"]) for row in of_image) == list(range(1, truth.max() + 1))
            for row in of_image:
                own = found == int(row["id"])
                centre = ndimage.center_of_mass(own)
                assert int(row["area_px"]) == own.sum()
                assert (float(row["centroid_y_px"]), float(row["centroid_x_px"])) == pytest.approx(centre, rel=1e-6)
                assert row["class"] == "cell"
        assert len(table) == sum(t.max() for t in scenes.values())

    def test_the_record_counts_and_names_them(self, tmp_path, scenes):
        api.predict(save_rule(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", CPU)
        images = json.loads((tmp_path / "out" / "run.json").read_text())["images"]
        assert {name: entry["objects"] for name, entry in images.items()} == {name: t.max() for name, t in scenes.items()}
        assert images["sub/c"]["labels"] == ["labels/sub/c.tif"]

    def test_structures_have_folders_of_their_own(self, tmp_path, scenes):
        model = save_rule(tmp_path / "m", "multilabel")
        out = api.predict(model, tmp_path / "images", tmp_path / "out", PredictOptions(device="cpu", probabilities=True)).out
        for name in scenes:
            image, _ = scene(list(scenes).index(name), count=4 + list(scenes).index(name))
            for structure, least in (("disc", BRIGHT), ("cup", 200)):
                mask = read_label_values(out / "masks" / structure / f"{name}.tif").array[0]
                assert np.array_equal(mask, np.where(image >= least, 255, 0))
                assert same_objects(ids_in(out / "labels" / structure / f"{name}.tif"), ndimage.label(image >= least)[0])
            classes = [row["class"] for row in rows(out) if row["image"] == name]
            assert classes == sorted(classes, reverse=True) == ["disc"] * (len(classes) // 2) + ["cup"] * (len(classes) // 2)
            assert (out / "outlines" / f"{name}.png").is_file()
            assert tifffile.imread(out / "probabilities" / f"{name}.tif").shape == (2, *image.shape)
        assert {p.name for p in (out / "masks").iterdir()} == {"disc", "cup"}

    def test_an_image_without_objects(self, tmp_path):
        write_picture(tmp_path / "images" / "dark.png", np.zeros((20, 20), np.uint8))
        for kind in RULES:
            out = api.predict(save_rule(tmp_path / kind, kind), tmp_path / "images", tmp_path / "out" / kind, CPU).out
            assert rows(out) == []
            assert not any(ids_in(p).any() for p in (out / "labels").rglob("*.tif"))

    def test_channels_of_the_probabilities_have_names(self, tmp_path, scenes):
        options = PredictOptions(device="cpu", probabilities=True)
        out = api.predict(save_rule(tmp_path / "m", "instances"), tmp_path / "images" / "a.png", tmp_path / "out", options).out
        maps = tifffile.imread(out / "probabilities" / "a.tif")
        assert maps.shape[0] == 4
        assert np.allclose(maps[:2].sum(axis=0), 1, atol=1e-5)
        channels = json.loads((out / "run.json").read_text())["probability_channels"]
        assert channels == [{"value": 0, "name": "background"}, {"value": 1, "name": "cell"}, {"value": None, "name": "distance"},
                            {"value": None, "name": "border"}]


class TestMeasured:
    def test_micrometres_where_the_spacing_is_known(self, tmp_path):
        spacing = {"y": 0.5, "x": 0.25}
        image, _ = scene(0)
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "a.tif", image, imagej=True, resolution=(4.0, 2.0),
                         metadata={"axes": "YX", "unit": "um"})
        out = api.predict(save_rule(tmp_path / "m", "instances", spacing=spacing), tmp_path / "images", tmp_path / "out", CPU).out
        for row in rows(out):
            assert float(row["area_um2"]) == pytest.approx(int(row["area_px"]) * 0.125)
            assert float(row["centroid_y_um"]) == pytest.approx(float(row["centroid_y_px"]) * 0.5)
            assert float(row["centroid_x_um"]) == pytest.approx(float(row["centroid_x_px"]) * 0.25)

    def test_images_without_a_spacing_leave_them_empty(self, tmp_path, scenes):
        model = save_rule(tmp_path / "m", "instances", spacing={"y": 1.0, "x": 1.0})
        out = api.predict(model, tmp_path / "images", tmp_path / "out", CPU).out
        assert {row["area_um2"] for row in rows(out)} == {""}
        assert "" not in {row["area_px"] for row in rows(out)}

    def test_any_calibrated_image_gives_the_table_its_micrometres(self, tmp_path):
        """Also one that is not the first, and a model that was trained without."""
        for n, spacing in (("a", None), ("b", 0.5)):
            image, _ = scene(1)
            options = {} if spacing is None else {"resolution": (1e4 / spacing,) * 2, "resolutionunit": "CENTIMETER"}
            (tmp_path / "images").mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / "images" / f"{n}.tif", image, **options)
        api.predict(save_rule(tmp_path / "m", "classes"), tmp_path / "images", tmp_path / "out", CPU)
        found = rows(tmp_path / "out")
        assert {r["image"] for r in found} == {"a", "b"}
        for row in found:
            expected = "" if row["image"] == "a" else pytest.approx(float(row["area_px"]) * 0.25, rel=1e-4)
            assert (row["area_um2"] if row["image"] == "a" else float(row["area_um2"])) == expected

    def test_grey_values_and_probability(self, tmp_path, scenes):
        out = api.predict(save_rule(tmp_path / "m", "instances"), tmp_path / "images" / "a.png", tmp_path / "out", CPU).out
        image, _ = scene(0, count=4)
        found = ids_in(out / "labels" / "a.tif")
        for row in rows(out):
            assert float(row["mean_intensity_1"]) == pytest.approx(image[found == int(row["id"])].mean(), rel=1e-6)
            assert 0.99 < float(row["probability"]) <= 1

    @pytest.mark.parametrize("kind", ["classes", "instances"])
    def test_volumes(self, tmp_path, kind):
        image, truth = scene(5, (24, 40, 40), 5)
        (tmp_path / "images").mkdir()
        tifffile.imwrite(tmp_path / "images" / "v.tif", image, imagej=True, resolution=(2.0, 2.0),
                         metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0})
        model = save_rule(tmp_path / "m", kind, dims=3, spacing={"z": 2.0, "y": 0.5, "x": 0.5})
        out = api.predict(model, tmp_path / "images", tmp_path / "out", CPU).out
        found, table = ids_in(out / "labels" / "v.tif"), rows(out)
        assert same_objects(found, truth)
        assert len(table) == 5
        for row in table:
            assert int(row["volume_px"]) == (found == int(row["id"])).sum()
            assert float(row["volume_um3"]) == pytest.approx(int(row["volume_px"]) * 0.5)


class StopsAfter(Silent):
    """Ctrl-C once so many images are done."""

    def __init__(self, share: float) -> None:
        self.share = share

    def bar(self, title):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def update(self, fraction, note=""):
        if fraction > self.share:
            raise KeyboardInterrupt


class TestAgain:
    def counted(self, out: Path) -> dict[str, int]:
        names = [row["image"] for row in rows(out)]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    def test_interrupted_and_resumed_it_holds_each_object_once(self, tmp_path, scenes):
        model, out = save_rule(tmp_path / "m", "instances"), tmp_path / "out"
        for share in (0.3, 0.6):
            with pytest.raises(KeyboardInterrupt):
                api.predict(model, tmp_path / "images", out, CPU, progress=StopsAfter(share))
        api.predict(model, tmp_path / "images", out, CPU)
        assert self.counted(out) == {name: t.max() for name, t in scenes.items()}
        before = sorted(map(str, rows(out)))
        assert api.predict(model, tmp_path / "images", out, CPU).done == ()
        api.predict(model, tmp_path / "images", tmp_path / "straight", CPU)
        assert sorted(map(str, rows(out))) == before == sorted(map(str, rows(tmp_path / "straight")))

    def test_rows_of_images_that_never_became_done_are_dropped(self, tmp_path, scenes, monkeypatch):
        """A kill between the rows of an image and its mask."""
        model, out, write = save_rule(tmp_path / "m", "instances"), tmp_path / "out", module.write_results

        def killed(job, *rest):
            if job.name == "b":
                raise KeyboardInterrupt
            write(job, *rest)

        monkeypatch.setattr(module, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            api.predict(model, tmp_path / "images", out, CPU)
        assert "b" in self.counted(out)
        monkeypatch.undo()
        with (out / "objects.csv").open("a", encoding="utf-8") as file:
            file.write("a,1,ce")  # and half a row
        api.predict(model, tmp_path / "images", out, CPU)
        assert self.counted(out) == {name: t.max() for name, t in scenes.items()}

    def test_an_image_that_changed_has_its_new_rows_alone(self, tmp_path, scenes):
        model, out = save_rule(tmp_path / "m", "instances"), tmp_path / "out"
        api.predict(model, tmp_path / "images", out, CPU)
        image, truth = scene(9, count=7)
        write_picture(tmp_path / "images" / "a.png", image)
        assert api.predict(model, tmp_path / "images", out, CPU).done == ("a",)
        assert self.counted(out) == {"a": truth.max(), "b": scenes["b"].max(), "sub/c": scenes["sub/c"].max()}

    def test_a_bad_image_has_no_rows_and_the_others_have(self, tmp_path, scenes):
        (tmp_path / "images" / "b.png").write_bytes(b"")
        with pytest.raises(ManyErrors):
            api.predict(save_rule(tmp_path / "m", "instances"), tmp_path / "images", tmp_path / "out", CPU)
        assert self.counted(tmp_path / "out") == {name: scenes[name].max() for name in ("a", "sub/c")}

    def test_labels_that_are_missing_are_made_again(self, tmp_path, scenes):
        model, out = save_rule(tmp_path / "m", "instances"), tmp_path / "out"
        api.predict(model, tmp_path / "images", out, CPU)
        (out / "labels" / "a.tif").unlink()
        assert api.predict(model, tmp_path / "images", out, CPU).done == ("a",)
        assert self.counted(out) == {name: t.max() for name, t in scenes.items()}

    def test_a_table_of_someone_else_is_not_touched(self, tmp_path, scenes):
        model, out = save_rule(tmp_path / "m", "instances"), tmp_path / "out"
        api.predict(model, tmp_path / "images" / "a.png", out, CPU)
        (out / "objects.csv").write_text("my,own\n1,2\n")
        with pytest.raises(InputError, match=r"objects\.csv"):
            api.predict(model, tmp_path / "images", out, CPU)
        assert (out / "objects.csv").read_text() == "my,own\n1,2\n"

    def test_overwrite_begins_anew(self, tmp_path, scenes):
        model, out = save_rule(tmp_path / "m", "instances"), tmp_path / "out"
        api.predict(model, tmp_path / "images", out, CPU)
        (tmp_path / "images" / "a.png").unlink()
        api.predict(model, tmp_path / "images", out, PredictOptions(device="cpu", overwrite=True))
        assert self.counted(out) == {name: scenes[name].max() for name in ("b", "sub/c")}
