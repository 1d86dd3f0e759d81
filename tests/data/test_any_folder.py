"""Whatever lies in a folder, it is understood or refused in words; what is understood without errors can be read."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from biomask.data.truth import read_truth
from biomask.data.understand import raise_errors, understand
from biomask.errors import BiomaskError
from biomask.progress import Silent
from biomask.recipe import DataSettings

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"
STEMS = ("a", "b", "a_mask", "b_mask", "1", "2", "10", "mask_1", "a-labels", "t000", "man_seg000", "ä")
FOLDERS = ("", "images", "masks", "labels", "train", "test", "train/images", "train/masks", "test/images", "01", "01_GT/SEG",
           "01_ST/SEG", "disc", "cup", "masks/disc", "masks/a", "a/images", "a/masks", "imagesTr", "labelsTr", "imagesTs",
           "annotations", "sub/deep", "images/train", "masks/train", ".hidden")
OPTIONS = ({}, {}, {}, {"z": "each"}, {"z": "max"}, {"z": 1}, {"time": "each"}, {"channels": ("grey",)}, {"channels": ("1",)},
           {"unlabelled": "background"}, {"unlabelled": "ignore"}, {"ignore": 0}, {"ignore": 255}, {"values": (0, 255)},
           {"kind": "classes"}, {"kind": "instances"}, {"kind": "soft"}, {"kind": "multilabel"}, {"mask_scale": 2.0},
           {"axes": "ZYX"}, {"groups": "folder"}, {"legend": {0: "a", 1: "b"}}, {"legend": {"#000000": "a", "#ff0000": "b"}})
ANNOTATIONS = ("labelme/cells.json", "coco/instances.json", "qupath/export.geojson")


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(array).save(file, "PNG")
    return file.getvalue()


def tif(array: np.ndarray, axes: str = "") -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, imagej=bool(axes), metadata={"axes": axes} if axes else None, photometric="minisblack")
    return file.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    classes = np.zeros((16, 16), np.uint8)
    classes[3:9, 3:9] = 1
    classes[10:] = 2
    binary = (classes == 1).astype(np.uint8) * 255
    ids = np.kron(np.arange(16).reshape(4, 4), np.ones((4, 4), int)).astype(np.uint16)
    return {
        "grey.png": png(rng.integers(0, 255, (16, 16)).astype(np.uint8)), "binary.png": png(binary), "classes.png": png(classes),
        "colours.png": png(np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[classes]),
        "photo.png": png(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)), "empty.png": png(binary * 0),
        "small.png": png(binary[:4, :4]), "wide.png": png(np.zeros((16, 20), np.uint8)), "ids.tif": tif(ids),
        "volume.tif": tif(np.stack([classes] * 4), "ZYX"), "open.tif": tif(np.stack([classes] * 4)),
        "nan.tif": tif(np.full((16, 16), np.nan, np.float32)), "soft.tif": tif(rng.random((16, 16)).astype(np.float32)),
        "film.tif": tif(np.stack([classes] * 3), "TYX"), "negative.tif": tif(classes.astype(np.int16) - 1),
        "two.tif": tif(np.stack([classes] * 2), "CYX"), "nothing.png": b"", "broken.png": b"\x89PNG\r\n\x1a\nxx",
        "text.png": b"hello"}


def arrange(folder: Path, contents: dict[str, bytes], chance: random.Random) -> None:
    """Images and masks as people arrange them, each of one kind but for an accident now and then."""
    places = chance.choice((("images", "masks"), ("", "labels"), ("train/images", "train/masks"), ("images/train", "masks/train"),
                            ("images", "disc"), ("01", "01_ST/SEG")))
    labels = ("binary.png", "classes.png", "colours.png", "ids.tif", "volume.tif", "soft.tif", "negative.tif", "film.tif",
              "photo.png")
    kinds = chance.choice(("grey.png", "photo.png", "two.tif", "volume.tif")), chance.choice(labels)
    stems = chance.sample(("a", "b", "c", "d1", "d2", "ä"), chance.randint(2, 5))
    for place, usual in zip(places, kinds, strict=True):
        for number, stem in enumerate(stems):
            kind = usual if chance.random() < 0.97 else chance.choice(sorted(contents))
            name = f"{'man_seg' * ('SEG' in place)}{number:03d}" if place.startswith("01") else stem
            path = folder / place / f"{name}{Path(kind).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[kind])


def fill(folder: Path, contents: dict[str, bytes], chance: random.Random) -> None:
    """A few folders of a few files each; most files of a folder are of one kind."""
    kinds = sorted(contents)
    for place in chance.sample(FOLDERS, chance.randint(1, 5)):
        usual = chance.choice(kinds)
        for stem in chance.sample(STEMS, chance.randint(1, 5)):
            kind = usual if chance.random() < 0.8 else chance.choice(kinds)
            suffix = chance.choice((Path(kind).suffix,) * 12 + (".jpg", ".czi", ".npy", ".nii.gz", ".json", ".geojson", ".zip"))
            path = folder / place / f"{stem}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = FIXTURES / chance.choice(ANNOTATIONS)
            path.write_bytes(drawn.read_bytes() if suffix in (".json", ".geojson") else contents[kind])
    if chance.random() < 0.15:
        tables = ("image,part\na,train\nb,test\n", "id;group\na;1\nb;1\n", "", "image\na\n")
        (folder / "split.csv").write_text(chance.choice(tables))


@pytest.mark.parametrize("seed", range(8))
def test_anything(tmp_path, contents, seed):
    chance, read = random.Random(seed), 0
    for number in range(25):
        folder, settings = tmp_path / str(number), DataSettings(**chance.choice(OPTIONS))
        chance.choice((fill, arrange, arrange))(folder, contents, chance)
        try:
            found = understand(folder, settings, Silent(), masks=chance.choice((None,) * 8 + ("masks", "GT", "disc")))
        except BiomaskError:
            continue
        assert len(found.survey.good) + len(found.survey.bad) <= len(found.layout.pairs)
        assert not found.survey.bad or found.errors
        if found.errors:
            with pytest.raises(BiomaskError):
                raise_errors(found, folder)
        elif found.encoding is not None:
            for item in (i for i in found.survey.good if i.labels):
                raws = read_truth(item.pair, item.image.size, found.settings)
                assert found.encoding.labels(raws, item.pair.name, folder).size == item.image.size
                read += 1
    assert read, "nothing was understood"
