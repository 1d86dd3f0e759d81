"""Pictures of any values: black and white are always apart, and nothing overflows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biomask.image import Image
from biomask.labels import Legend
from biomask.prediction.outlines import draw_outlines, stretch_limits

DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64)
LEGEND = Legend.of_values([0, 255])


def drawn(array: np.ndarray) -> np.ndarray:
    image = Image(array[None], "cyx", "a")
    low, high = stretch_limits(image)
    assert np.isfinite([low, high]).all()
    assert high > low
    return draw_outlines(image, np.zeros(array.shape, np.uint8), LEGEND)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, (4, 5), elements=hnp.from_dtype(np.dtype(d)))))
def test_any_values_are_drawn(array):
    assert drawn(array).dtype == np.uint8


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.from_dtype(np.dtype(d), allow_nan=False, allow_infinity=False).map(d)))
def test_one_value_is_drawn_as_one(value):
    assert len(np.unique(drawn(np.full((4, 5), value)))) == 1


@pytest.mark.parametrize("value", [np.float32(-3.4e38), 1e300, np.uint64(2**64 - 1), np.int64(-(2**63)), 0.0, 5e-324])
def test_values_at_the_ends(value):
    drawn(np.full((4, 5), value))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e30])
def test_the_contrast_is_that_of_the_values_whatever_their_size(scale):
    ramp = np.linspace(0, 1, 400).reshape(20, 20)
    assert np.abs(drawn(ramp * scale).astype(int) - drawn(ramp).astype(int)).max() <= 1
    assert np.ptp(drawn(ramp * scale)) == 255
