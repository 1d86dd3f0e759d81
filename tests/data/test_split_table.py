"""A table says which image is for what, in the spelling of any program; what it leaves open is named."""

from pathlib import Path

import pytest

from biomask.data.layouts import find_layout
from biomask.data.split_table import apply_split_table
from biomask.errors import PairingError


def data(folder: Path, *names: str) -> Path:
    for name in names or ("a", "b", "c", "d"):
        for side in ("images", "masks"):
            path = folder / side / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return folder


def parts(folder: Path, text: str | bytes, name: str = "split.csv") -> dict[str, tuple[str | None, str | None]]:
    """{image: (part, group)}; nothing is wrong."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    layout = find_layout(folder)
    assert layout.problems == ()
    return {p.name: (p.part, p.group) for p in layout.pairs}


def problems(folder: Path, text: str | bytes) -> str:
    (folder / "split.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return "\n".join(map(str, find_layout(folder).problems))
    except PairingError as error:
        return str(error)


EXPECTED = {"a": ("train", None), "b": ("train", None), "c": ("validation", None), "d": ("test", None)}


class TestSpellings:
    @pytest.mark.parametrize("text", [
        "image,part\na,train\nb,train\nc,val\nd,test\n",
        "image,part\r\na,train\r\nb,train\r\nc,val\r\nd,test\r\n",
        "image;part\na;train\nb;train\nc;val\nd;test",
        "image\tpart\na\ttrain\nb\ttrain\nc\tval\nd\ttest\n",
        b"\xef\xbb\xbfimage,part\na,train\nb,train\nc,val\nd,test\n",
        '"image","part"\n"a","train"\n"b","train"\n"c","val"\n"d","test"\n',
        " Image , Part \n a , Train \n b , TRAINING \n c , Validation \n d , tst \n",
        "Filename,Split,remarks\na.png,train,\nb.png,train,good; really\nc.png,valid,\nd.png,testing,\n",
        "id,set\nimages/a.png,train\nimages/b.png,train\nimages/c.png,dev\nimages/d.png,test\n",
        "path,subset\nimages\\a.png,train\nimages\\b.png,train\nimages\\c.png,val\nimages\\d.png,test\n",
        "path,part\nC:\\Users\\Anna\\data\\images\\a.png,train\nC:\\x\\images\\b.png,train\n/home/x/images/c.png,val\nd.png,test\n",
        "part,image\ntrain,A.PNG\ntrain,B\nval,c.tif\ntest,d\n",
        "image,part\na,train\n\nb,train\nc,val\nd,test\n\n",
        "image,part,note\na,train,\"two\nlines\"\nb,train,\nc,val,\nd,test,\n",
        "image,part,note\na,train,form\x0cfeed\u2028and more\nb,train,\nc,val,\nd,test,\n",
    ])
    def test_of_one_table(self, tmp_path, text):
        assert parts(data(tmp_path), text) == EXPECTED

    @pytest.mark.parametrize("name", ["split.csv", "splits.csv", "Split.csv", "split.tsv", "groups.csv"])
    def test_under_several_names(self, tmp_path, name):
        assert parts(data(tmp_path), "image,part\na,train\nb,train\nc,val\nd,test\n", name) == EXPECTED

    def test_of_other_tables_nothing_is_taken(self, tmp_path):
        assert set(parts(data(tmp_path), "image,part\na,train\n", "results.csv").values()) == {(None, None)}

    def test_umlauts_and_dots(self, tmp_path):
        names = ("Zellkörper", "细胞", "day.1.a", "day.1.b", "x y")
        rows = [f"{n}{'.png' if i % 2 else ''},{'test' if i == 2 else 'train'}" for i, n in enumerate(names)]
        found = parts(data(tmp_path, *names), "\n".join(["image,part", *rows]))
        assert {n for n, (part, _) in found.items() if part == "test"} == {"day.1.a"}
        assert {n for n, (part, _) in found.items() if part == "train"} == set(names) - {"day.1.a"}

    def test_folders_in_names(self, tmp_path):
        found = parts(data(tmp_path, "day 1/a", "day 2/a"), "image,part\nday 1/a.png,train\nimages/day 2/a.png,test\n")
        assert found == {"day 1/a": ("train", None), "day 2/a": ("test", None)}

    def test_one_row_is_not_for_two_images(self, tmp_path):
        """A bare name means any folder's image: which, is open."""
        data(tmp_path, "day 1/a", "day 2/a")
        assert "day 2/a" in problems(tmp_path, "image,part\nday 1/a,train\n")
        assert "day 1/a" in problems(tmp_path, "image,part\na,train\n")


