"""What two listings have in common: files by their stem, parts by their folder, and every name that lacks a partner."""

from pathlib import Path

import pytest

from biomask.data.pairing import (
    Layout,
    Pair,
    Truth,
    index,
    label_files,
    missing_truth,
    pair_up,
    part_of,
    truth_of,
    unread_error,
    where_of,
)
from biomask.errors import PairingError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def paths(*names: str) -> dict[str, Path]:
    return {name: Path("folder") / f"{name}.png" for name in names}


class TestIndex:
    def test_in_name_order(self, tmp_path):
        assert list(index(touch(tmp_path, "c.png", "a.tif", "b/x.png"))) == ["a", "b/x", "c"]

    def test_endings_of_two_parts(self, tmp_path):
        assert list(index(touch(tmp_path, "a.ome.tif", "b.nii.gz", "c.d.png", "E.OME.TIFF"))) == ["E", "a", "b", "c.d"]

    @pytest.mark.parametrize("twins", [("a.png", "a.tif"), ("a.tif", "a.tiff"), ("a.tif", "a.ome.tif"), ("sub/a.png", "sub/a.TIF")])
    def test_two_files_of_one_name_are_refused(self, tmp_path, twins):
        with pytest.raises(PairingError, match="same name but for the suffix") as caught:
            index(touch(tmp_path, *twins))
        for name in twins:
            assert Path(name).name in str(caught.value)

    def test_masks_and_annotations_together(self, tmp_path):
        touch(tmp_path, "a.png", "notes.json")
        (tmp_path / "b.zip").write_bytes((FIXTURES / "imagej" / "RoiSet.zip").read_bytes())
        (tmp_path / "c.csv").write_text("name,area\n")
        assert list(label_files(tmp_path)) == ["a", "b"]
        assert [truth_of(p).form for p in label_files(tmp_path).values()] == ["mask", "shapes"]


class TestPairUp:
    def test_all_that_belongs_together(self):
        pairs, how, errors = pair_up(paths("a", "b"), paths("a_mask", "b_mask"), labels_in=Path("folder"))
        assert [(p.name, p.truth.files[0].stem) for p in pairs] == [("a", "a_mask"), ("b", "b_mask")]
        assert "_mask" in how
        assert errors == []

    def test_what_is_over_is_named_with_the_nearest_free_name(self):
        images, labels = paths("cell_01", "cell_02"), paths("cell_02", "cell_1")
        pairs, _, (error,) = pair_up(images, labels, labels_in=Path("folder"))
        assert [p.truth is not None for p in pairs] == [False, True]
        assert "1 of 2 label files" in error.what
        assert "cell_1.png (nearest: cell_01.png)" in error.what
        assert "cell_02" not in error.what
        assert error.fix

    def test_nothing(self):
        assert pair_up({}, {}, labels_in=Path())[0] == []


@pytest.mark.parametrize(("name", "part"), [
    ("train", "train"), ("Training", "train"), ("train2017", "train"), ("TRN", "train"), ("train_1", "train"),
    ("val", "validation"), ("valid", "validation"), ("dev", "validation"), ("test-2", "test"), ("testing", "test"),
    ("trained", None), ("tests", None), ("contest", None), ("2017", None), ("", None), ("a train", None)])
def test_parts(name, part):
    assert part_of(name) == part


class TestUnlabelled:
    def layout(self, tmp_path: Path, *pairs: Pair) -> Layout:
        return Layout(tmp_path, "", pairs)

    def test_an_image_among_labelled_ones(self, tmp_path):
        truth = Truth("mask", (tmp_path / "masks" / "a.png",))
        layout = self.layout(tmp_path, Pair("a", tmp_path / "a.png", truth), Pair("b", tmp_path / "b.png", None))
        assert [p.name for p in layout.unlabelled] == ["b"]
        error = missing_truth(layout)
        assert "1 of 2 images have no labels" in error.what
        assert "b.png" in error.what
        assert "--unlabelled ignore" in error.fix
        assert "--unlabelled background" in error.fix

    def test_a_part_that_has_none_is_for_prediction(self, tmp_path):
        truth = Truth("mask", (tmp_path / "a.png",))
        layout = self.layout(tmp_path, Pair("a", tmp_path / "a.png", truth, part="train"),
                             Pair("b", tmp_path / "b.png", None, part="test"))
        assert layout.unlabelled == ()
        assert missing_truth(layout) is None

    def test_images_of_one_name_in_two_folders_are_told_apart(self, tmp_path):
        touch(tmp_path, "images/1/a.png", "images/2/a.png", "images/3/a.png", "masks/3/a.png", "masks/4/a.png")
        pairs, _, errors = pair_up(index(tmp_path / "images"), index(tmp_path / "masks"), labels_in=tmp_path / "masks")
        error = missing_truth(Layout(tmp_path, "", tuple(pairs), problems=tuple(errors)))
        assert "1/a.png" in error.what
        assert "2/a.png" in error.what
        assert "4/a.png" in error.what
        assert "3/a.png" not in error.what


def test_where_a_message_points():
    mask = Pair("a", Path("a.png"), Truth("mask", (Path("m.png"),)))
    objects = Pair("a", Path("a.png"), Truth("objects", (Path("d/1.png"), Path("d/2.png")), folder=Path("d")))
    assert [where_of(p) for p in (mask, objects, Pair("a", Path("a.png"), None))] == [Path("m.png"), Path("d"), Path("a.png")]


def test_formats_that_are_not_read_are_named_with_the_way(tmp_path):
    (error,) = unread_error(touch(tmp_path, "a.png", "b.czi", "sub/c.czi", "notes.txt", "results.xlsx", ".d.czi"))
    assert "2 file(s)" in error.what
    assert "b.czi" in error.what
    assert "sub/c.czi" in error.what
    assert unread_error(touch(tmp_path / "fine", "a.png")) == []
