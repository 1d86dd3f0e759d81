"""LabelMe's JSON: its own file and masks, every type of shape, and what is written for it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biomask.errors import ReadError, WriteError
from biomask.instances import outlines, rasterise
from biomask.io.labelme import read_labelme, write_labelme
from biomask.shapes import Annotations, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations" / "labelme"
TRIANGLE = [[1, 1], [8, 1], [1, 8]]


def saved(path: Path, *shapes: Any, **more: Any) -> Path:
    path.write_text(json.dumps({"version": "5.7.0", "shapes": list(shapes), "imagePath": "a.png", **more}), encoding="utf-8")
    return path


def shape(points: Any, kind: str = "polygon", label: Any = "cell", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def png(pixels: Any, mode: str | None = None) -> str:
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    (picture.convert(mode) if mode else picture).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_what_labelme_saves() -> None:
    import shapely

    read = read_labelme(FIXTURES / "cells.json")
    assert (read.size, read.image) == ((56, 64), "cells.png")
    assert [s.name for s in read.shapes] == ["nucleus", "vessel", "nucleus", "ring", "split", "split"]
    assert [s.group for s in read.shapes] == [None, None, None, None, 7, 7]
    assert [name.partition(" (")[0] for name in read.left_out] == ["shape 6 'spot'", "shape 7 'axon'", "shape 8 'axon'"]
    truth = np.load(FIXTURES / "cells_masks.npz")
    masks = np.unpackbits(truth["masks"], axis=-1)[..., : int(truth["width"])].astype(bool)
    for number, (one, mask) in enumerate(zip(read.shapes, masks, strict=True)):
        drawn = rasterise([one], (56, 64)).array > 0
        y, x = np.nonzero(drawn != mask)
        if number == 3:
            assert not len(y), "masks are exact"
        elif len(y):  # LabelMe fills the pixels under the outline too
            lines = shapely.MultiLineString([shapely.LinearRing(r) for r in one.rings])
            assert shapely.distance(shapely.points(x + 0.5, y + 0.5), lines).max() < 1.1


def test_shapes_of_one_label_and_group_are_one_object() -> None:
    drawn = rasterise(read_labelme(FIXTURES / "cells.json").shapes, (56, 64)).array
    assert len(np.unique(drawn)) == 6


def test_types_with_an_area(tmp_path: Path) -> None:
    read = read_labelme(saved(tmp_path / "a.json", shape(TRIANGLE), shape([[8, 9], [2, 3]], "rectangle"),
                              shape([[5, 5], [5, 9]], "circle"),
                              shape([[5, 1], [9, 5], [5, 9], [1, 5]], "oriented_rectangle"),
                              shape([[1.6, 2.4], [4, 4]], "mask", mask=png([[0, 255, 0], [255, 255, 255]])),
                              {"label": "old", "points": TRIANGLE}))
    areas = [int(rasterise([s], (12, 12)).array.sum()) for s in read.shapes]
    assert areas == [28, 36, 52, 32, 4, 28]
    mask = rasterise(read.shapes[4:5], (12, 12)).array
    assert mask[2, 2:5].tolist() == [0, 1, 0], "where LabelMe rounds its first point to"


@pytest.mark.parametrize(("entry", "reason"), [
    (shape(TRIANGLE[:2]), "2 different points"), (shape([[1, 1]], "point"), "a point"), (shape(TRIANGLE, "linestrip"), "a line"),
    (shape(TRIANGLE, "points"), "points"), (shape(TRIANGLE, "star"), "'star' is not known"),
    (shape(TRIANGLE, "rectangle"), "has 2 points"),
    (shape([[1, 1], [1, 5]], "rectangle"), "2 different points"), (shape(None), "pairs of numbers"),
    (shape([[1, 1], [2]], "circle"), "pairs"),
    (shape([[1, 1], [1, 1]], "circle"), "different points"), (shape([[1, 1], [float("nan"), 1]], "circle"), "not finite"),
    (shape([[1, 1], [float("inf"), 1], [2, 2]]), "not finite"), (shape([[1, 1], [2, 2]], "mask"), "damaged or no PNG"),
    (shape([[1, 1], [2, 2]], "mask", mask="@@"), "damaged or no PNG"),
    (shape([[1, 1], [2, 2]], "mask", mask="AAAA"), "damaged or no PNG"),
    (shape([[1, 1], [2, 2]], "mask", mask=png([[0, 0]])), "an empty mask"),
    (shape([[1, 1], [2, 2]], "mask", mask=7), "damaged or no PNG"),
    (shape([[1, 1], [2, 2]], "mask", mask=png([[1, 0]], "RGB")), "3 axes"),
    (shape([[1, 1], [2, 2]], "mask", mask=png(np.ones((40, 40)))[:60]), "damaged or no PNG"),
    (shape(TRIANGLE, 5), "5 is not known"),
])
def test_shapes_that_are_left_out(tmp_path: Path, entry: Any, reason: str) -> None:
    read = read_labelme(saved(tmp_path / "a.json", entry, shape(TRIANGLE)))
    assert len(read.shapes) == 1
    assert len(read.left_out) == 1
    assert read.left_out[0].startswith("shape 0 'cell' (")
    assert reason in read.left_out[0]


def test_huge_masks_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biomask.io.labelme.LARGEST_MASK", 100)
    read = read_labelme(saved(tmp_path / "a.json", shape([[1, 1], [2, 2]], "mask", mask=png(np.ones((20, 20))))))
    assert "claims 20 x 20 pixels" in read.left_out[0]


@pytest.mark.parametrize(("content", "reason"), [
    ([], "no list of shapes"), ({"shapes": 5}, "no list of shapes"), ({"shapes": [5]}, "shape 0 has no label"),
    ({"shapes": [shape(TRIANGLE), shape(TRIANGLE, label=None)]}, "shape 1 has no label"), (5, "no list of shapes"),
])
def test_json_that_is_none(tmp_path: Path, content: Any, reason: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ReadError, match=reason):
        read_labelme(tmp_path / "a.json")


@pytest.mark.parametrize(("more", "size", "image"), [
    ({"imageHeight": 5, "imageWidth": 7}, (5, 7), "a.png"), ({"imageHeight": None, "imageWidth": 7}, None, "a.png"),
    ({"imageHeight": 0, "imageWidth": 7}, None, "a.png"), ({"imageHeight": "5", "imageWidth": 7}, None, "a.png"),
    ({"imagePath": "..\\x\\b.tif"}, None, "b.tif"), ({"imagePath": "../y/ü.tif"}, None, "ü.tif"), ({"imagePath": None}, None, None),
])
def test_name_and_size_of_the_image(tmp_path: Path, more: Any, size: Any, image: Any) -> None:
    read = read_labelme(saved(tmp_path / "a.json", shape(TRIANGLE), **more))
    assert (read.size, read.image) == (size, image)


def test_written_form_is_labelmes(tmp_path: Path) -> None:
    mask = np.ones((9, 9), int)
    mask[2:5, 2:6] = 0
    mask[7:] = 0
    mask[8, :3] = 2
    mask[8, 6:] = 2
    shapes = outlines(mask, names={1: "ring", 2: "two parts"})
    write_labelme(tmp_path / "a.json", Annotations(tuple(shapes), (9, 9), (), "a.png"))
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert set(content) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    ring, left, right = content["shapes"]
    assert all(set(s) == {"label", "points", "group_id", "description", "shape_type", "flags", "mask"} for s in content["shapes"])
    assert (ring["shape_type"], ring["points"]) == ("mask", [[0, 0], [8, 6]])
    assert (left["shape_type"], left["group_id"], left["label"]) == ("polygon", right["group_id"], "two parts")
    assert left["group_id"] is not None
    again = read_labelme(tmp_path / "a.json")
    np.testing.assert_array_equal(rasterise(again.shapes, (9, 9)).array, mask)


def test_new_groups_are_no_old_ones(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1, 0, 2]])
    one, two = outlines(mask, names={1: "a", 2: "a"})
    write_labelme(tmp_path / "a.json", Annotations((Shape(two.rings, "a", group=4), one), (1, 5), (), "a.png"))
    drawn = rasterise(read_labelme(tmp_path / "a.json").shapes, (1, 5)).array
    assert drawn.tolist() == [[2, 0, 2, 0, 1]]


def test_thin_rings_become_polygons(tmp_path: Path) -> None:
    """Holes, but no pixel centre: a mask would be empty."""
    outer = np.array([(0.6, 0.6), (0.9, 0.6), (0.9, 0.9), (0.6, 0.9)])
    write_labelme(tmp_path / "a.json", Annotations((Shape((outer, (outer - 0.75) / 2 + 0.75), "a"),), (5, 5), (), "a.png"))
    assert [s["shape_type"] for s in json.loads((tmp_path / "a.json").read_text())["shapes"]] == ["polygon"]


@pytest.mark.parametrize(("annotations", "reason"), [
    (Annotations((), None, (), "a.png"), "name and size"), (Annotations((), (5, 5)), "name and size"),
    (Annotations((Shape((), z=1), Shape((), z=2)), (5, 5), (), "a.png"), "several planes .1, 2"),
    (Annotations((Shape((), time=1), Shape(())), (5, 5), (), "a.png"), "several time points"),
])
def test_what_labelme_cannot_hold(tmp_path: Path, annotations: Annotations, reason: str) -> None:
    with pytest.raises(WriteError, match=reason):
        write_labelme(tmp_path / "a.json", annotations)
    assert not list(tmp_path.iterdir())
