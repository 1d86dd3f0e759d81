"""ImageJ's ROIs: its own files and masks, every type, and zips that are none."""

from __future__ import annotations

import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomask.errors import MissingPathError, ReadError, WriteError
from biomask.instances import outlines, rasterise
from biomask.io import rois
from biomask.io.roi_writer import write_roi_zip
from biomask.io.rois import has_rois, read_overlay, read_rois
from biomask.shapes import Annotations, Shape

FIXTURES = Path(__file__).parents[1] / "fixtures" / "annotations" / "imagej"


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def roi_bytes(**fields: object) -> bytes:
    from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

    roi = ImagejRoi()
    kinds = {"roitype": ROI_TYPE, "subtype": ROI_SUBTYPE, "options": ROI_OPTIONS}
    for name, value in fields.items():
        setattr(roi, name, kinds[name](value) if name in kinds else value)
    return bytes(roi.tobytes())


def square(**fields: object) -> bytes:
    return roi_bytes(**{"roitype": 1, "left": 2, "top": 3, "right": 6, "bottom": 8, "name": "a", **fields})


def test_every_type_fills_the_pixels_that_imagej_fills() -> None:
    read = read_rois(FIXTURES / "RoiSet.zip")
    truth = np.load(FIXTURES / "RoiSet_masks.npz")
    masks = np.unpackbits(truth["masks"], axis=-1)[..., : int(truth["width"])].astype(bool)
    assert [s.title for s in read.shapes] == truth["names"].tolist()
    for shape, mask in zip(read.shapes, masks, strict=True):
        np.testing.assert_array_equal(rasterise([shape], mask.shape).array > 0, mask, err_msg=shape.title)


def test_what_has_no_area_is_named() -> None:
    left_out = read_rois(FIXTURES / "RoiSet.zip").left_out
    assert [name.partition(" (")[0] for name in left_out] == [
        "straight line", "segmented line", "freehand line", "angle", "points", "arrow", "text"]
    assert all("no outline" in name or "without an area" in name for name in left_out)


def test_classes_names_and_colours() -> None:
    shapes = {s.title: s for s in read_rois(FIXTURES / "RoiSet.zip").shapes}
    assert shapes["rectangle"].name == "rectangle"
    assert shapes["rectangle"].colour == (230, 159, 0)
    assert shapes["polygon"].name == "group 2"
    assert shapes["0072-0042"].name == "", "a name that ImageJ made up is no class"
    assert [s.name for s in read_rois(FIXTURES / "RoiSet.zip").shapes].count("ring") == 2, "though the files are ring and ring-1"
    assert read_rois(FIXTURES / "ring.roi").shapes[0].colour == (0, 114, 178)


@pytest.mark.parametrize(("name", "expected"), [
    ("0123-0456", ""), ("0007-0123-0456", ""), ("00123-00456-1", ""), ("17", ""), ("tumour", "tumour"), ("cell 3", "cell 3"),
    ("3D", "3D"),
])
def test_names_that_are_classes(tmp_path: Path, name: str, expected: str) -> None:
    (shape,) = read_rois(zipped(tmp_path / "a.zip", **{"x.roi": square(name=name)})).shapes
    assert (shape.name, shape.title) == (expected, name)


def test_name_of_the_file_where_the_roi_has_none(tmp_path: Path) -> None:
    found = read_rois(zipped(tmp_path / "a.zip", **{"nucleus.roi": square(name=""), "sub/nucleus-1.roi": square(name="")})).shapes
    assert [s.name for s in found] == ["nucleus", "nucleus"]


def test_positions_count_from_one(tmp_path: Path) -> None:
    data = {"a.roi": square(position=5), "b.roi": square(c_position=2, z_position=3, t_position=4), "c.roi": square(),
            "d.roi": square(t_position=2)}
    assert [(s.z, s.time) for s in read_rois(zipped(tmp_path / "a.zip", **data)).shapes] == [
        (4, None), (2, 3), (None, None), (None, 1)]


