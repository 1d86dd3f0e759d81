"""What labels mean is told from what is stored, with the reason; what cannot be told is refused with what to type."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from scipy import ndimage as ndi

from biomask.data.colours import background_first, coarsened, dominant_colours, explained, flat_pixels, snapped, usual_values
from biomask.data.encoding import Encoding
from biomask.data.inference import infer_encoding_of, infer_kind
from biomask.data.survey import label_facts
from biomask.data.truth import Raw
from biomask.data.understand import Understood, understand
from biomask.errors import BiomaskError, LabelsError
from biomask.io.files import write_picture
from biomask.labels import Legend
from biomask.progress import Silent
from biomask.recipe import DataSettings

WHERE = Path("m.png")
#: RGB of four classes.
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
SOFT = np.array([(255, 255, 255), (230, 25, 75), (60, 180, 75), (255, 225, 25)], np.uint8)


def scene(seed: int, classes: int = 3, side: int = 96, count: int = 7) -> np.ndarray:
    """(side, side) class positions 0..classes: discs that cover each other."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:side, :side]
    out = np.zeros((side, side), np.uint8)
    for k in range(count):
        cy, cx, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(9, 20)
        out[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1 + k % classes
    return out


def smooth(mask: np.ndarray) -> np.ndarray:
    """A binary mask 0/255 with blurred edges."""
    return np.rint(ndi.gaussian_filter((mask > 0) * 255.0, 1.0)).astype(np.uint8)


def save(path: Path, array: np.ndarray, quality: int | None = None) -> None:
    """uint8 pictures as PNG, or JPEG of a quality; others as TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if quality is not None:
        Pillow.fromarray(array).save(path.with_suffix(".jpg"), quality=quality)
    elif array.dtype == np.uint8 and (array.ndim == 2 or array.shape[-1] == 3):
        Pillow.fromarray(array).save(path.with_suffix(".png"))
    else:
        tifffile.imwrite(path.with_suffix(".tif"), array)


def folder(place: Path, masks, quality: int | None = None, images=None) -> Path:
    """A data folder with these masks; each image is noise."""
    rng = np.random.default_rng(0)
    for i, mask in enumerate(masks):
        shape = np.asarray(mask).shape[:2] if images is None else images
        write_picture(place / "images" / f"{i:02d}.png", rng.integers(0, 255, shape).astype(np.uint8))
        save(place / "masks" / f"{i:02d}", np.asarray(mask), quality)
    return place


def understood(place: Path, **options: object) -> Understood:
    return understand(place, DataSettings(**options), Silent())


def meaning(place: Path, **options: object) -> Encoding:
    """The encoding, of a folder without errors."""
    found = understood(place, **options)
    assert found.errors == (), [str(e) for e in found.errors]
    return found.encoding


def complaint(place: Path, **options: object) -> str:
    found = understood(place, **options)
    assert found.errors
    return "\n".join(map(str, found.errors))


def ids_of(encoding: Encoding, array: np.ndarray, form: str = "values") -> np.ndarray:
    return encoding.labels([Raw(array, form)], "a", WHERE).array


class TestValues:
    @pytest.mark.parametrize(("values", "dtype"), [
        ((0, 255), np.uint8), ((0, 1), np.uint8), ((0, 1, 2, 3), np.uint8), ((0, 128, 255), np.uint8), ((1, 2), np.uint8),
        ((0, 1000, 65535), np.uint16), ((0, 70000), np.int32), ((-1, 0, 1), np.int16), ((0, 1, 2), np.float32),
        ((0, 255), np.float64), ((3, 7, 11, 200), np.uint8)])
    def test_few_are_classes(self, tmp_path, values, dtype):
        masks = [np.asarray(values, dtype)[scene(i, len(values) - 1)] for i in range(3)]
        encoding = meaning(folder(tmp_path, masks))
        assert (encoding.kind, encoding.form) == ("classes", "values")
        assert encoding.legend.values == values
        assert str([int(v) for v in values]) in encoding.reason
        stored = masks[0].astype(np.int64)
        assert np.array_equal(encoding.legend.values_of(ids_of(encoding, stored)), stored)

    def test_bits(self, tmp_path):
        for i in range(2):
            write_picture(tmp_path / "images" / f"{i}.png", scene(i) * 60)
            (tmp_path / "masks").mkdir(exist_ok=True)
            Pillow.fromarray(scene(i) > 0).save(tmp_path / "masks" / f"{i}.png")
        assert len(meaning(tmp_path).legend) == 2

    def test_names(self, tmp_path):
        masks = [scene(i, 1) * 255 for i in range(2)]
        assert [e.name for e in meaning(folder(tmp_path, masks), legend={0: "nothing", 255: "cell"}).legend] == ["nothing", "cell"]
        assert [e.name for e in meaning(tmp_path, legend={"#000000": "nothing", "#FFFFFF": "cell"}).legend] == ["nothing", "cell"]
        assert "7" in complaint(folder(tmp_path / "b", [scene(0, 1) * 7] * 2), legend={0: "nothing", 1: "cell"})
        assert "#ff0000" in complaint(tmp_path, legend={"#000000": "nothing", "#ff0000": "cell"})

    def test_a_palette_names_and_colours(self, tmp_path):
        for i in range(2):
            picture = Pillow.fromarray(scene(i, 2)).convert("P")
            picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
            write_picture(tmp_path / "images" / f"{i}.png", scene(i) * 60)
            (tmp_path / "masks").mkdir(exist_ok=True)
            picture.save(tmp_path / "masks" / f"{i}.png")
        assert [(e.value, e.colour) for e in meaning(tmp_path).legend] == [(0, (0, 0, 0)), (1, (255, 0, 0)), (2, (0, 0, 255))]
        named = meaning(tmp_path, legend={"#000000": "nothing", "#0000ff": "dust", "#ff0000": "cell"}).legend
        assert [e.name for e in named] == ["nothing", "cell", "dust"]
        assert "#00ff00" in complaint(tmp_path, legend={"#00ff00": "leaf"})

    def test_one_value_tells_nothing_apart(self, tmp_path):
        assert "[255]: there is nothing to tell apart" in complaint(folder(tmp_path, [np.full((20, 20), 255, np.uint8)] * 2))
        assert "[0]" in complaint(folder(tmp_path / "b", [np.zeros((20, 20), np.uint8)] * 2))

    def test_too_many_for_classes(self, tmp_path):
        mask = np.kron(np.arange(400).reshape(20, 20) % 300, np.ones((3, 3), int)).astype(np.uint16)
        assert "300 values" in complaint(folder(tmp_path, [mask] * 2), kind="classes")


class TestMixed:
    def test_two_programs(self, tmp_path):
        masks = [scene(i, 1) * (255 if i == 2 else 1) for i in range(4)]
        said = complaint(folder(tmp_path, masks))
        assert "3 masks with 0 and 1" in said
        assert "1 with 0 and 255 (such as 02.png)" in said

    def test_one_in_colour(self, tmp_path):
        masks = [scene(i, 1) * 255 for i in range(5)]
        masks[3] = COLOURS[scene(3)]
        said = complaint(folder(tmp_path, masks))
        assert "1 mask holds colours, the other 4 values: 03.png" in said
        assert str(tmp_path / "masks" / "03.png") in said
        assert len(understood(tmp_path).encoding.legend) == 2, "it does not spoil what the others mean"

    def test_one_outlined(self, tmp_path):
        folder(tmp_path, [scene(i, 1) * 255 for i in range(4)])
        (tmp_path / "masks" / "01.png").unlink()
        outline = {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 1]]]}
        (tmp_path / "masks" / "01.geojson").write_text(json.dumps({"type": "Feature", "geometry": outline, "properties": {}}))
        assert "01.geojson" in complaint(tmp_path)

    def test_grey_saved_in_colour_is_grey(self, tmp_path):
        masks = [np.stack([scene(i, 1) * 255] * 3, -1) if i % 2 else scene(i, 1) * 255 for i in range(4)]
        assert meaning(folder(tmp_path, masks)).legend.values == (0, 255)

    @pytest.mark.parametrize("colours", [COLOURS, SOFT, np.array([(0, 0, 0), (128, 128, 128), (255, 0, 0), (0, 0, 255)], np.uint8)])
    def test_colour_coded_masks_that_lack_colours(self, tmp_path, colours):
        """All black, or black and grey, is a colour-coded mask like the others."""
        masks = [colours[scene(i)] for i in range(6)]
        masks[1] = colours[np.zeros((96, 96), int)]
        masks[4] = colours[scene(4, 1)]
        encoding = meaning(folder(tmp_path, masks), unlabelled="background")
        assert encoding.form == "colours"
        assert {e.colour for e in encoding.legend} == {tuple(c) for c in colours.tolist()}
        for k in (1, 4):
            grey = np.all(masks[k] == masks[k][..., :1])
            raw = Raw(masks[k][..., 0], "values", in_colour=True) if grey else Raw(np.moveaxis(masks[k], -1, 0), "colours")
            found = encoding.labels([raw], "a", WHERE).array
            assert np.array_equal(np.asarray([e.colour for e in encoding.legend])[found], masks[k])

    @pytest.mark.parametrize("forms", list(itertools.combinations(("values", "colours", "objects"), 2)))
    def test_facts_of_two_forms_have_no_meaning_together(self, forms):
        raws = {"values": Raw(scene(0, 1), "values"), "colours": Raw(np.moveaxis(COLOURS[scene(1)], -1, 0), "colours"),
                "objects": Raw(scene(2).astype(np.int32), "objects")}
        with pytest.raises(LabelsError, match="others"):
            infer_encoding_of([label_facts(raws[f], None, WHERE) for f in forms], DataSettings())


class TestBlurred:
    def test_one_among_thirty(self, tmp_path):
        masks = [scene(i, 1) * 255 for i in range(30)]
        masks[17] = smooth(masks[17])
        found = understood(folder(tmp_path, masks))
        (error,) = found.errors
        assert error.where == tmp_path / "masks" / "17.png"
        assert "--values 0,255" in error.fix
        assert found.encoding.legend.values == (0, 255)

    def test_all_of_them(self, tmp_path):
        folder(tmp_path, [smooth(scene(i, 1)) for i in range(5)])
        said = complaint(tmp_path)
        assert "5 of 5 masks" in said
        assert "--values 0,255" in said
        encoding = meaning(tmp_path, values=(0, 255))
        assert encoding.legend.values == (0, 255)
        for i in range(5):
            clean = np.asarray(Pillow.open(tmp_path / "masks" / f"{i:02d}.png"))
            assert np.array_equal(ids_of(encoding, clean), clean > 127)

    @pytest.mark.parametrize("quality", [95, 75, 30])
    @pytest.mark.parametrize("levels", [(0, 255), (0, 128, 255), (0, 85, 170, 255)])
    def test_jpeg(self, tmp_path, quality, levels):
        true = [scene(i, len(levels) - 1) for i in range(4)]
        folder(tmp_path, [np.asarray(levels, np.uint8)[t] for t in true], quality)
        said = complaint(tmp_path)
        usual = said.split("--values ")[1].split(":")[0]
        values = tuple(int(v) for v in usual.split(","))
        assert len(values) == len(levels)
        assert max(abs(a - b) for a, b in zip(values, levels, strict=True)) <= 6
        encoding = meaning(tmp_path, values=values)
        stored = np.asarray(Pillow.open(tmp_path / "masks" / "00.jpg"))
        assert (ids_of(encoding, stored) == true[0]).mean() > 0.97

    def test_values_leave_the_ignored_one(self, tmp_path):
        masks = [smooth(scene(i, 1)) // 2 for i in range(4)]
        for mask in masks:
            mask[:9] = 255
        encoding = meaning(folder(tmp_path, masks), values=(0, 127), ignore=255)
        labels = encoding.labels([Raw(masks[0], "values")], "a", WHERE)
        assert encoding.legend.values == (0, 127)
        assert labels.ignore[:9].all()
        assert not labels.ignore[9:].any()

    def test_said_to_be_classes(self, tmp_path):
        found = understood(folder(tmp_path, [smooth(scene(i, 1)) for i in range(3)]), kind="classes")
        assert len(found.encoding.legend) > 50


class TestColours:
    @pytest.mark.parametrize("colours", [COLOURS, SOFT])
    @pytest.mark.parametrize("quality", [None, 95, 75, 40])
    def test_as_png_and_jpeg(self, tmp_path, colours, quality):
        true = [scene(i, side=160) for i in range(5)]
        encoding = meaning(folder(tmp_path, [colours[t] for t in true], quality))
        assert (encoding.kind, len(encoding.legend)) == ("classes", 4)
        meant = [min(range(4), key=lambda k: np.abs(colours[k].astype(int) - e.colour).sum()) for e in encoding.legend]
        assert meant[0] == 0, "the background comes first"
        assert sorted(meant) == [0, 1, 2, 3]
        stored = np.asarray(Pillow.open(next((tmp_path / "masks").glob("00.*"))))
        agree = np.asarray(meant)[ids_of(encoding, np.moveaxis(stored, -1, 0), "colours")] == true[0]
        assert agree.mean() > (0.999 if quality is None else 0.96)

    @pytest.mark.parametrize("colours", [COLOURS[:2], COLOURS, SOFT])
    def test_smoothed_edges(self, tmp_path, colours):
        """Mixtures of two colours at edges are no classes."""
        masks = []
        for i in range(5):
            large = np.kron(scene(i, len(colours) - 1), np.ones((3, 3), np.uint8))
            masks.append(np.asarray(Pillow.fromarray(colours[large]).resize((90, 90), Pillow.Resampling.BICUBIC)))
        encoding = meaning(folder(tmp_path, masks))
        assert {e.colour for e in encoding.legend} == {tuple(c) for c in colours.tolist()}
        assert "mixtures" in encoding.reason

    def test_similar_colours_are_told_apart(self, tmp_path):
        colours = np.array([(0, 0, 0), (255, 0, 0), (224, 0, 0), (128, 0, 0)], np.uint8)
        encoding = meaning(folder(tmp_path, [colours[scene(i)] for i in range(4)]))
        assert {e.colour for e in encoding.legend} == {tuple(c) for c in colours.tolist()}

    def test_thin_outlines_in_a_colour_of_their_own(self, tmp_path):
        masks = []
        for i in range(4):
            cells = scene(i, 1, side=120) > 0
            coded = cells.astype(int)
            coded[cells & ~ndi.binary_erosion(cells)] = 2
            masks.append(np.array([(0, 0, 0), (0, 160, 0), (255, 255, 0)], np.uint8)[coded])
        assert len(meaning(folder(tmp_path, masks)).legend) == 3

    def test_named(self, tmp_path):
        legend = {"#000000": "nothing", "#ff0000": "tumour", "#00FF00": "stroma", "#0000ff": "fat"}
        for quality in (None, 40):
            place = folder(tmp_path / str(quality), [COLOURS[scene(i)] for i in range(4)], quality)
            encoding = meaning(place, legend=legend)
            assert {e.name for e in encoding.legend} == set(legend.values())
            assert next(iter(encoding.legend)).name == "nothing"
            tumour = next(e.value for e in encoding.legend if e.name == "tumour")
            assert (ids_of(encoding, np.moveaxis(COLOURS[scene(0)], -1, 0), "colours") == tumour).sum() == (scene(0) == 1).sum()

    def test_a_colour_that_the_legend_lacks_is_named(self, tmp_path):
        place = folder(tmp_path, [COLOURS[scene(i)] for i in range(4)])
        said = complaint(place, legend={"#000000": "nothing", "#ff0000": "tumour", "#00ff00": "stroma"})
        assert "#0000ff" in said
        assert "%" in said
        assert "--legend" in said

    def test_names_of_values_do_not_fit(self, tmp_path):
        assert "name colours" in complaint(folder(tmp_path, [COLOURS[scene(i)] for i in range(3)]), legend={0: "a", 1: "b"})

    def photograph(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        blobs = np.stack([ndi.gaussian_filter(rng.normal(0, 1, (96, 96)), 6) for _ in range(3)], -1)
        blobs = 130 + 50 * blobs / blobs.std(axis=(0, 1))
        return np.clip(blobs + rng.normal(0, 5, blobs.shape), 0, 255).astype(np.uint8)

    def test_photographs_are_refused(self, tmp_path):
        assert "photograph" in complaint(folder(tmp_path, [self.photograph(i) for i in range(4)]))

    def test_a_photograph_among_masks_is_named(self, tmp_path):
        masks = [COLOURS[scene(i)] for i in range(12)]
        masks[5] = self.photograph(5)
        said = complaint(folder(tmp_path, masks))
        assert str(tmp_path / "masks" / "05.png") in said
        assert "04.png" not in said

    def test_each_object_in_a_colour(self, tmp_path):
        masks = []
        for i in range(3):
            ids = np.kron(np.arange(25 + i)[:25].reshape(5, 5), np.ones((12, 12), int))
            colours = np.random.default_rng(i).integers(30, 255, (25, 3)).astype(np.uint8)
            colours[0] = 0
            masks.append(colours[ids])
        encoding = meaning(folder(tmp_path, masks))
        assert encoding.kind == "instances"
        found = ids_of(encoding, np.moveaxis(masks[0], -1, 0), "colours")
        assert found[0, 0] == 0
        assert len(np.unique(found)) == len({tuple(c) for c in masks[0].reshape(-1, 3).tolist()})

    def test_jpeg_of_grey_masks_in_colour(self, tmp_path):
        masks = [np.stack([scene(i, 1) * 255] * 3, -1) for i in range(4)]
        assert "--values 0,255" in complaint(folder(tmp_path, masks, quality=75))


def cells(seed: int, count: int, side: int = 100, first: int = 1, dtype=np.uint16) -> np.ndarray:
    """(side, side) with squares of 6 x 6 in shuffled places, numbered from `first`."""
    rng = np.random.default_rng(seed)
    out = np.zeros((side, side), dtype)
    for number, place in enumerate(rng.permutation((side // 10) ** 2)[:count]):
        y, x = divmod(int(place), side // 10)
        out[10 * y + 2 : 10 * y + 8, 10 * x + 2 : 10 * x + 8] = first + number
    return out


class TestInstances:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.uint32, np.int64])
    def test_of_any_dtype(self, tmp_path, dtype):
        masks = [cells(i, 12 + i).astype(dtype) for i in range(4)]
        encoding = meaning(folder(tmp_path, masks))
        assert encoding.kind == "instances"
        assert "each of them one piece" in encoding.reason
        found = ids_of(encoding, masks[0].astype(np.int64))
        assert found.dtype == np.int32
        assert np.array_equal(found, masks[0].astype(np.int64))

    def test_tracked_cells_recur(self, tmp_path):
        assert meaning(folder(tmp_path, [cells(i, 15) for i in range(4)])).kind == "instances"
        assert meaning(folder(tmp_path / "b", [cells(i, 4 + i, first=3 + i) for i in range(4)])).kind == "instances"

    def test_ids_of_64_bits_stay_apart(self):
        ids = np.array([[0, 7, 7 + 2**32], [2**40, 2**40, 0]])
        encoding = Encoding("instances", "", Legend.of_values([0, 1]), "values")
        found = ids_of(encoding, ids)
        assert found.dtype == np.int32
        assert len(np.unique(found)) == 4
        assert np.array_equal(found == 0, ids == 0)
        assert (found[1, 0], found[1, 0]) == (found[1, 1], found[1, 1])

    def test_an_ignored_value_is_no_object(self, tmp_path):
        masks = [cells(i, 9 + i) for i in range(4)]
        for mask in masks:
            mask[-9:] = 65535
        encoding = meaning(folder(tmp_path, masks), ignore=65535)
        labels = encoding.labels([Raw(masks[0], "values")], "a", WHERE)
        assert encoding.kind == "instances"
        assert labels.array.max() == 9
        assert labels.ignore.sum() == 900

    def test_forty_thousand_cells_and_forty_thousand_greys(self, tmp_path):
        many = np.zeros((600, 600), np.uint16)
        many[::3, ::3] = np.arange(1, 40_001).reshape(200, 200)
        many = np.where(np.indices((600, 600)).max(axis=0) % 3 < 2, ndi.grey_dilation(many, footprint=np.ones((2, 2))), 0)
        assert meaning(folder(tmp_path, [many.astype(np.uint16)])).kind == "instances"
        noise = np.random.default_rng(0).integers(0, 40_000, (600, 600)).astype(np.uint16)
        assert "grey image" in complaint(folder(tmp_path / "b", [cells(1, 9, 600), noise]))

    def test_a_photograph_of_8_bits(self, tmp_path):
        rng = np.random.default_rng(0)
        assert "grey" in complaint(folder(tmp_path, [rng.integers(0, 255, (60, 60)).astype(np.uint8) for _ in range(3)]))


class TestInferKind:
    @settings(deadline=None)
    @given(st.dictionaries(st.integers(-5, 300), st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 6),
           st.floats(0.01, 1))
    def test_any_values(self, pixels, count, single):
        per_image = [frozenset(list(pixels)[i::count]) - {0} for i in range(count)]
        kind, reason = infer_kind(pixels, per_image, single)
        assert kind in ("classes", "instances")
        assert reason
        if len(set(pixels) - {0}) <= 2:
            assert kind == "classes"

    def test_many_values_in_many_pieces(self):
        pixels = dict.fromkeys(range(200), 1) | {0: 5000, 255: 3000}
        with pytest.raises(LabelsError, match="grey image") as caught:
            infer_kind(pixels, [frozenset(pixels) - {0}], 0.1)
        assert "--values 0,255" in caught.value.fix

    def test_the_reason_names_the_values(self):
        assert infer_kind({0: 5, 255: 3}, [frozenset({255})]) == ("classes", "the values are [0, 255]")


class TestAverages:
    """Levels of what experts drew lie one inside the other; classes that were scaled to greys do not."""

    def experts(self, seed: int, count: int, side: int = 80) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.ogrid[:side, :side]
        radii = rng.uniform(18, 26, count)
        return sum(((y - 40 - rng.normal(0, 1)) ** 2 + (x - 40 - rng.normal(0, 1)) ** 2 < r**2).astype(int) for r in radii)

    @pytest.mark.parametrize("count", [3, 4, 5, 8])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_of_several_experts(self, tmp_path, count, dtype):
        full = np.iinfo(dtype).max
        masks = [np.rint(self.experts(i, count) * (full / count)).astype(dtype) for i in range(8)]
        encoding = meaning(folder(tmp_path, masks))
        assert (encoding.kind, encoding.full) == ("soft", (float(full),))
        assert f"{count} experts" in encoding.reason
        labels = encoding.labels([Raw(masks[0], "values")], "a", WHERE)
        assert np.array_equal(encoding.class_ids(labels), self.experts(0, count) >= count / 2)

    def test_small_whole_numbers_are_classes(self, tmp_path):
        """Nested tissues are numbered like this too."""
        assert meaning(folder(tmp_path, [self.experts(i, 4).astype(np.uint8) for i in range(5)])).kind == "classes"

    @pytest.mark.parametrize("count", [4, 5])
    def test_classes_scaled_to_greys(self, tmp_path, count):
        masks = [np.rint(scene(i, count - 1, 120, 20) * (255 / (count - 1))).astype(np.uint8) for i in range(6)]
        encoding = meaning(folder(tmp_path, masks))
        assert encoding.kind == "classes"
        assert len(encoding.legend) == count

    def test_the_user_has_the_last_word(self, tmp_path):
        masks = [np.rint(self.experts(i, 4) * 63.75).astype(np.uint8) for i in range(5)]
        assert meaning(folder(tmp_path, masks), kind="classes").kind == "classes"

    def test_probabilities(self, tmp_path):
        masks = [ndi.gaussian_filter((scene(i, 1) > 0).astype(np.float32), 2) for i in range(3)]
        encoding = meaning(folder(tmp_path, masks))
        assert (encoding.kind, encoding.form) == ("soft", "fractions")
        labels = encoding.labels([Raw(masks[0], "fractions")], "a", WHERE)
        assert np.array_equal(encoding.class_ids(labels), masks[0] >= 0.5)

    @pytest.mark.parametrize("other", [np.zeros((96, 96), np.float32), np.eye(96, dtype=np.float32), np.ones((96, 96), np.uint8)])
    def test_probabilities_that_are_whole_in_some_masks(self, tmp_path, other):
        soft = ndi.gaussian_filter((scene(0, 1) > 0).astype(np.float32), 2)
        encoding = meaning(folder(tmp_path, [soft, other, other]), unlabelled="background")
        assert encoding.kind == "soft"
        assert np.array_equal(encoding.class_ids(encoding.labels([Raw(other.astype(np.int64), "values")], "a", WHERE)), other)

    @pytest.mark.parametrize("scale", [100.0, -1.0])
    def test_fractions_of_something_else(self, tmp_path, scale):
        masks = [ndi.gaussian_filter((scene(i, 1) > 0).astype(np.float32), 2) * scale + 0.25 for i in range(3)]
        assert "grey image" in complaint(folder(tmp_path, masks))

    def test_fractions_are_no_classes(self, tmp_path):
        masks = [ndi.gaussian_filter((scene(i, 1) > 0).astype(np.float32), 2) for i in range(3)]
        assert "--labels soft" in complaint(folder(tmp_path, masks), kind="classes")


class TestIgnore:
    def test_a_value(self, tmp_path):
        masks = [scene(i, 2) for i in range(3)]
        for mask in masks:
            mask[:10] = 255
        encoding = meaning(folder(tmp_path, masks), ignore=255)
        labels = encoding.labels([Raw(masks[0], "values")], "a", WHERE)
        assert encoding.legend.values == (0, 1, 2)
        assert np.array_equal(labels.ignore, masks[0] == 255)
        assert (labels.array[labels.ignore] == 0).all()

    def test_zero(self, tmp_path):
        encoding = meaning(folder(tmp_path, [scene(i, 2) for i in range(3)]), ignore=0)
        assert encoding.legend.values == (1, 2)

    def test_a_value_that_is_nowhere(self, tmp_path):
        assert meaning(folder(tmp_path, [scene(i, 2) for i in range(3)]), ignore=77).legend.values == (0, 1, 2)


class TestObjectsAndStructures:
    def test_a_folder_of_objects(self, tmp_path):
        for i in range(3):
            write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (100, 100)).astype(np.uint8))
            ids = cells(i, 5 + i)
            for n in range(1, 6 + i):
                write_picture(tmp_path / "masks" / f"{i}" / f"{n}.png", (ids == n).astype(np.uint8) * 255)
        encoding = meaning(tmp_path)
        assert encoding.kind == "instances"
        assert "18 objects, given one by one" in encoding.reason

    def test_structures(self, tmp_path):
        for i in range(3):
            write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (96, 96)).astype(np.uint8))
            for k, name in enumerate(("cup", "disc")):
                write_picture(tmp_path / name / f"{i}.png", (scene(i) > k).astype(np.uint8) * (255 if k else 1))
        encoding = meaning(tmp_path)
        assert (encoding.kind, encoding.full) == ("multilabel", (1.0, 255.0))
        assert [e.name for e in encoding.legend] == ["background", "cup", "disc"]
        labels = encoding.labels([Raw(scene(0) // 3, "values"), Raw((scene(0) > 0) * 255, "values")], "a", WHERE)
        assert labels.array.shape == (2, 96, 96)
        assert "--masks cup" in complaint(tmp_path, kind="classes")

    def test_a_structure_in_colour_is_refused(self, tmp_path):
        for i in range(2):
            write_picture(tmp_path / "images" / f"{i}.png", np.random.default_rng(i).integers(0, 255, (96, 96)).astype(np.uint8))
            save(tmp_path / "cup" / f"{i}", scene(i))
            save(tmp_path / "disc" / f"{i}", COLOURS[scene(i)])
        assert "colour-coded" in complaint(tmp_path)


class TestLegend:
    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.integers(-3, 70_000), min_size=2, max_size=6, unique=True))
    def test_ids_and_values_are_inverse(self, values):
        array = np.resize(np.asarray(values), (7, 9))
        facts = [label_facts(Raw(array, "values"), None, WHERE)]
        encoding = infer_encoding_of(facts, DataSettings(kind="classes"))
        ids = ids_of(encoding, array)
        assert np.array_equal(encoding.legend.values_of(ids), array)

    def test_a_value_that_was_never_seen_is_named(self):
        encoding = infer_encoding_of([label_facts(Raw(scene(0, 2), "values"), None, WHERE)], DataSettings())
        with pytest.raises(LabelsError, match=r"m\.png.*\[9\]"):
            ids_of(encoding, np.full((4, 4), 9))


class TestColourArithmetic:
    @given(st.lists(st.integers(-300, 300), min_size=1, max_size=6, unique=True),
           st.lists(st.integers(-500, 500), min_size=1, max_size=20))
    def test_snapped_to_the_nearest(self, allowed, values):
        found = snapped(np.asarray(values), allowed)
        for value, nearest in zip(values, found.tolist(), strict=True):
            assert abs(value - nearest) == min(abs(value - a) for a in allowed)

    def test_usual_values(self):
        assert usual_values({0: 9000, 1: 300, 2: 40, 128: 20, 253: 30, 254: 200, 255: 5000}) == [0, 255]
        assert usual_values({7: 10}) == [7]

    @given(st.dictionaries(st.integers(0, 0xFFFFFF), st.integers(1, 99), min_size=1, max_size=60), st.integers(1, 70))
    def test_coarsened_counts_are_all_there(self, pixels, most):
        found = coarsened(pixels, most)
        assert sum(found.values()) == sum(pixels.values())
        assert explained(found, list(found), 0) == 1
        if most >= len(pixels):
            assert found == pixels

    def test_flat_pixels_against_a_brute_force(self):
        rgb = np.random.default_rng(0).integers(0, 20, (3, 6, 7)).astype(np.uint8)
        padded = np.pad(rgb.astype(int), ((0, 0), (1, 1), (1, 1)), mode="edge")
        expected = np.ones((6, 7), bool)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            expected &= np.abs(padded[:, dy : dy + 6, dx : dx + 7] - rgb).max(axis=0) <= 6
        assert np.array_equal(flat_pixels(rgb), expected)
        assert flat_pixels(np.zeros((3, 4, 5, 6), np.uint8)).all()

    def test_mixtures_are_left_out_where_they_are_edges(self):
        pixels = {0x000000: 5000, 0xFF0000: 3000, 0x800000: 400}
        assert dominant_colours(pixels, {0x000000: 4000, 0xFF0000: 2500}, 48) == [0x000000, 0xFF0000]
        assert 0x800000 in dominant_colours(pixels, {0x000000: 4000, 0xFF0000: 2500, 0x800000: 300}, 48)

    def test_background_first(self):
        assert background_first([0xFF0000, 0x000000, 0x00FF00], {}) == [0x000000, 0x00FF00, 0xFF0000]
        assert background_first([0xFF0000, 0xFFFFFF], {})[0] == 0xFFFFFF
        assert background_first([0xFF0000, 0x00FF00], {0xFF0000: 1, 0x00FF00: 5})[0] == 0x00FF00


@pytest.mark.parametrize("array", [np.zeros((8, 8)), np.full((8, 8), 255)])
def test_no_encoding_without_labels(array):
    with pytest.raises(BiomaskError, match="no labels"):
        infer_encoding_of([], DataSettings())