class TestWhatIsWrong:
    def test_missing_rows(self, tmp_path):
        said = problems(data(tmp_path), "image,part\na,train\nb,test\n")
        assert "lacks 2 of 4 images: c, d" in said
        assert "add a row" in said

    def test_rows_of_images_that_are_gone(self, tmp_path):
        (data(tmp_path) / "split.csv").write_text("image,part\na,train\nb,train\nc,val\nd,test\ne,test\nf,train\n")
        layout = find_layout(tmp_path)
        assert layout.problems == ()
        assert any("2 images that cannot be found: e, f" in note for note in layout.notes)

    def test_parts_that_are_none(self, tmp_path):
        said = problems(data(tmp_path), "image,part\na,train\nb,holdout\nc,fold 3\nd,test\n")
        assert "fold 3, holdout" in said
        assert "train, validation or test" in said

    def test_no_column_of_images(self, tmp_path):
        said = problems(data(tmp_path), "slice,thickness\na,3\n")
        assert "slice, thickness" in said
        assert "call that column image" in said

    @pytest.mark.parametrize("text", ["", "\n", "image,part\n"])
    def test_nothing_in_it(self, tmp_path, text):
        assert "split.csv" in problems(data(tmp_path), text)

    @pytest.mark.parametrize("text", [b"\xff\xfei\x00m\x00", b"image,part\nZellk\xf6rper,train\n", b"\x00\x01\x02\xff"])
    def test_no_text_in_utf_8(self, tmp_path, text):
        assert "UTF-8" in problems(data(tmp_path), text)

    def test_a_nul_byte(self, tmp_path):
        assert isinstance(problems(data(tmp_path), b"image,part\na,tr\x00ain\n"), str)

    def test_one_image_in_two_parts(self, tmp_path):
        """Trained on and tested on: the last row must not win without a word."""
        said = problems(data(tmp_path), "image,part\na,train\nb,train\nc,val\nd,test\na.png,test\n")
        assert "a" in said
        assert "train" in said
        assert "test" in said

    def test_the_same_row_twice_is_no_harm(self, tmp_path):
        assert parts(data(tmp_path), "image,part\na,train\nb,train\nc,val\nd,test\na,train\n") == EXPECTED


class TestGroups:
    @pytest.mark.parametrize("column", ["group", "Patient", "slide", "animal"])
    def test_by_the_usual_names(self, tmp_path, column):
        found = parts(data(tmp_path), f"image,{column}\na,7\nb,7\nc,8\nd,\n")
        assert found == {"a": (None, "7"), "b": (None, "7"), "c": (None, "8"), "d": (None, None)}

    def test_by_the_column_that_is_named(self, tmp_path):
        (data(tmp_path) / "split.csv").write_text("image,group,Mouse No.\na,1,x\nb,2,x\nc,3,y\nd,4,y\n")
        layout = apply_split_table(find_layout(tmp_path), "mouse no.")
        assert [p.group for p in layout.pairs] == ["x", "x", "y", "y"]

    def test_a_column_that_is_not_there(self, tmp_path):
        (data(tmp_path) / "split.csv").write_text("image,group\na,1\n")
        with pytest.raises(PairingError, match="has no column 'mouse', but image, group"):
            apply_split_table(find_layout(tmp_path), "mouse")

    def test_no_table(self, tmp_path):
        with pytest.raises(PairingError, match=r"there is no split\.csv"):
            apply_split_table(find_layout(data(tmp_path)), "mouse")

    def test_what_is_said_is_said_once(self, tmp_path):
        (data(tmp_path) / "split.csv").write_text("image,part,mouse\na,train,1\nb,odd,2\n")
        layout = apply_split_table(find_layout(tmp_path), "mouse")
        assert len(layout.problems) == len({str(p) for p in layout.problems}) == 2
        assert len(layout.notes) == len(set(layout.notes))

    def test_parts_of_folders_are_kept_where_the_table_says_none(self, tmp_path):
        for part in ("train", "test"):
            data(tmp_path / part, f"a_{part}")
        found = parts(tmp_path, "image,group\na_train,1\ntest/a_test,2\n")
        assert found == {"train/a_train": ("train", "1"), "test/a_test": ("test", "2")}


@pytest.mark.data
def test_dsb2018(data_root):
    layout = find_layout(data_root / "dsb2018")
    assert len({p.group for p in layout.pairs}) > 100
    assert {p.part for p in layout.pairs} == {"train", "test"}
    assert not {p.group for p in layout.pairs if p.part == "train"} & {p.group for p in layout.pairs if p.part == "test"}