def test_overlays_of_tiff_files() -> None:
    hyper = read_overlay(FIXTURES / "overlay_hyperstack.tif")
    assert [(s.title, s.z, s.time) for s in hyper.shapes] == [("first", 1, 0), ("second", 2, 1), ("third", 0, 1)]
    assert (hyper.size, hyper.image) == ((40, 48), "overlay_hyperstack.tif")
    assert hyper.left_out == ("the active selection (the overlay is taken)",)
    stack = read_overlay(FIXTURES / "overlay_stack.tif")
    assert [(s.title, s.z, s.time) for s in stack.shapes] == [("third slice", 2, None), ("any slice", None, None)]
    (selected,) = read_overlay(FIXTURES / "selection.tif").shapes
    assert selected.bounds == (30, 3, 47, 12)


@pytest.mark.parametrize(("dims", "position", "expected"), [
    ({"channels": 2, "slices": 3, "frames": 2}, 9, (1, 1)), ({"frames": 6}, 4, (None, 3)), ({"slices": 6}, 4, (3, None)),
    ({"channels": 6}, 4, (None, None)),
])
def test_a_position_in_the_stack_is_plane_and_time(tmp_path: Path, dims: dict[str, int], position: int,
                                                   expected: tuple[int | None, int | None]) -> None:
    import tifffile

    axes = {"frames": "T", "slices": "Z", "channels": "C"}
    order = [k for k in axes if k in dims]
    shape = (*(dims[k] for k in order), 8, 9)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), imagej=True,
                     metadata={"axes": "".join(axes[k] for k in order) + "YX", "Overlays": [square(position=position)]})
    (found,) = read_overlay(tmp_path / "a.tif").shapes
    assert (found.z, found.time) == expected


def test_tiff_files_without_an_overlay(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(ReadError, match="no overlay"):
        read_overlay(tmp_path / "plain.tif")
    with pytest.raises(ReadError, match="damaged or not a TIFF"):
        read_overlay(tmp_path / "text.tif")
    with pytest.raises(MissingPathError):
        read_overlay(tmp_path / "none.tif")


def test_whole_coordinates_as_imagej_unwraps_them(tmp_path: Path) -> None:
    """16 bits: below -5000 means beyond 32 767, and steps below zero are none."""
    data = bytearray(square(left=40_000, top=50_000, right=40_010, bottom=50_020))
    negative = square(left=-20, top=-10, right=0, bottom=0)
    steps = roi_bytes(roitype=7, left=10, top=10, right=40, bottom=40, n_coordinates=3,
                      integer_coordinates=np.array([(0, 0), (30, 0), (-3, 30)], np.int32))
    found = read_rois(zipped(tmp_path / "a.zip", **{"a.roi": bytes(data), "b.roi": negative, "c.roi": steps})).shapes
    assert [s.bounds for s in found] == [(40_000, 50_000, 40_010, 50_020), (-20, -10, 0, 0), (10, 10, 40, 40)]


def composite(*numbers: float) -> bytes:
    return square(shape_roi_size=len(numbers), multi_coordinates=np.array(numbers, np.float32))


def test_paths_with_curves(tmp_path: Path) -> None:
    quadratic = composite(0, 0, 0, 2, 10, 0, 10, 10, 1, 0, 10, 4)
    cubic = composite(0, 0, 0, 3, 5, 0, 10, 5, 10, 10, 1, 0, 10, 4)
    for shape in read_rois(zipped(tmp_path / "a.zip", **{"q.roi": quadratic, "c.roi": cubic})).shapes:
        assert len(shape.rings[0]) > 10
        assert 70 < rasterise([shape], (10, 10)).array.sum() < 95


@pytest.mark.parametrize(("data", "reason"), [
    (composite(0, 1, 1, 1, 5, 5, 4), "2 different points"),
    (composite(7, 1, 1), "path is damaged"), (composite(1, 1, 1), "path is damaged"), (composite(0, 1), "path is damaged"),
    (composite(0, 1, 1, 1, np.nan, 5, 1, 5, 9, 4), "not finite"), (composite(np.inf, 1, 1), "path is damaged"),
    (roi_bytes(roitype=0, options=128, left=0, top=0, right=5, bottom=5, n_coordinates=3,
               integer_coordinates=np.zeros((3, 2), np.int32), subpixel_coordinates=np.full((3, 2), np.nan, np.float32)),
               "not finite"),
    (roi_bytes(roitype=1, options=128, xd=np.nan, widthd=3.0, heightd=3.0), "not finite"),
    (roi_bytes(roitype=2, left=0, top=0, right=1, bottom=1, options=128, xd=0.0, yd=0.0, widthd=1e30, heightd=1.0),
     "beyond any image"),
    (roi_bytes(roitype=6), "no selection"), (roi_bytes(roitype=77), "77 is not known"), (square(subtype=4), "an image"),
])
def test_rois_that_are_left_out(tmp_path: Path, data: bytes, reason: str) -> None:
    read = read_rois(zipped(tmp_path / "a.zip", **{"odd.roi": data, "good.roi": square()}))
    assert len(read.shapes) == 1
    assert len(read.left_out) == 1
    assert reason in read.left_out[0]


def test_other_files_in_the_zip_are_named(tmp_path: Path) -> None:
    read = read_rois(zipped(tmp_path / "a.zip",
                            **{"a.roi": square(), "notes.txt": b"x", "__MACOSX/._a.roi": b"x", ".DS_Store": b"x"}))
    assert read.left_out == ("notes.txt (not a ROI)",)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "neither a zip"), (b"Iout", "damaged or not an ImageJ ROI"), (b"PK\x03\x04 but not really", "damaged or not a zip"),
    (square()[:70], None), (b"\x89PNG\r\n", "neither a zip"),
])
def test_files_that_are_none(tmp_path: Path, content: bytes, reason: str | None) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    if reason is None:  # cut off behind the header: a rectangle needs no more
        assert len(read_rois(path).shapes) == 1
        return
    with pytest.raises(ReadError, match=reason):
        read_rois(path)


