"""Images and masks are matched by path without suffix, and whatever does not match is named."""

from pathlib import Path

import pytest

from biomask.data.pairing import IMAGE_FOLDERS, MASK_FOLDERS, find_pairs, index
from biomask.errors import MissingPathError, PairingError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(folder: Path) -> list[str]:
    return [pair.name for pair in find_pairs(folder)]


@pytest.mark.parametrize("images", IMAGE_FOLDERS)
@pytest.mark.parametrize("masks", MASK_FOLDERS)
def test_pairs_whatever_the_suffixes(tmp_path, images, masks):
    touch(tmp_path, f"{images}/a.png", f"{images}/b.ome.tif", f"{images}/c.tiff", f"{masks}/a.tif", f"{masks}/b.png",
          f"{masks}/c.ome.tiff", "notes.txt", f"{images}/.DS_Store", f"{images}/._a.png", f"{masks}/Thumbs.db")
    pairs = find_pairs(tmp_path)
    assert [(p.name, p.image.name, p.labels.name) for p in pairs] == [
        ("a", "a.png", "a.tif"), ("b", "b.ome.tif", "b.png"), ("c", "c.tiff", "c.ome.tiff")]


def test_nested_folders_are_part_of_the_name(tmp_path):
    touch(tmp_path, "images/day 1/a.png", "images/day 2/a.png", "masks/day 1/a.tif", "masks/day 2/a.tif")
    assert names(tmp_path) == ["day 1/a", "day 2/a"]


def test_the_same_name_in_another_folder_is_no_partner(tmp_path):
    touch(tmp_path, "images/day 1/a.png", "masks/day 2/a.png")
    with pytest.raises(PairingError) as caught:
        find_pairs(tmp_path)
    assert "day 1" in str(caught.value)
    assert "day 2" in str(caught.value)


def test_every_mismatch_is_named_with_the_nearest_name(tmp_path):
    """The nearest is one that lacks a partner too: cell_02 has its own."""
    touch(tmp_path, "images/cell_01.png", "images/cell_02.png", "images/other.png", "masks/cell_01_mask.png",
          "masks/cell_02.png", "masks/zzz.png")
    with pytest.raises(PairingError) as caught:
        find_pairs(tmp_path)
    text = str(caught.value)
    assert "4 of 6 files" in text
    assert "nearest: cell_01_mask.png" in text
    assert "nearest: cell_01.png" in text
    for name in ("other.png", "zzz.png"):
        assert name in text
    assert "cell_02.png: not" not in text


def test_a_name_in_another_case_is_not_a_partner_but_the_nearest(tmp_path):
    touch(tmp_path, "images/Cell.png", "masks/cell.png")
    if (tmp_path / "masks" / "CELL.PNG").exists():
        pytest.skip("this disk does not tell capital letters apart")
    with pytest.raises(PairingError, match=r"Cell\.png.*nearest: cell\.png"):
        find_pairs(tmp_path)


def test_suffixes_in_capitals(tmp_path):
    touch(tmp_path, "images/a.PNG", "masks/a.TIF")
    assert names(tmp_path) == ["a"]


def test_hundreds_of_mismatches_are_counted_and_the_first_shown(tmp_path):
    touch(tmp_path, *(f"images/{i:03d}.png" for i in range(100)), "masks/other.png")
    with pytest.raises(PairingError) as caught:
        find_pairs(tmp_path)
    assert "101 of 101" in str(caught.value)
    assert "… and 81 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 30


@pytest.mark.parametrize("twins", [("a.png", "a.tif"), ("a.tif", "a.tiff"), ("a.tif", "a.ome.tif"), ("sub/a.png", "sub/a.TIF")])
@pytest.mark.parametrize("side", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path, side, twins):
    touch(tmp_path, *(f"{side}/{name}" for name in twins), "images/b.png", "masks/b.png")
    with pytest.raises(PairingError) as caught:
        find_pairs(tmp_path)
    for name in twins:
        assert Path(name).name in str(caught.value)


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_a_missing_folder_is_named(tmp_path, missing):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / missing / "a.png").unlink()
    (tmp_path / missing).rmdir()
    with pytest.raises(PairingError, match=missing):
        find_pairs(tmp_path)


def test_no_images_at_all(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(PairingError, match="holds no images"):
        find_pairs(tmp_path)


def test_images_in_a_format_that_is_not_read_are_named(tmp_path):
    """Nothing is skipped silently: one unread photograph among the images is an error, not one image less."""
    touch(tmp_path, "images/a.png", "images/b.jpg", "masks/a.png", "masks/b.jpg")
    with pytest.raises(PairingError, match=r"b\.jpg"):
        find_pairs(tmp_path)


def test_two_folders_of_masks_are_a_question(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    with pytest.raises(PairingError) as caught:
        find_pairs(tmp_path)
    assert "masks" in str(caught.value)
    assert "labels" in str(caught.value)


def test_a_missing_data_folder(tmp_path):
    with pytest.raises(MissingPathError):
        find_pairs(tmp_path / "no")


def test_a_file_as_data_folder(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(PairingError, match=r"a\.png"):
        find_pairs(tmp_path / "a.png")


def test_index_is_in_name_order(tmp_path):
    touch(tmp_path, "c.png", "a.tif", "b/x.png")
    assert list(index(tmp_path)) == ["a", "b/x", "c"]
