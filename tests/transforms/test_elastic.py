"""The elastic field against scipy's cubic Hermite spline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline

from biomask.transforms import elastic_field, spread


def by_scipy(knots: np.ndarray, n: int, axis: int) -> np.ndarray:
    """One axis: the slope at a knot is half the difference of its neighbours, the outer knot being repeated."""
    k = knots.shape[axis]
    moved = np.moveaxis(knots, axis, 0)
    if k == 1:
        return np.repeat(knots, n, axis)
    repeated = np.concatenate([moved[:1], moved, moved[-1:]])
    spline = CubicHermiteSpline(np.arange(k), moved, (repeated[2:] - repeated[:-2]) / 2)
    return np.moveaxis(spline(np.linspace(0, k - 1, n)), 0, axis)


@pytest.mark.parametrize(("grid", "size"), [((3, 3), (30, 41)), ((5, 2), (17, 64)), ((4, 1), (9, 9)), ((3, 3, 3), (7, 12, 10)),
                                            ((2, 4, 6), (9, 8, 21)), ((3, 3), (3, 5)), ((3, 3), (1, 8))])
def test_spread_equals_scipys_cubic(grid: tuple[int, ...], size: tuple[int, ...]) -> None:
    knots = np.random.default_rng(0).normal(size=(2, 3, *grid))
    expected = knots
    for axis, n in enumerate(size):
        expected = by_scipy(expected, n, axis + 2)
    found = spread(torch.from_numpy(knots).float(), size)
    assert found.shape == (2, 3, *size)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_spread_meets_every_knot_and_keeps_constants() -> None:
    knots = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(spread(knots, (21, 31))[..., ::10, ::15], knots)
    torch.testing.assert_close(spread(torch.full((1, 1, 3, 3, 3), 2.5), (6, 7, 8)), torch.full((1, 1, 6, 7, 8), 2.5))
    assert spread(knots, (50, 50)).abs().max() <= 1.25**2 * knots.abs().max()


def test_gradients_pass_also_after_it_was_used_without() -> None:
    with torch.inference_mode():
        spread(torch.zeros(1, 1, 3, 3), (11, 13))
    knots = torch.zeros(1, 1, 3, 3, requires_grad=True)
    spread(knots, (11, 13)).sum().backward()
    assert knots.grad is not None
    assert float(knots.grad.sum()) == pytest.approx(11 * 13)


def test_the_default_is_the_papers() -> None:
    """Standard deviation 10 px on a 3 x 3 grid: the corner and centre pixels are knots themselves."""
    field = elastic_field((33, 33), count=4000, generator=torch.Generator().manual_seed(0))
    knots = field[:, :, ::16, ::16]
    assert knots.shape == (4000, 2, 3, 3)
    assert knots.std(0).sub(10).abs().max() < 0.6  # 5 standard errors
    assert knots.mean(0).abs().max() < 0.8
    flat = knots.flatten(1).T
    assert (torch.corrcoef(flat) - torch.eye(18)).abs().max() < 0.08, "vectors of different knots are independent"


def test_amplitude_and_grid_for_each_axis() -> None:
    generator = torch.Generator().manual_seed(0)
    field = elastic_field((8, 33, 33), amplitude=(0.0, 3.0, 6.0), grid=(2, 3, 5), count=500, generator=generator)
    assert (field[:, 0] == 0).all()
    assert field[:, 1, 0, 0, 0].std() == pytest.approx(3, rel=0.15)
    assert field[:, 2, 0, 0, 0].std() == pytest.approx(6, rel=0.15)


def test_the_generator_decides_and_nothing_else() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (elastic_field((9, 9), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
