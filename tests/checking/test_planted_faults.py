"""Faults planted in copies of real data are reported by the name of the image; the originals are called faultless."""

import re
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from biomask.checking import Checked, check
from biomask.io.files import read_image, read_label_values, write_picture
from biomask.recipe import DataSettings

pytestmark = pytest.mark.data


@pytest.fixture
def membranes(data_root, tmp_path) -> Path:
    """A copy of the 30 labelled slices of ISBI 2012, 0 and 255."""
    return Path(shutil.copytree(data_root / "isbi2012" / "train", tmp_path / "isbi"))


@pytest.fixture
def nuclei(data_root, tmp_path) -> Path:
    """A copy of 40 grey images of DSB 2018 of one size, with ids."""
    folder = tmp_path / "dsb"
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True)
    chosen = 0
    for image in sorted((data_root / "dsb2018" / "images").glob("*.png")):
        found = read_image(image)
        if found.channels == 1 and found.size == (256, 256) and chosen < 40:
            chosen += 1
            shutil.copy(image, folder / "images")
            shutil.copy(data_root / "dsb2018" / "labels" / image.name, folder / "labels")
    return folder


@pytest.fixture
def structures(data_root, tmp_path) -> Path:
    """A copy of 24 of the hippocampus volumes, classes 0, 1 and 2."""
    folder = tmp_path / "hippocampus"
    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True)
        for file in sorted((data_root / "hippocampus" / side).glob("*.nii.gz"))[:24]:
            shutil.copy(file, folder / side)
    return folder


def said(found: Checked, kind: str) -> set[str]:
    """The images that problems of one kind name."""
    return {name for p in found.problems if p.kind == kind for name in p.names}


def serious(found: Checked) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(p.level, p.kind, p.names) for p in found.problems if p.level != "note"]


def values(path: Path) -> np.ndarray:
    return read_label_values(path).array[0]


@pytest.mark.parametrize("fixture", ["membranes", "nuclei", "structures"])
def test_the_originals_are_faultless(fixture, request):
    assert serious(check(request.getfixturevalue(fixture))) == []


@pytest.mark.parametrize("name", ["03", "17"])
def test_a_shifted_mask(membranes, name):
    mask = membranes / "masks" / f"{name}.png"
    write_picture(mask, np.roll(values(mask), (9, -14), axis=(0, 1)))
    found = check(membranes)
    assert said(found, "shifted mask") == {name}
    assert len(serious(found)) == 1
    y, x = (int(n) for n in re.findall(r"[-+]\d+", found.of(name)[0].what))
    assert abs(y + 9) <= 2
    assert abs(x - 14) <= 2


def test_a_swapped_pair(nuclei):
    one, other = sorted((nuclei / "labels").glob("*.png"))[3:9:5]
    one.rename(nuclei / "aside.png")
    other.rename(one)
    (nuclei / "aside.png").rename(other)
    found = check(nuclei)
    assert said(found, "swapped pair") == {one.stem, other.stem}
    assert len(serious(found)) == 1


def test_a_missing_class(structures):
    import nibabel

    label = sorted((structures / "labels").glob("*.nii.gz"))[5]
    volume = nibabel.load(label)
    array = np.asarray(volume.dataobj).copy()
    array[array == 2] = 0
    nibabel.save(nibabel.Nifti1Image(array, volume.affine, volume.header), label)
    name = label.name.removesuffix(".nii.gz")
    found = check(structures)
    assert said(found, "missing class") == {name}
    assert "class 2" in found.of(name)[0].what


def test_a_mask_that_was_saved_as_jpeg(membranes):
    mask = membranes / "masks" / "11.png"
    (membranes / "masks" / "11.jpg").write_bytes(imagecodecs.jpeg_encode(values(mask), level=85))
    mask.unlink()
    found = check(membranes)
    assert not found.usable
    assert [p.names for p in found.problems if p.level == "error"] == [("11",)]
    assert "JPEG" in found.of("11")[0].what
    assert "--values 0,255" in found.of("11")[0].fix
    assert check(membranes, DataSettings(values=(0, 255))).usable


def test_a_duplicate_under_another_name(membranes):
    for side in ("images", "masks"):
        shutil.copy(membranes / side / "21.png", membranes / side / "30.png")
    found = check(membranes)
    assert said(found, "duplicate") == {"21", "30"}


def test_a_mask_of_four_classes_among_binary_ones(membranes):
    mask = membranes / "masks" / "08.png"
    array = values(mask).copy()
    array[:60, :60][array[:60, :60] == 255] = 100
    array[100:160, :60][array[100:160, :60] == 255] = 200
    write_picture(mask, array)
    found = check(membranes)
    assert said(found, "odd values") == {"08"}
    assert "100, 200" in found.of("08")[0].what


def test_an_inverted_mask(membranes):
    mask = membranes / "masks" / "25.png"
    write_picture(mask, 255 - values(mask))
    assert said(check(membranes), "inverted mask") == {"25"}


def test_a_turned_mask(nuclei):
    label = sorted((nuclei / "labels").glob("*.png"))[12]
    write_picture(label, np.ascontiguousarray(values(label).T))
    assert said(check(nuclei), "turned mask") == {label.stem}


def test_all_at_once(membranes):
    """Each is still found among the others."""
    masks = membranes / "masks"
    write_picture(masks / "03.png", np.roll(values(masks / "03.png"), (12, 7), axis=(0, 1)))
    one, other = values(masks / "05.png"), values(masks / "19.png")
    write_picture(masks / "05.png", other)
    write_picture(masks / "19.png", one)
    (masks / "11.jpg").write_bytes(imagecodecs.jpeg_encode(values(masks / "11.png"), level=85))
    (masks / "11.png").unlink()
    array = values(masks / "08.png").copy()
    array[:60, :60][array[:60, :60] == 255] = 100
    write_picture(masks / "08.png", array)
    for side in ("images", "masks"):
        shutil.copy(membranes / side / "21.png", membranes / side / "30.png")
    found = check(membranes)
    assert said(found, "shifted mask") == {"03"}
    assert said(found, "swapped pair") == {"05", "19"}
    assert {n for p in found.problems if p.level == "error" for n in p.names} == {"11"}
    assert said(found, "odd values") == {"08"}
    assert said(found, "duplicate") == {"21", "30"}
