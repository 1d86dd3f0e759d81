"""What the tests of all formats share."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from biomask.io import open_stored
from biomask.stored import Stored


@pytest.fixture
def no_log() -> Iterator[None]:
    """tifffile logs what it finds wrong; here everything is."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def opened() -> Callable[..., tuple[Stored, np.ndarray]]:
    """opened(path, as_labels=False) → (header, all pixels), after holding one against the other.

    The header says what the pixels are, and every key gives what it would of the whole array.
    """

    def check(path: Path, as_labels: bool = False) -> tuple[Stored, np.ndarray]:
        stored = open_stored(path, as_labels=as_labels)
        whole = stored.load(())
        assert (whole.shape, whole.dtype) == (stored.shape, stored.dtype)
        assert whole.dtype.isnative
        assert len(stored.axes) == whole.ndim
        assert type(whole) is np.ndarray
        for key in keys(whole.shape):
            part = stored.load(key)
            assert part.dtype == whole.dtype
            assert np.array_equal(part, whole[key], equal_nan=whole.dtype.kind == "f"), key
        return stored, whole

    return check


def keys(shape: tuple[int, ...]) -> list[tuple[int | slice, ...]]:
    """Keys as `select` makes them (a number or everything along each leading axis), shorter ones, and parts."""
    leading = [(slice(None), n - 1) for n in shape[:-2]]
    made = [(*lead, slice(None), slice(None)) for lead in itertools.islice(itertools.product(*leading), 16)]
    return [*made, (shape[0] // 2,), (slice(0, 1),), (slice(None), slice(1, None)), (slice(1, None, 2), slice(None, None, 2))]
