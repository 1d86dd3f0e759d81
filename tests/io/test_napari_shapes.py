"""napari's Shapes CSV: its own files and masks, every type, and tables that are none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from biomask.errors import MissingPathError, ReadError, WriteError
from biomask.instances import outlines, rasterise
from biomask.io.napari_shapes import read_napari_shapes, write_napari_csv
from biomask.shapes import Annotations, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations" / "napari"
HEADER = "index,shape-type,vertex-index,axis-0,axis-1"


def saved(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def points(index: object, kind: str, *corners: tuple[float, ...]) -> list[str]:
    return [f"{index},{kind},{i},{','.join(map(str, c))}" for i, c in enumerate(corners)]


def test_what_napari_saves() -> None:
    import shapely

    read = read_napari_shapes(FIXTURES / "shapes.csv")
    assert read.left_out == ("shape 3 (a path, without an area)", "shape 4 (a line, without an area)")
    truth = np.load(FIXTURES / "shapes_masks.npz")
    masks = np.unpackbits(truth["masks"], axis=-1)[..., : int(truth["width"])].astype(bool)
    for one, mask in zip(read.shapes, masks, strict=True):
        drawn = rasterise([one], mask.shape).array > 0
        y, x = np.nonzero(drawn != mask)
        if len(y):  # napari takes centres on the outline for inside, all around
            lines = shapely.MultiLineString([shapely.LinearRing(r) for r in one.rings])
            assert shapely.distance(shapely.points(x + 0.5, y + 0.5), lines).max() < 0.01


def test_the_first_of_three_axes_is_depth() -> None:
    read = read_napari_shapes(FIXTURES / "shapes_zyx.csv")
    assert [s.z for s in read.shapes] == [2, 5]
    assert read.shapes[1].bounds == (10.5, 30.5, 21.5, 37.5)
    assert read.left_out == ("shape 2 (it lies across the planes 1 to 3)",)


def test_coordinates_count_from_pixel_centres(tmp_path: Path) -> None:
    (shape,) = read_napari_shapes(saved(tmp_path / "a.csv",
                                        *points(0, "rectangle", (-0.5, 0.5), (-0.5, 2.5), (1.5, 2.5), (1.5, 0.5)))).shapes
    assert rasterise([shape], (3, 4)).array.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_columns_in_another_order_and_more_of_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.csv", "9,0,ü,0,polygon,0", "9,1,ü,5,polygon,1", '2,2,ü,5,"polygon",2',
                 header="axis-1,vertex-index,class,axis-0,shape-type,index")
    with pytest.raises(ReadError):
        read_napari_shapes(saved(tmp_path / "b.csv", "1,2,3", header="a,b,c"))
    read = read_napari_shapes(path)
    assert len(read.left_out) == 3, "each row has an index of its own: shapes of one point"
    path.write_text(path.read_text("utf-8").replace("polygon,1", "polygon,0").replace('"polygon",2', "polygon,0"), encoding="utf-8")
    (shape,) = read_napari_shapes(path).shapes
    assert (shape.name, shape.bounds) == ("ü", (2.5, 0.5, 9.5, 5.5))


@pytest.mark.parametrize(("rows", "reason"), [
    (points(0, "polygon", (1, 1), (2, 2)), "2 different points"),
    (points(0, "star", (1, 1), (2, 2), (3, 1)), "'star' is not known"),
    (points(0, "rectangle", (1, 1), (2, 2), (3, 1)), "a rectangle has 4 points"),
    (points(0, "ellipse", (1, 1)), "an? ellipse has 4 points"),
    (points(0, "polygon", (1, 1), (float("nan"), 2), (3, 1)), "not finite"),
    (points(0, "polygon", (1, 1), (float("inf"), 2), (3, 1)), "not finite"),
    (points(0, "polygon", (1, 1), (1e30, 2), (3, 1)), "beyond any image"),
])
def test_shapes_that_are_left_out(tmp_path: Path, rows: list[str], reason: str) -> None:
    import re

    read = read_napari_shapes(saved(tmp_path / "a.csv", *rows, *points(1, "polygon", (1, 1), (5, 1), (1, 5))))
    assert len(read.shapes) == 1
    assert len(read.left_out) == 1
    assert re.search(reason, read.left_out[0])


@pytest.mark.parametrize(("text", "reason"), [
    ("", "has the columns"), ("a,b\n1,2\n", "not those of napari"), (HEADER + ",axis-2,axis-3\n", "2 or 3 axes"),
    (HEADER + "\n0,polygon,0,1\n", "line 2 is not a point"), (HEADER + "\n0,polygon,0,1,x\n", "line 2"),
    (HEADER + "\n\n0\n", "line 3"),
    ("index,axis-0,axis-1\n0,1,2\n", "not those of napari"), (HEADER + '\n"' + "x" * 200_000 + '"\n', "damaged or not a table"),
])
def test_tables_that_are_none(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ReadError, match=reason):
        read_napari_shapes(tmp_path / "a.csv")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="UTF-8"):
        read_napari_shapes(tmp_path / "a.csv")
    with pytest.raises(MissingPathError):
        read_napari_shapes(tmp_path / "none.csv")


def test_written_form_is_naparis(tmp_path: Path) -> None:
    write_napari_csv(tmp_path / "a.csv", Annotations(tuple(outlines(np.array([[1, 1, 0], [0, 2, 2]])))))
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == HEADER, "no more columns where no shape has a class"
    assert lines[1:5] == ["0,polygon,0,-0.5,-0.5", "0,polygon,1,-0.5,1.5", "0,polygon,2,0.5,1.5", "0,polygon,3,0.5,-0.5"]
    assert len(read_napari_shapes(tmp_path / "a.csv").shapes) == 2


def test_holes_and_parts_in_one_walk(tmp_path: Path) -> None:
    mask = np.ones((9, 9), int)
    mask[2:5, 2:6] = 0
    mask[3, 4] = 1
    mask[7] = 0
    write_napari_csv(tmp_path / "a.csv", Annotations(tuple(outlines(mask, names={1: 'a, "b"'}))))
    (shape,) = read_napari_shapes(tmp_path / "a.csv").shapes
    assert (len(shape.rings), shape.name) == (1, 'a, "b"')
    np.testing.assert_array_equal(rasterise([shape], mask.shape).array, mask)
    with (tmp_path / "a.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert columns[:5] == HEADER.split(","), "napari takes its columns by place and name: more may follow"


def test_volumes_keep_planes_and_objects(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), int)
    labels[1:3, 1:4, 2:5] = 1
    labels[3, :2] = 5
    write_napari_csv(tmp_path / "a.csv", Annotations(tuple(outlines(labels))))
    read = read_napari_shapes(tmp_path / "a.csv").shapes
    assert [s.z for s in read] == [1, 2, 3]
    np.testing.assert_array_equal(rasterise(read, labels.shape).array,
                                  np.unique(labels, return_inverse=True)[1].reshape(labels.shape))


@pytest.mark.parametrize(("shapes", "reason"), [
    ((Shape((np.eye(3)[:, :2],), z=1), Shape((np.eye(3)[:, :2],))), "name their plane and some do not"),
    ((Shape((np.eye(3)[:, :2],), time=1), Shape((np.eye(3)[:, :2],), time=2)), "several time points"),
])
def test_what_napari_cannot_hold(tmp_path: Path, shapes: tuple[Shape, ...], reason: str) -> None:
    with pytest.raises(WriteError, match=reason):
        write_napari_csv(tmp_path / "a.csv", Annotations(shapes))
    assert not list(tmp_path.iterdir())