def test_damaged_zips(tmp_path: Path) -> None:
    whole = (FIXTURES / "RoiSet.zip").read_bytes()
    path = tmp_path / "a.zip"
    path.write_bytes(whole[:-30])
    with pytest.raises(ReadError, match="not a zip"):
        read_rois(path)
    path.write_bytes(whole[:60] + bytes(40) + whole[100:])
    with pytest.raises(ReadError, match="damaged"):
        read_rois(path)
    with pytest.raises(ReadError, match=r"without \.roi files"):
        read_rois(zipped(tmp_path / "b.zip", **{"a.txt": b""}))
    with pytest.raises(ReadError, match="bad is damaged or not an ImageJ ROI"):
        read_rois(zipped(tmp_path / "c.zip", **{"bad.roi": b"Iout" + bytes(10)}))
    with pytest.raises(ReadError, match="cannot be read"):
        read_rois(tmp_path)
    with pytest.raises(MissingPathError):
        read_rois(tmp_path / "none.zip")


def test_claimed_number_of_points_is_no_memory(tmp_path: Path) -> None:
    data = bytearray(roi_bytes(roitype=0, n_coordinates=3, integer_coordinates=np.zeros((3, 2), np.int32)))
    data[16:22] = struct.pack(">Hi", 0, 2**30)
    with pytest.raises(ReadError, match="big is damaged"):
        read_rois(zipped(tmp_path / "a.zip", **{"big.roi": bytes(data)}))


def test_zip_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rois, "LARGEST_ZIP", 10_000)
    path = zipped(tmp_path / "a.zip", **{"a.roi": bytes(20_000)})
    with pytest.raises(ReadError, match="unpacks to more than"):
        read_rois(path)
    data = path.read_bytes().replace(struct.pack("<I", 20_000), struct.pack("<I", 90))  # says that it is small
    path.write_bytes(data)
    with pytest.raises(ReadError, match=r"unpacks to more than|damaged"):
        read_rois(path)
    monkeypatch.setattr(rois, "MOST_ROIS", 2)
    with pytest.raises(ReadError, match="2 files"):
        read_rois(zipped(tmp_path / "b.zip", **{f"{i}.roi": square() for i in range(3)}))


def test_which_zips_hold_rois(tmp_path: Path) -> None:
    assert has_rois(FIXTURES / "RoiSet.zip")
    assert has_rois(FIXTURES / "ring.roi")
    assert not has_rois(zipped(tmp_path / "a.zip", **{"a.png": b"", "__MACOSX/._a.roi": b""}))
    assert not has_rois(FIXTURES / "selection.tif")
    assert not has_rois(tmp_path / "none.zip")


