"""Seeded synthetic phase-contrast micrographs of adherent cells, with their instance truth.

The optics follow the usual first-order picture of phase contrast: the grey value is the background minus the local
optical path (thickness and content of the cell) plus a blurred copy of that path. The blurred copy gives, without
further drawing, the bright halo outside a cell, the bright seam between touching cells and the "shade-off" that brings
the middle of a broad cell back to the grey of the background.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

Rng = np.random.Generator
GreyImage = npt.NDArray[np.uint8]
FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice]
LabelImage = npt.NDArray[np.int32]

_MARGIN = 32  # px drawn around the picture and cut away, so that cells and halos run naturally over its border
_INNER = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
_MIN_AREA = 40  # px; smaller pieces are not kept as cells
_MIN_SIDE = 32  # px; smallest side of a picture


class _Style:
    """What one picture has in common: culture, optics, exposure. Lengths in px, greys on the 0..255 scale."""

    def __init__(self, rng: Rng) -> None:
        self.radius = rng.uniform(14, 22)  # typical cell radius
        self.cover = rng.uniform(0.29, 0.43)  # share of the pixels under cells at which seeding stops
        self.spread = rng.uniform(0.1, 1.0)  # 0: rounded epithelial outlines, 1: spindles and stars
        self.cluster = rng.uniform(0.45, 0.85)  # probability that a new cell is laid against an earlier one
        self.mitotic = rng.uniform(0.02, 0.10)  # probability that a cell is rounded up
        self.grey = rng.uniform(105, 135)  # background level
        self.contrast = rng.uniform(65, 115)  # grey per unit of optical path
        self.halo = rng.uniform(2.4, 3.6)  # reach of the halo
        self.shade_off = rng.uniform(0.62, 0.82)  # share of the path that the blurred copy gives back
        self.noise = rng.uniform(2.0, 5.0)  # standard deviation of the shot noise at the background level
        self.blur = rng.uniform(0.6, 1.15)  # standard deviation of the point spread


@dataclass(frozen=True)
class _Cell:
    """A seeded cell: centre (row, column) on the padded canvas, mean radius, and whether it is rounded up."""

    centre: tuple[float, float]
    radius: float
    is_round: bool


def phase_contrast_cells(seed: int, index: int, size: tuple[int, int] = (256, 256)) -> tuple[GreyImage, LabelImage]:
    """Draw picture number `index` of the endless series `seed`, and the outlines that an expert would give it.

    Args:
        seed: Series of pictures, >= 0.
        index: Number of the picture in the series, >= 0.
        size: (rows, columns), both >= 32.

    Returns:
        image: uint8 (rows, columns), grey 0..255.
        instances: int32 (rows, columns), 0 = background, cells 1..n, each one 4-connected piece of 40 px or more.
            A picture not much larger than a cell may hold none (n = 0).

    The same arguments always give the same arrays; another size gives another scene.
    """
    if min(size) < _MIN_SIDE:
        raise ValueError(f"size must be at least {_MIN_SIDE} x {_MIN_SIDE} px, got {size[0]} x {size[1]}")
    rng = Rng(np.random.Philox(np.random.SeedSequence([seed, index])))
    shape = (size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN)
    style = _Style(rng)
    labels, round_ids = _seed_cells(rng, shape, style)
    path, glow = _optical_path(rng, labels, round_ids)
    free = np.asarray(1 - ndi.gaussian_filter((labels > 0).astype(np.float32), 0.8))
    grey = style.grey + style.contrast * _phase_contrast(rng, path, glow, free, style) + _background(rng, free)
    return _expose(rng, grey[_INNER], style), _tidy(labels[_INNER])


def _noise(rng: Rng, shape: tuple[int, ...], sigma: float) -> FloatImage:
    """Smooth random field of zero mean and unit spread, correlated over about `sigma` px."""
    step = max(1.0, sigma / 3)  # a coarse grid suffices for a coarse field
    coarse = tuple(int(np.ceil(n / step)) + 4 for n in shape)
    field = ndi.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), sigma / step, mode="wrap")
    field = (ndi.zoom(field, step, order=3) if step > 1 else field)[: shape[0], : shape[1]]
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def _seed_cells(rng: Rng, shape: tuple[int, ...], style: _Style) -> tuple[LabelImage, list[int]]:
    """Lay cells until the picture is covered as the style asks; returns the labels and the ids of rounded-up cells."""
    level = np.zeros(shape, np.float32)  # how deep each pixel lies in the cell that owns it
    labels = np.zeros(shape, np.int32)
    warp = np.stack([_noise(rng, shape, s) * a for s, a in ((9, 1.6), (9, 1.6), (4, 0.7), (4, 0.7))])
    cells: list[_Cell] = []
    for _ in range(40 + int(labels.size / style.radius**2)):
        if (labels[_INNER] > 0).mean() > style.cover:
            break
        cell = _place(rng, shape, style, cells)
        box = _box(cell.centre, 3.2 * cell.radius, shape)
        depth = _depth(rng, cell, style, warp[:, *box], box)
        if (labels[box][depth > 0] > 0).sum() > 0.22 * (depth > 0).sum():
            continue  # neighbours push each other flat, but no cell lies on top of another
        cells.append(cell)
        wins = depth > level[box]
        level[box][wins] = depth[wins]
        labels[box][wins] = len(cells)
    kept = _largest_pieces(labels, min_area=0.6 * style.radius**2)  # no slivers of overgrown cells
    return kept, [i + 1 for i, cell in enumerate(cells) if cell.is_round]


def _place(rng: Rng, shape: tuple[int, ...], style: _Style, cells: list[_Cell]) -> _Cell:
    """Choose where the next cell goes: anywhere, or against a cell that is already there."""
    is_round = bool(rng.random() < style.mitotic)
    radius = style.radius * (rng.uniform(0.62, 0.75) if is_round else float(np.exp(rng.normal(0, 0.22))))
    if cells and rng.random() < style.cluster:
        other = cells[rng.integers(len(cells))]
        turn, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.2) * (radius + other.radius)
        centre = (other.centre[0] + gap * np.sin(turn), other.centre[1] + gap * np.cos(turn))
    else:
        centre = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
    row, col = (float(np.clip(c, 0, n - 1)) for c, n in zip(centre, shape, strict=True))
    return _Cell((row, col), float(radius), is_round)


def _box(centre: tuple[float, float], reach: float, shape: tuple[int, ...]) -> Box:
    low = [max(0, int(c - reach)) for c in centre]
    high = [min(n, int(c + reach) + 2) for c, n in zip(centre, shape, strict=True)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _depth(rng: Rng, cell: _Cell, style: _Style, warp: FloatImage, box: Box) -> FloatImage:
    """Signed depth in px of each pixel of `box` in the cell: positive inside."""
    rows, cols = np.mgrid[box].astype(np.float32)
    stiff = 0.25 if cell.is_round else 1.0  # a rounded-up cell stays nearly a disc
    y = rows - cell.centre[0] + stiff * (warp[0] + warp[2])
    x = cols - cell.centre[1] + stiff * (warp[1] + warp[3])
    turn = rng.uniform(0, np.pi)
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    stretch = 1.0 + stiff * rng.beta(1.6, 3.0) * (0.4 + 1.25 * style.spread)
    v = v + stiff * rng.normal(0, 0.25) * u**2 / (2 * cell.radius * stretch)  # bends the long axis
    u, v = u / stretch, v * stretch**0.6
    theta, rho = np.arctan2(v, u), np.hypot(u, v)
    edge = np.ones_like(rho)
    for order in range(2, 7):
        edge += stiff * rng.normal(0, 0.16 / order**0.8) * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    if not cell.is_round:
        for _ in range(rng.poisson(3.0 * style.spread)):  # tapering processes
            peak = np.cos(theta - rng.uniform(0, 2 * np.pi)) - 1
            edge += rng.uniform(0.3, 0.9) * style.spread * np.exp(rng.uniform(5, 16) * peak)
    return np.asarray(cell.radius * np.maximum(edge, 0.35) - rho, dtype=np.float32)


def _largest_pieces(labels: LabelImage, min_area: float) -> LabelImage:
    """Smooth the owners a little and keep the largest piece of each id; ids stay as they are."""
    out = np.zeros_like(labels)
    for i, box in _boxes(labels):
        pieces = _pieces(ndi.binary_fill_holes(ndi.binary_opening(labels[box] == i)) & (out[box] == 0))
        largest = max(pieces, key=np.count_nonzero, default=np.zeros(0))
        if np.count_nonzero(largest) >= min_area:
            out[box][largest] = i
    return out


def _tidy(labels: LabelImage) -> LabelImage:
    """Give every piece of the cut-out its own id 1..n and drop slivers at the border."""
    out = np.zeros_like(labels)
    for i, box in _boxes(labels):
        for piece in _pieces(labels[box] == i):
            if piece.sum() >= _MIN_AREA:
                out[box][piece] = out.max() + 1
    return out


def _boxes(labels: LabelImage) -> list[tuple[int, Box]]:
    return [(i, box) for i, box in enumerate(ndi.find_objects(labels), start=1) if box is not None]


def _pieces(mask: Mask) -> list[Mask]:
    """The 4-connected pieces of a mask."""
    pieces, count = ndi.label(mask)
    return [pieces == k for k in range(1, count + 1)]


def _optical_path(rng: Rng, labels: LabelImage, round_ids: list[int]) -> tuple[FloatImage, FloatImage]:
    """Optical path through each pixel, about 1 in the body of a cell and 0 in the medium, and the path as the halo
    sees it: there a rounded-up cell counts as thick as it is, while in the picture its own path wraps to bright."""
    path, glow = np.zeros((2, *labels.shape), np.float32)
    fine, medium, coarse = (_noise(rng, labels.shape, s) for s in (1.0, 2.2, 6.0))
    texture = 0.09 * fine + 0.16 * medium + 0.14 * coarse
    for i, box in _boxes(labels):
        mask = labels[box] == i
        depth = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float32)
        body = (_rounded_body if i in round_ids else _spread_body)(rng, depth, texture[box])
        path[box][mask] = body[mask]
        glow[box][mask] = 1.6 * (1 - np.exp(-depth[mask] / 3)) + 0.6 if i in round_ids else body[mask]
    return path, glow


def _rounded_body(rng: Rng, depth: FloatImage, texture: FloatImage) -> FloatImage:
    """A thick ball: dark rim, refractive bright middle (the path wraps), often a plate of chromosomes across it."""
    body = 1.5 * np.exp(-(((depth - 1.5) / 1.5) ** 2)) + rng.uniform(0.4, 1.4) * (1 - np.exp(-((depth / 4) ** 2)))
    rows, cols = np.indices(depth.shape) - np.array([n / 2 for n in depth.shape])[:, None, None]
    turn = rng.uniform(0, np.pi)
    across, along = rows * np.cos(turn) - cols * np.sin(turn), rows * np.sin(turn) + cols * np.cos(turn)
    plate = np.exp(-((across / 2.0) ** 2) - (along / (0.5 * depth.max())) ** 4)
    return np.asarray(body + rng.choice([0.0, 1.1]) * plate + 1.5 * texture, dtype=np.float32)


def _spread_body(rng: Rng, depth: FloatImage, texture: FloatImage) -> FloatImage:
    """A spread cell: steep edge, thin lamella, granules around a nucleus with nucleoli."""
    rise = 1 - np.exp(-np.maximum(depth - 0.5, 0) / rng.uniform(0.9, 1.7))
    body = rng.uniform(0.5, 0.85) * rise + rng.uniform(0.0, 0.6) * (depth / depth.max()) ** 1.2
    body = body + rng.uniform(0.15, 0.65) * np.exp(-(((depth - 2.6) / 1.6) ** 2))  # the edge curls up a little
    nucleus = _nucleus(rng, depth)
    grains = _granules(rng, depth, nucleus > 0.3, density=rng.uniform(0.03, 0.12))
    body = body + rise * (rng.uniform(0.6, 1.5) * texture * (1 - 0.55 * nucleus) + grains)
    rim = np.exp(-(((nucleus - 0.5) / 0.28) ** 2)) * (depth > 2)
    body = body + rng.uniform(-0.45, 0.1) * nucleus + 0.3 * rim
    return np.asarray(body + _nucleoli(rng, nucleus), dtype=np.float32)


def _nucleus(rng: Rng, depth: FloatImage) -> FloatImage:
    """Soft mask 0..1 of a nucleus somewhere in the thick part of the cell."""
    spots = np.argwhere(depth > 0.75 * depth.max())
    centre = spots[rng.integers(len(spots))]
    rows, cols = np.indices(depth.shape) - centre[:, None, None]
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.5)
    u = (np.cos(turn) * cols + np.sin(turn) * rows) / stretch
    v = np.cos(turn) * rows - np.sin(turn) * cols
    theta = np.arctan2(v, u)
    edge = 1 + 0.10 * np.cos(2 * theta + rng.uniform(0, 6)) + 0.06 * np.cos(3 * theta + rng.uniform(0, 6))
    radius = rng.uniform(0.48, 0.62) * depth.max() * edge
    return np.asarray(1 / (1 + np.exp(np.clip((np.hypot(u, v) - radius) / 0.7, -30, 30))), dtype=np.float32)


def _nucleoli(rng: Rng, nucleus: FloatImage) -> FloatImage:
    spots = np.argwhere(nucleus >= 0.9 * nucleus.max())
    dots = np.zeros_like(nucleus)
    dots[tuple(spots[rng.integers(len(spots), size=rng.integers(1, 5))].T)] = rng.uniform(0.5, 1.0)
    return np.asarray(11.0 * ndi.gaussian_filter(dots, 1.3), dtype=np.float32)


def _granules(rng: Rng, depth: FloatImage, nucleus: Mask, density: float) -> FloatImage:
    """Dark granules and bright vesicles, crowded around the nucleus and absent from it."""
    near = np.exp(-ndi.distance_transform_edt(~nucleus) / 7.0)
    chance = density * (0.25 + near) * (depth > 2) * ~nucleus
    hits = (rng.random(depth.shape) < chance) * rng.choice([-1.0, 1.0], p=[0.45, 0.55], size=depth.shape)
    strength = hits * rng.gamma(1.5, 0.6, depth.shape)
    dots = 4.0 * ndi.gaussian_filter(strength, 0.8) - 3.0 * ndi.gaussian_filter(strength, 1.7)
    return np.asarray(dots, dtype=np.float32)


def _phase_contrast(rng: Rng, path: FloatImage, glow: FloatImage, free: FloatImage, style: _Style) -> FloatImage:
    """Grey, in units of contrast, that phase optics make of an optical path: minus the path, plus its blurred copy."""
    near = ndi.gaussian_filter(glow, style.halo)
    far = ndi.gaussian_filter(glow, 3.5 * style.halo)
    uneven = 1 + 0.15 * _noise(rng, path.shape, 20)  # the halo is nowhere as regular as the theory
    near *= 1 + 0.9 * free  # the cells themselves take some of the halo's light away
    return np.asarray((0.8 * near + 0.3 * far) * style.shade_off * uneven - 0.85 * path, dtype=np.float32)


def _background(rng: Rng, free: FloatImage) -> FloatImage:
    """Uneven light over the whole field, texture of the dish between the cells, dust and debris anywhere."""
    shape = free.shape
    rows, cols = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    turn, centre = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.25, 2)
    light = rng.uniform(5, 22) * (np.cos(turn) * cols + np.sin(turn) * rows)
    light -= rng.uniform(4, 18) * ((rows - centre[0]) ** 2 + (cols - centre[1]) ** 2)
    dish = 2.2 * _noise(rng, shape, 1.6) + 3.0 * _noise(rng, shape, 12) + 3.0 * _noise(rng, shape, 35)
    return np.asarray(light + dish * free + _debris(rng, shape), dtype=np.float32)


def _debris(rng: Rng, shape: tuple[int, ...]) -> FloatImage:
    """Out-of-focus dust (blurred rings), floating blobs and small refractile crumbs."""
    out = np.zeros(shape, np.float32)
    area = shape[0] * shape[1] / 320**2
    for radius, strength, count in ((8.0, 24.0, 5), (4.0, 50.0, 6), (1.6, 95.0, 9)):
        for _ in range(rng.poisson(count * area)):
            size = radius * rng.uniform(0.7, 1.5)
            centre = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
            box = _box(centre, 4 * size, shape)
            rows, cols = np.mgrid[box]
            r = np.hypot(rows - centre[0], (cols - centre[1]) * rng.uniform(0.8, 1.25)) / size
            ring = np.cos(rng.uniform(2.2, 3.4) * r) * np.exp(-(r**2) / 1.6)
            out[box] += strength * rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.0) * ring
    return out


def _expose(rng: Rng, grey: FloatImage, style: _Style) -> GreyImage:
    """Point spread, then shot noise (grows with the root of the light) and read noise, then 8 bits."""
    light = np.clip(ndi.gaussian_filter(grey, style.blur), 1, None)
    spread = np.hypot(style.noise * np.sqrt(light / style.grey), 1.2)
    return np.asarray(np.clip(np.rint(light + spread * rng.standard_normal(grey.shape)), 0, 255), dtype=np.uint8)
