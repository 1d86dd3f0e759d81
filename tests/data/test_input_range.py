"""What the training images were like: real images of the same kind lie inside, planted faults do not."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biomask.data.appearance import appearance_of, detail_of
from biomask.data.input_range import InputRange, factors_text, rescale_factors, spacing_difference
from biomask.image import Image
from biomask.io import read_image
from biomask.stored import Selection


def image(array: np.ndarray, spacing: dict[str, float] | None = None) -> Image:
    return Image(array, "cyx" if array.ndim == 3 else "czyx", "a", spacing)


def cells(seed: int, size: int = 128, channels: int = 1) -> np.ndarray:
    """Dark with bright discs, texture and noise, through a lens; uint8 (C, Y, X)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    found = np.full((channels, size, size), 20.0)
    for _ in range(12):
        cy, cx, r = *rng.uniform(8, size - 8, 2).tolist(), rng.uniform(5, 9)
        found[:, (y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.uniform(110, 140)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), 1.0)
    found = ndimage.gaussian_filter(found, (0, 1, 1))
    found += 6 * texture / texture.std() + rng.normal(0, 3, found.shape)
    return np.clip(found, 0, 255).round().astype(np.uint8)


def range_of(arrays: Sequence[np.ndarray], spacing: dict[str, float] | None = None) -> InputRange:
    images = [image(a, spacing) for a in arrays]
    looks = [appearance_of(i) for i in images]
    return InputRange.of([i.size for i in images], [i.spacing for i in images], [look for look in looks if look])


def as_bytes(array: np.ndarray) -> np.ndarray:
    return np.clip(np.round(array), 0, 255).astype(np.uint8)


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "blurred": lambda a: as_bytes(ndimage.gaussian_filter(a.astype(float), (0, 4, 4))),
    "dark": lambda a: as_bytes(a * 0.2),
    "inverted": lambda a: 150 - np.minimum(a, 150),
    "bright": lambda a: a.astype(np.uint16) * 257,
    "noisy": lambda a: as_bytes(a + np.random.default_rng(1).normal(0, 80, a.shape)),
}


def enlarged(array: np.ndarray) -> np.ndarray:
    """Twice as many pixels along each axis, by linear interpolation."""
    return as_bytes(ndimage.zoom(array.astype(float), (1, 2, 2), order=1, grid_mode=True, mode="nearest"))


class TestPlanted:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("count", [3, 20])
    def test_faults_are_named(self, fault, count):
        trained = range_of([cells(i) for i in range(count)])
        found = trained.differences(appearance_of(image(FAULTS[fault](cells(99)))))
        assert fault in found or (fault == "dark" and "flat" in found)
        assert "dtype" not in found or fault == "bright"

    def test_an_enlarged_image_is_named(self):
        trained = range_of([cells(i) for i in range(20)])
        assert "blurred" in trained.differences(appearance_of(image(enlarged(cells(99)))))

    @pytest.mark.parametrize("offset", [-1000, -250, 0])
    def test_below_zero_a_shift_is_no_matter_of_proportion(self, offset):
        """Where 0 means nothing, as in Hounsfield units, what counts is how far an image is off."""
        trained = range_of([cells(i) + np.float32(offset) for i in range(20)])
        own = cells(99) + np.float32(offset)
        assert trained.differences(appearance_of(image(own))) == {}
        assert "bright" in trained.differences(appearance_of(image(own + np.float32(100))))
        assert "dark" in trained.differences(appearance_of(image(own - np.float32(100))))

    @pytest.mark.parametrize("count", [1, 2, 5, 20])
    def test_more_images_of_the_kind_are_not(self, count):
        trained = range_of([cells(i) for i in range(count)])
        for seed in range(100, 130):
            assert trained.differences(appearance_of(image(cells(seed)))) == {}

    def test_colour_and_grey(self):
        grey = np.repeat(cells(0), 3, axis=0)
        colour = np.concatenate([cells(0), cells(1), cells(2)])
        assert "colour" in range_of([grey, np.repeat(cells(5), 3, axis=0)]).differences(appearance_of(image(colour)))
        assert "grey" in range_of([colour, np.concatenate([cells(3), cells(4), cells(5)])]).differences(appearance_of(image(grey)))
        assert range_of([grey, colour]).differences(appearance_of(image(grey))) == {}

    def test_less_noise_is_no_blur(self):
        """A denoised or averaged image is as sharp as before."""
        trained = range_of([cells(i) for i in range(10)])
        clean = as_bytes(ndimage.median_filter(cells(99), (1, 3, 3)))
        assert "blurred" not in trained.differences(appearance_of(image(clean)))

    @pytest.mark.parametrize("array", [np.zeros((1, 30, 30), np.uint8), np.full((1, 30, 30), np.nan), np.zeros((1, 2, 2)),
                                       np.full((1, 40, 40), np.inf), np.arange(900).reshape(1, 30, 30) % 7])
    def test_odd_images_break_nothing(self, array):
        trained = range_of([cells(i) for i in range(4)])
        trained.differences(appearance_of(image(array)))
        look = appearance_of(image(array))
        if look is not None:
            InputRange.of([array.shape[1:]], [None], [look]).differences(appearance_of(image(cells(0))))

    def test_the_range_survives_the_model_file(self):
        trained = range_of([cells(i) for i in range(4)], {"y": 0.5, "x": 0.5})
        assert InputRange.model_validate_json(trained.model_dump_json()) == trained


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(0.1, 50), offset=st.floats(-100, 100), seed=st.integers(0, 5))
def test_detail_depends_on_neither_gain_nor_offset(gain, offset, seed):
    array = cells(seed, 64).astype(np.float64)
    span = np.ptp(array)
    assert detail_of(array * gain + offset, span * gain) == pytest.approx(detail_of(array, span), abs=1e-3)