def test_written_bytes_are_imagejs_form(tmp_path: Path) -> None:
    """A rectangle of pixels, a triangle with fractions and a ring, as roifile reads them."""
    from roifile import ROI_TYPE, roiread

    mask = np.ones((9, 9), int)
    mask[3:5, 2:7] = 0
    triangle = Shape((np.array([(1.5, 2.25), (30.5, 2), (4, 20.75)]),), "a/b", (1, 2, 3), z=4)
    write_roi_zip(tmp_path / "a.zip", Annotations((*outlines(np.ones((4, 6), int)), triangle, *outlines(mask, names={1: "ring"}),
                                                   Shape(triangle.rings, "a/b", z=1, time=2, group=5))))
    traced, polygon, ring, last = roiread(tmp_path / "a.zip")
    assert (traced.roitype, traced.name, (traced.left, traced.top, traced.right, traced.bottom)) == (ROI_TYPE.TRACED, "0002-0003",
                                                                                                     (0, 0, 6, 4))
    assert polygon.roitype == ROI_TYPE.POLYGON
    assert polygon.name == "a/b"
    assert (polygon.position, polygon.stroke_color) == (5, b"\xff\1\2\3")
    np.testing.assert_array_equal(polygon.coordinates(), triangle.rings[0])
    assert ring.composite
    assert [len(c) for c in ring.coordinates(multi=True)] == [5, 5]
    assert (last.c_position, last.z_position, last.t_position) == (0, 2, 3)
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["0002-0003.roi", "a_b.roi", "ring.roi", "a_b-1.roi"]
    assert read_rois(tmp_path / "a.zip").shapes[3].group == 5


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=40, deadline=None)
def test_fractions_survive_to_a_256th(seed: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    ring = rng.choice(np.arange(-200 * 256, 60_000 * 256), (rng.integers(3, 30), 2), replace=False) / 256
    ring = ring if exact else ring + rng.uniform(-0.5, 0.5, ring.shape)
    with tempfile.TemporaryDirectory() as folder:
        write_roi_zip(Path(folder) / "a.zip", Annotations((Shape((ring,), "a"), Shape((ring, ring + 1), "a"))))
        one, two = read_rois(Path(folder) / "a.zip").shapes
    for read, written in zip((*one.rings, *two.rings), (ring, ring, ring + 1), strict=True):
        np.testing.assert_allclose(read, written, rtol=0, atol=0 if exact else 1 / 256)


def test_long_and_far_outlines(tmp_path: Path) -> None:
    """More than 65 535 points, and coordinates beyond 16 bits."""
    angle = np.linspace(0, 2 * np.pi, 70_000, endpoint=False)
    long = np.stack([500 + 400 * np.cos(angle), 500 + 400 * np.sin(angle)], axis=1)
    far = np.array([(90_000, 70_000), (90_010, 70_000), (90_010, 70_020), (90_000, 70_020)], np.float64)
    near_the_limit = np.array([(3, 3), (59_999, 3), (59_999, 8), (3, 8)], np.float64)
    write_roi_zip(tmp_path / "a.zip", Annotations(tuple(Shape((r,), "a") for r in (long, far, near_the_limit))))
    read = read_rois(tmp_path / "a.zip").shapes
    np.testing.assert_allclose(read[0].rings[0], long, atol=1e-3)
    assert read[1].rings[0].tolist() == far.tolist()
    assert read[2].rings[0].tolist() == near_the_limit.tolist()


def test_same_shapes_same_bytes_and_many_of_one_name(tmp_path: Path) -> None:
    ring = np.array([(0, 0), (2, 0), (2, 2)], np.float64)
    shapes = Annotations(tuple(Shape((ring,), n) for n in ("a", "A", "a", "a-1", "", "x" * 300, "x" * 300, "é\U0001f600")))
    for name in ("1.zip", "2.zip"):
        write_roi_zip(tmp_path / name, shapes)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as file:
        folded = [n.casefold() for n in file.namelist()]
    assert len(set(folded)) == len(folded)
    assert [s.name for s in read_rois(tmp_path / "1.zip").shapes] == ["a", "A", "a", "a-1", "", "x" * 300, "x" * 300, "é?"]


def test_a_shape_without_an_outline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"before")
    with pytest.raises(WriteError, match="without an outline"):
        write_roi_zip(tmp_path / "a.zip", Annotations((Shape(()),)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    assert (tmp_path / "a.zip").read_bytes() == b"before"
