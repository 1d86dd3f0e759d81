"""`Selection` and `select`: from axes of any order to an `Image`, and a question where they stay open."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from biomask.errors import ReadError, UsageError
from biomask.stored import (
    KNOWN_AXES,
    UNKNOWN,
    WHOLE,
    Plane,
    Selection,
    Stored,
    parse_axes,
    planes,
    resolve_axes,
    select,
    stem_of,
    suffix_of,
)

LENGTHS = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6, "S": 3, "Q": 7}


def stored(axes, shape=None, dtype=np.uint16, **facts):
    """A file that holds 0, 1, 2, …; `asked` collects the keys that were read."""
    shape = tuple(LENGTHS[a] for a in axes) if shape is None else shape
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    asked = []

    def load(key):
        asked.append(key)
        return array[key]

    file = Stored(Path("folder/scan.ome.tif"), shape, array.dtype, axes, load, **facts)
    return file, array, asked


def put(array, axes, order):
    """An oracle for transposing: einsum."""
    return np.einsum(f"{axes.lower()}->{order.lower()}", array)


class TestSelect:
    @pytest.mark.parametrize("axes", ["".join(p) for n in (2, 3, 4) for chosen in itertools.combinations("CZYX", n)
                                      if {"Y", "X"} <= set(chosen) for p in itertools.permutations(chosen)])
    def test_any_order_of_axes(self, axes):
        file, array, _ = stored(axes)
        image = select(file, Selection())
        order = "".join(a for a in "CZYX" if a in axes)
        expected = put(array, axes, order)
        assert image.axes == ("czyx" if "Z" in axes else "cyx")
        assert np.array_equal(image.array, expected if "C" in axes else expected[None])
        assert image.array.flags.c_contiguous
        assert image.name == "scan"

    @given(data=st.data())
    def test_planes_and_time_points_are_what_slicing_gives(self, data):
        axes = "".join(data.draw(st.permutations("TCZYX")))
        time, z = data.draw(st.integers(0, 1)), data.draw(st.one_of(st.none(), st.just("max"), st.integers(0, 3)))
        file, array, _ = stored(axes)
        image = select(file, Selection(time=time, z=z))
        volume = put(array, axes, "TCZYX")[time]
        expected = volume if z is None else volume.max(axis=1) if z == "max" else volume[:, z]
        assert np.array_equal(image.array, expected)

    @pytest.mark.parametrize("axes", ["YXS", "SYX", "YSX"])
    def test_samples_are_channels(self, axes):
        file, array, _ = stored(axes)
        assert np.array_equal(select(file, Selection()).array, put(array, axes, "SYX"))

    @pytest.mark.parametrize(("axes", "shape"), [("TZCYX", (1, 1, 1, 5, 6)), ("QQYX", (1, 1, 5, 6)), ("YXS", (5, 6, 1)),
                                                 ("CYXS", (1, 5, 6, 1))])
    def test_axes_of_length_one_are_dropped(self, axes, shape):
        file, array, _ = stored(axes, shape)
        for selection in (Selection(), Selection(z=0), Selection(time=0), Selection(z="max")):
            image = select(file, selection)
            assert image.array.shape == (1, 5, 6)
            assert np.array_equal(image.array.reshape(-1), array.reshape(-1))

    def test_one_row_and_one_column_are_kept(self):
        assert select(stored("ZYX", (3, 1, 1))[0], Selection()).array.shape == (1, 3, 1, 1)

    def test_only_what_is_selected_is_read(self):
        file, _, asked = stored("TZCYX")
        select(file, Selection(time=1, z=2))
        select(file, Selection(time="each", z="each"), Plane(z=3, time=0))
        every = slice(None)
        assert asked == [(1, 2, every, every, every), (0, 3, every, every, every)]

    def test_true_is_255(self):
        file, array, _ = stored("YX", dtype=bool)
        image = select(file, Selection())
        assert image.array.dtype == np.uint8
        assert np.array_equal(image.array[0], array * 255)

    def test_brightest_values_of_booleans(self):
        file, array, _ = stored("ZYX", dtype=bool)
        assert np.array_equal(select(file, Selection(z="max")).array[0], array.any(axis=0) * 255)

    @pytest.mark.parametrize("axes", ["CYXS", "SCYX"])
    def test_channels_and_colours_at_once_are_refused(self, axes):
        with pytest.raises(ReadError, match="both channels and colours"):
            select(stored(axes)[0], Selection())

    @pytest.mark.parametrize("axes", ["ZX", "CX", "YXX", "ZZYX", "ZZQYX", "QYYX"])
    def test_axes_without_y_and_x_once_each_are_refused(self, axes):
        with pytest.raises(ReadError, match="--axes"):
            select(stored(axes, (2, 3, 4, 5, 6)[: len(axes)])[0], Selection())

    @pytest.mark.parametrize(("selection", "flag"), [(Selection(z=4), "--z 0 to 3"), (Selection(z=-1), "--z 0 to 3"),
                                                     (Selection(time=2, z=0), "--time 0 to 1")])
    def test_planes_that_are_not_there_name_those_that_are(self, selection, flag):
        with pytest.raises(ReadError, match=r"has no (z|time) -?\d") as caught:
            select(stored("TZYX" if selection.time else "ZYX")[0], selection)
        assert caught.value.fix == flag

    @pytest.mark.parametrize(("axes", "other"), [("TYX", "--axes CYX"), ("TCYX", "--axes ZCYX"), ("TZYX", "--axes CZYX"),
                                                 ("TYXS", "--axes ZYXS")])
    def test_a_time_series_names_every_way(self, axes, other):
        with pytest.raises(ReadError, match="time series of 2") as caught:
            select(stored(axes)[0], Selection())
        assert "--time each" in caught.value.fix
        assert other in caught.value.fix
        with pytest.raises(ReadError) as caught:
            select(stored("TZCYX")[0], Selection())
        assert "--axes" not in caught.value.fix


class TestTransparency:
    @pytest.mark.parametrize(("dtype", "opaque"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
    @pytest.mark.parametrize("axes", ["YXS", "SYX"])
    @pytest.mark.parametrize("samples", [2, 4])
    def test_it_is_dropped_where_it_hides_nothing(self, dtype, opaque, axes, samples):
        shape = (5, 6, samples) if axes == "YXS" else (samples, 5, 6)
        array = np.zeros(shape, dtype)
        array[(..., -1) if axes == "YXS" else -1] = opaque
        file = Stored(Path("a.png"), shape, array.dtype, axes, lambda key: array[key], transparency=True)
        assert select(file, Selection()).array.shape == (samples - 1, 5, 6)
        array[(2, 3, -1) if axes == "YXS" else (-1, 2, 3)] = 0
        with pytest.raises(ReadError, match="transparent pixels") as caught:
            select(file, Selection())
        assert "flatten" in caught.value.fix


class TestChannels:
    NAMES = ("DAPI", "GFP", "mCherry")

    @pytest.mark.parametrize(("wanted", "found"), [(("DAPI",), [0]), (("gfp",), [1]), (("2",), [2]), (("mcherry", "DAPI"), [2, 0]),
                                                   (("0", "GFP"), [0, 1]), (None, [0, 1, 2])])
    def test_by_name_or_number(self, wanted, found):
        file, array, _ = stored("CYX", channel_names=self.NAMES)
        image = select(file, Selection(channels=wanted))
        assert np.array_equal(image.array, array[found])
        assert image.channel_names == tuple(self.NAMES[i] for i in found)

    def test_a_name_goes_before_a_number(self):
        file, array, _ = stored("CYX", channel_names=("2", "1", "0"))
        assert np.array_equal(select(file, Selection(channels=("0",))).array, array[2:])

    @pytest.mark.parametrize("wanted", ["3", "-1", "CFP", "1.0", "²", ""])
    def test_what_is_not_there_lists_what_is(self, wanted):
        with pytest.raises(ReadError, match="0 DAPI, 1 GFP, 2 mCherry"):
            select(stored("CYX", channel_names=self.NAMES)[0], Selection(channels=(wanted,)))
        with pytest.raises(ReadError, match="0 to 2, without names"):
            select(stored("CYX")[0], Selection(channels=(wanted,)))

    def test_a_name_of_two_channels_asks_for_numbers(self):
        file, _, _ = stored("CYX", channel_names=("GFP", "DAPI", "gfp"))
        with pytest.raises(ReadError, match="several channels 'GFP'") as caught:
            select(file, Selection(channels=("GFP",)))
        assert caught.value.fix == "give numbers: --channels 0,2"

    def test_names_that_do_not_fit_are_left_out(self):
        assert select(stored("CYX", channel_names=("a", "b"))[0], Selection()).channel_names == ()

    def test_colours_by_number(self):
        file, array, _ = stored("YXS")
        assert np.array_equal(select(file, Selection(channels=("1",))).array[0], array[..., 1])


class TestSpacing:
    @pytest.mark.parametrize(("axes", "spacing", "expected"), [
        ("YX", {"y": 0.5, "x": 0.25}, {"y": 0.5, "x": 0.25}), ("YX", {"z": 2.0, "y": 0.5, "x": 0.25}, {"y": 0.5, "x": 0.25}),
        ("ZYX", {"z": 2.0, "y": 0.5, "x": 0.25}, {"z": 2.0, "y": 0.5, "x": 0.25}), ("ZYX", {"y": 0.5, "x": 0.25}, None),
        ("YX", {"y": 0.5}, None), ("YX", {"y": 0.0, "x": 1.0}, None), ("YX", {"y": np.nan, "x": 1.0}, None),
        ("YX", {"y": np.inf, "x": 1.0}, None), ("YX", {"y": -1.0, "x": 1.0}, None), ("YX", {}, None)])
    def test_all_axes_or_none(self, axes, spacing, expected):
        assert select(stored(axes, spacing=spacing)[0], Selection()).spacing == expected

    def test_a_plane_of_a_volume_keeps_its_own(self):
        file, _, _ = stored("ZYX", spacing={"z": 2.0, "y": 0.5, "x": 0.25}, affine=np.eye(4))
        assert select(file, Selection(z=1)).spacing == {"y": 0.5, "x": 0.25}
        assert np.array_equal(select(file, Selection()).affine, np.eye(4))

    @pytest.mark.parametrize(("selection", "plane", "depth"), [
        (Selection(z=2), WHOLE, 2), (Selection(z="each"), Plane(z=3), 3), (Selection(z="max"), WHOLE, 0), (Selection(), WHOLE, 0)])
    def test_a_plane_lies_where_it_lay_in_its_volume(self, selection, plane, depth):
        affine = np.array([[-0.5, 0, 0.1, 90], [0, 0.7, 0, -126], [0.2, 0, 2, -72], [0, 0, 0, 1.0]])
        file, _, _ = stored("ZYX", affine=affine)
        found = select(file, selection, plane).affine
        for x, y in ((0, 0), (3, 1)):
            assert np.allclose(found @ (x, y, 0, 1), affine @ (x, y, depth, 1))
        assert np.array_equal(file.affine, affine), "the file's own stays"

    def test_a_single_slice_keeps_its_affine(self):
        file, _, _ = stored("ZYX", (1, 5, 6), affine=2 * np.eye(4))
        assert np.array_equal(select(file, Selection()).affine, 2 * np.eye(4))

    @pytest.mark.parametrize(("axes", "given", "expected"), [
        ("ZYX", "XZY", {"x": 2.0, "z": 0.5, "y": 0.25}), ("ZYX", "YXZ", {"y": 2.0, "x": 0.5, "z": 0.25}),
        ("ZYX", "ZYX", {"z": 2.0, "y": 0.5, "x": 0.25}), ("ZYX", "TYX", {"y": 0.5, "x": 0.25}),
        ("ZYX", "CYX", {"y": 0.5, "x": 0.25}), ("CYX", "YXC", None), ("TYX", "ZYX", {"z": 2.0, "y": 0.5, "x": 0.25})])
    def test_the_size_of_a_pixel_belongs_to_the_dimension(self, axes, given, expected):
        """A TIFF may state a distance of slices without saying which of its axes they are: that one stays."""
        spacing = {"z": 2.0, "y": 0.5, "x": 0.25}
        if axes == "CYX":
            del spacing["z"]
        file, _, _ = stored(axes, (3, 5, 6), spacing=spacing)
        assert select(file, Selection(axes=given, time=0 if "T" in given else None)).spacing == expected

    @pytest.mark.parametrize("given", ["".join(p) for p in itertools.permutations("ZYX")])
    def test_a_voxel_stays_where_it_is_whatever_its_axes_are_called(self, given):
        affine = np.array([[-0.5, 0, 0.1, 90], [0, 0.7, 0, -126], [0.2, 0, 2, -72], [0, 0, 0, 1.0]])
        file, array, _ = stored("ZYX", affine=affine)
        image = select(file, Selection(axes=given))
        z, y, x = 1, 2, 3
        index = dict(zip(given, (z, y, x), strict=True))
        assert image.array[0, index["Z"], index["Y"], index["X"]] == array[z, y, x]
        assert np.allclose(image.affine @ (index["X"], index["Y"], index["Z"], 1), affine @ (x, y, z, 1))

    @pytest.mark.parametrize(("axes", "given", "kept"), [
        ("ZYX", "CYX", False), ("TYX", "ZYX", False), ("TZYX", "ZTYX", False), ("QZYX", "CZYX", True), ("YX", "YX", True)])
    def test_an_affine_goes_where_space_is_not_what_it_was(self, axes, given, kept):
        found = resolve_axes(stored(axes, affine=np.eye(4))[0], Selection(axes=given)).affine
        assert (found is not None) == kept

    def test_a_slice_of_which_both_axes_were_exchanged(self):
        file, _, _ = stored("ZYX", (1, 5, 6), affine=np.diag([2.0, 3.0, 4.0, 1.0]))
        found = select(file, Selection(axes="XY")).affine
        assert np.allclose(found @ (1, 0, 0, 1), (0, 3, 0, 1))
        assert np.allclose(found @ (0, 0, 1, 1), (0, 0, 4, 1))


class TestOpenAxes:
    @pytest.mark.parametrize(("axes", "shape", "proposals"), [
        ("QYX", (9, 40, 50), ["--axes ZYX (a volume)", "--axes CYX (channels)", "--axes TYX (a time series)"]),
        ("QYX", (40, 50, 3), ["--axes YXC (channels last)", "--axes ZYX (a volume)"]),
        ("QZYX", (2, 9, 40, 50), ["--axes CZYX (channels)", "--axes TZYX (a time series)"]),
        ("QYXS", (9, 40, 50, 3), ["--axes ZYXS (a volume)", "--axes TYXS (a time series)"]),
        ("QQYX", (2, 9, 40, 50), ["--axes CZYX"]), ("QQYXS", (2, 9, 40, 50, 3), ["--axes TZYXS"]),
        ("QQQYX", (2, 3, 9, 40, 50), ["--axes TCZYX"]), ("QQQQYX", (2, 2, 3, 9, 40, 50), ["one letter a dimension"]),
        ("QQQYX", (1, 1, 9, 40, 50), ["--axes ZYX (a volume)"])])
    def test_what_to_type_is_said_and_works(self, axes, shape, proposals):
        file, _, _ = stored(axes, shape)
        long = ", ".join(str(n) for n in shape if n > 1)
        for read in (select, planes):
            with pytest.raises(ReadError, match=rf"\({long}\)") as caught:
                read(file, Selection())
            for proposal in proposals:
                assert proposal in caught.value.fix
        for proposal in proposals:
            if proposal.startswith("--axes "):
                given_axes = parse_axes(proposal.split()[1])
                assert select(file, Selection(axes=given_axes, time=0)).array.size > 0

    @pytest.mark.parametrize(("selection", "size"), [(Selection(z=3), (5, 6)), (Selection(z="max"), (5, 6)),
                                                     (Selection(time=3), (5, 6)), (Selection(axes="ZYX"), (7, 5, 6)),
                                                     (Selection(axes="ZYX", z=2), (5, 6))])
    def test_a_flag_that_says_what_the_axis_is(self, selection, size):
        assert select(stored("QYX")[0], selection).size == size

    def test_axes_of_length_one_need_no_letter(self):
        file, array, _ = stored("QTCQYX", (1, 1, 1, 4, 5, 6))
        for axes in ("ZYX", "CTSZYX"):
            assert np.array_equal(select(file, Selection(axes=axes)).array[0], array[0, 0, 0])

    def test_axes_that_are_given_go_before_those_of_the_file(self):
        """Some programs call every stack a time series."""
        assert select(stored("TYX")[0], Selection(axes="ZYX")).axes == "czyx"

    def test_axes_for_volumes_leave_planes_alone(self):
        assert resolve_axes(stored("YX")[0], Selection(axes="ZYX")).axes == "YX"

    @given(st.lists(st.sampled_from("TCZS" + UNKNOWN), max_size=3, unique=True), st.booleans())
    def test_axes_are_resolved_or_refused(self, letters, longer):
        axes = "".join(letters) + "YX"
        file, _, _ = stored(axes)
        try:
            known = resolve_axes(file, Selection(z="each" if longer else None))
        except ReadError:
            assert UNKNOWN in axes
        else:
            assert set(known.axes) <= set(KNOWN_AXES)


class TestPlanes:
    def test_one_image_unless_split(self):
        file, _, _ = stored("TCZYX")
        assert planes(file, Selection()) == planes(file, Selection(z=1, time=0)) == planes(file, Selection(z="max")) == [WHOLE]
        assert not Selection(z=1).splits

    def test_each_plane_and_time_point_in_order(self):
        file, array, _ = stored("TCZYX")
        selection = Selection(z="each", time="each")
        assert selection.splits
        found = planes(file, selection)
        assert [(p.time, p.z) for p in found] == list(itertools.product(range(2), range(4)))
        images = [select(file, selection, p) for p in found]
        assert np.array_equal(np.stack([i.array for i in images]), array.swapaxes(1, 2).reshape(8, 3, 5, 6))
        assert [i.name for i in images[:2]] == ["scan_t000_z000", "scan_t000_z001"]
        assert len({i.name for i in images}) == 8

    @pytest.mark.parametrize(("axes", "selection", "count"), [("YX", Selection(z="each", time="each"), 1),
                                                              ("ZYX", Selection(z="each"), 4), ("QYX", Selection(time="each"), 7),
                                                              ("QYX", Selection(z="each"), 7),
                                                              ("TZYX", Selection(z="each", time=1), 4)])
    def test_how_many(self, axes, selection, count):
        file, _, _ = stored(axes)
        found = planes(file, selection)
        assert len(found) == count
        assert all(select(file, selection, p).size == (5, 6) for p in found)


class TestSelection:
    def test_of_labels(self):
        given_all = Selection(axes="TCZYX", channels=("DAPI",), z="max", time=2)
        assert given_all.of_labels() == Selection(axes="TZYX", time=2)
        assert given_all.of_labels().of_labels() == given_all.of_labels()
        assert Selection(z=3).of_labels() == Selection(z=3)
        assert Selection().of_labels() == Selection()

    def test_flags(self):
        typed = "--axes ZYX --channels DAPI,1 --z 0 --time each"
        assert Selection(axes="ZYX", channels=("DAPI", "1"), z=0, time="each").flags() == typed
        assert Selection().flags() == ""

    @pytest.mark.parametrize(("text", "axes"), [("zcyx", "ZCYX"), ("YX", "YX"), ("YXS", "YXS"), (None, None)])
    def test_axes_as_typed(self, text, axes):
        assert parse_axes(text) == axes

    @pytest.mark.parametrize("text", ["", "ZY", "YYX", "QYX", "Z Y X", "ZCY", "xy,z"])
    def test_axes_that_are_none(self, text):
        with pytest.raises(UsageError, match="--axes"):
            parse_axes(text)


@example("a.İ")
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).filter(lambda n: n not in (".", "..")))
def test_a_name_is_its_stem_and_its_suffix(name):
    path = Path("folder") / name
    stem = stem_of(path)
    assert stem
    assert path.name.startswith(stem)
    assert path.name[len(stem):].lower() == suffix_of(path)