@pytest.mark.data
class TestRealImages:
    """Held-out images of the same source are not warned of; blurred ones of a uniform source are."""

    def check(self, train: Sequence[Path], test: Sequence[Path], selection: Selection | None = None) -> InputRange:
        images = [read_image(p, selection) for p in train]
        trained = InputRange.of([i.size for i in images], [i.spacing for i in images],
                                [look for i in images if (look := appearance_of(i))])
        wrong = {p.name: found for p in test if (found := trained.differences(appearance_of(read_image(p, selection))))}
        assert wrong == {}
        return trained

    def test_hela(self, data_root):
        frames = sorted((data_root / "ctc" / "DIC-C2DH-HeLa" / "01").glob("*.tif"))
        trained = self.check(frames[:25], frames[60:84:2])
        for fault in ("blurred", "dark", "bright"):
            worse = FAULTS[fault](np.asarray(read_image(frames[70]).array))
            assert fault in trained.differences(appearance_of(image(worse)))
        assert "blurred" in trained.differences(appearance_of(image(enlarged(np.asarray(read_image(frames[70]).array)))))

    def test_electron_micrographs(self, data_root):
        slices = sorted((data_root / "isbi2012" / "train" / "images").glob("*"))
        trained = self.check(slices[:24], slices[24:])
        negative = 255 - np.asarray(read_image(slices[27]).array)
        assert list(trained.differences(appearance_of(image(negative)))) == ["inverted"]

    def test_nuclei(self, data_root):
        folder = data_root / "dsb2018"
        with (folder / "split.csv").open() as file:
            parts = {row["image"]: row["part"] for row in csv.DictReader(file)}
        files = {p.stem: p for p in (folder / "images").iterdir()}
        train, test = ([files[name] for name, part in parts.items() if part == wanted] for wanted in ("train", "test"))
        self.check(train[::3], test[::2], Selection(channels=("grey",)))


class TestSpacing:
    @settings(max_examples=50)
    @given(own=st.floats(0.01, 100), trained=st.floats(0.01, 100))
    def test_the_factor_that_is_named_makes_pixels_alike(self, own, trained):
        said = spacing_difference({"y": own, "x": own}, {"y": trained, "x": trained})
        if max(own / trained, trained / own) <= 1.1:
            assert said == {}
        else:
            factor = float(said["spacing"].rpartition("--rescale ")[2])
            assert own / factor == pytest.approx(trained, rel=0.006)

    def test_axes_differ(self):
        factors = rescale_factors({"z": 2.0, "y": 0.26, "x": 0.26}, {"z": 2.0, "y": 0.5, "x": 0.5})
        assert factors is not None
        assert factors_text(factors) == "1,0.52,0.52"

    @pytest.mark.parametrize("pair", [(None, {"y": 1.0, "x": 1.0}), ({"y": 1.0, "x": 1.0}, None), (None, None)])
    def test_unknown_is_no_difference(self, pair):
        assert spacing_difference(*pair) == {}
