"""How a mask lies on its image: outlines against edges, at every shift and turn, without training anything.

`misfits` compares the signatures of a data set and names the masks that do not belong where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import SizeError

Plane = npt.NDArray[np.float32]
Field = npt.NDArray[np.complex64]
"""(Y, X) of directions, x + i y."""

#: Images are averaged down to at most this side: 512² to 256², where a shift of 4 pixels is still 2.
WORKING_SIDE = 384
#: A side of fewer working pixels has too few edges to tell anything.
SMALLEST_SIDE = 24
#: Samples along each axis of a block that is averaged; more do not change a mean, and whole slides have blocks of 100².
BLOCK_SAMPLES = 8
#: Width of the Gaussian before the gradient, working pixels: 1 gave sharper peaks than 1.5 or 2.5 on real data.
SMOOTHING = 1.0
#: Gradients around this quantile count half as much as the strongest, so that a few glaring edges do not outvote the many.
EDGE_QUANTILE = 0.9
#: Shifts up to this share of each side are looked for; beyond it too little of the mask is left.
REACH = 0.25
#: Working pixels around the best shift that belong to its peak.
PEAK_RADIUS = 8
#: Side of the maps kept for comparing images with each other's masks: 4 maps of 48² × 2 bytes are 18 kB.
KEPT_SIDE = 48
#: A place looks like the labelled ones where each of its features lies between these quantiles of theirs.
LIKE_QUANTILES = (0.1, 0.9)
#: Labelled places of fewer half working pixels say too little about what labelled places look like.
FEWEST_LIKE = 30

TURNS = (
    "as it is", "flipped left to right", "flipped top to bottom", "rotated by 180°", "with x and y exchanged",
    "rotated by 90° clockwise", "rotated by 90° counter-clockwise", "with x and y exchanged and rotated by 180°",
)


@dataclass(frozen=True)
class FitSignature:
    """How a mask lies on its image, 19 kB. Fits are in standard deviations of the fit over all shifts."""

    size: tuple[int, int]
    """(Y, X) of the image, or of the slice looked at, pixels."""
    scale: int
    """Pixels in a working pixel."""
    best: float
    """Fit at the best shift."""
    rival: float
    """Best fit outside that peak."""
    move: tuple[float, float]
    """(y, x) working pixels by which the mask would have to move to reach the best fit."""
    turned: tuple[float, ...]
    """Fits of the mask turned as in `TURNS`; the first is the mask as it is. Four unless the image is square."""
    polarity: float
    """Fit of signed edges alone: above 0 where the foreground is brighter."""
    signs: tuple[float, ...] | None
    """Four figures in −1..1 that change sign with the mask's polarity; None unless the mask is one of two classes."""
    objects: int
    """Instances, or connected pieces of the foreground."""
    lookalike: float
    """Area without label that looks just like the labelled, as a share of the labelled; 0 where that cannot be told."""
    lookalike_at: tuple[int, int]
    """(y, x) pixel in the midst of it."""
    maps: npt.NDArray[np.int8]
    """(signed or not, image or mask, D): coarse maps of edges, of which products are fits."""

    @property
    def own(self) -> float:
        """Fit of the mask as it is."""
        return self.turned[0]

    @property
    def off(self) -> float:
        """Distance to the best fit, working pixels."""
        return float(np.hypot(*self.move))


def fit_signature(image: npt.NDArray[Any], ids: npt.NDArray[Any], kind: Literal["instances", "classes"],
                  side: int = WORKING_SIDE) -> FitSignature | None:
    """What `misfits` needs to know of one pair; None where there is nothing to compare.

    image: (C, Y, X) or (C, Z, Y, X), any real dtype; of a volume, the middle one of the slices with labels is looked at.
    ids: integer (Y, X) or (Z, Y, X); the lowest is background. side: pixels to which the longer side is averaged down, at
    most. Nothing to compare: a mask of one value, an image that is constant or not finite, a side below `SMALLEST_SIDE`.
    Raises SizeError where the two differ in size.
    """
    if image.shape[1:] != ids.shape or ids.ndim not in (2, 3):
        raise SizeError(f"image of shape {image.shape} and labels of shape {ids.shape} are not (C, *S) and (*S)")
    factor = max(1, -(-max(ids.shape[-2:]) // side))
    if not ids.size or min(ids.shape[-2:]) // factor < SMALLEST_SIDE:
        return None
    low, high = ids.min(), ids.max()
    if ids.ndim == 3:
        labelled = np.flatnonzero((ids != low).any(axis=(1, 2)))
        if not labelled.size:
            return None
        image, ids = image[:, labelled[len(labelled) // 2]], ids[labelled[len(labelled) // 2]]
    inside = reduced(ids, factor, low)
    planes = _planes(image, factor)
    if not planes or inside.min() == inside.max():
        return None
    gradient, outline = _gradient(np.sum(planes, axis=0)), _gradient(inside)
    strength = np.abs(gradient)
    signed = gradient / (strength + np.float32(np.quantile(strength[::4, ::4], EDGE_QUANTILE) + 1e-3))
    # A direction without sign (v²/|v|) fits outlines that are bright on one side and dark on the other, as in DIC.
    edges = (signed, signed * gradient / (strength + np.float32(1e-6)))
    outlines = (outline, outline * outline / (np.abs(outline) + np.float32(1e-6)))
    lay = _lay(edges, outlines, ids.shape[0] == ids.shape[1])
    if lay is None:
        return None
    lookalike, (y, x) = _lookalike(planes, strength, inside)
    two = kind == "classes" and bool(((ids == low) | (ids == high)).all())
    return FitSignature(
        size=(ids.shape[0], ids.shape[1]), scale=factor, best=lay.best, rival=lay.rival, move=lay.move, turned=lay.turned,
        polarity=lay.polarity, signs=_signs(inside, lay.polarity) if two else None, objects=_count(ids, inside, factor, kind),
        lookalike=lookalike, lookalike_at=(y * factor, x * factor),
        maps=np.stack([_kept(pair) for pair in zip(edges, outlines, strict=True)]))


def reduced(array: npt.NDArray[Any], factor: int, unlike: Any = None) -> Plane:
    """Means of blocks of factor² of (Y, X), or the share of each that is unlike a value; no temporaries of full size."""
    height, width = (n // factor * factor for n in array.shape)
    places = range(0, factor, -(-factor // BLOCK_SAMPLES))
    total = np.zeros((height // factor, width // factor), np.float32)
    with np.errstate(all="ignore"):  # values beyond float32 become infinite, which `_planes` leaves out
        for y in places:
            for x in places:
                part = array[y:height:factor, x:width:factor]
                total += (part if unlike is None else part != unlike).astype(np.float32, copy=False)
    total /= len(places) ** 2
    return total


def _planes(image: npt.NDArray[Any], factor: int) -> list[Plane]:
    """(C, Y, X) → the channels that are not constant, reduced, each brought to mean 0 and standard deviation 1."""
    planes = []
    for channel in image:
        plane = reduced(channel, factor)
        finite = np.isfinite(plane)
        largest = float(np.abs(plane[finite]).max(initial=0))
        if largest == 0:
            continue
        if not finite.all():
            plane = np.where(finite, plane, np.median(plane[finite]))
        plane = (plane / largest).astype(np.float32, copy=False)
        spread = plane.std()
        if spread > 1e-6:  # of 1: rounding is not content
            planes.append(((plane - plane.mean()) / spread).astype(np.float32, copy=False))
    return planes


def _gradient(plane: Plane) -> Field:
    """d/dx + i d/dy of the smoothed plane."""
    from scipy.ndimage import gaussian_filter

    down, right = np.gradient(gaussian_filter(plane, SMOOTHING, truncate=3))
    gradient: Field = (right + 1j * down).astype(np.complex64)
    return gradient


@dataclass(frozen=True)
class _Lay:
    """See `FitSignature`."""

    best: float
    rival: float
    move: tuple[float, float]
    turned: tuple[float, ...]
    polarity: float


def _lay(edges: tuple[Field, Field], outlines: tuple[Field, Field], square: bool) -> _Lay | None:
    """Fits over all shifts, by FFT, and of all turns; None without edges. Both pairs: signed first."""
    from scipy.fft import fft2, ifft2

    surface, turned, polarity = np.zeros(edges[0].shape, np.float32), np.zeros(len(TURNS) if square else 4), 0.0
    for signed, edge, outline in zip((True, False), edges, outlines, strict=True):
        products = ifft2(fft2(edge) * fft2(outline).conj()).real
        spread = float(products.std())
        if not spread > 0:
            return None
        at_zero = np.array(_at_zero(edge, outline, signed, square)) / spread
        if signed:
            polarity = float(at_zero[0])
        # Signed edges count in either polarity. √2 keeps the sum of the two in standard deviations.
        surface += (np.abs(products) if signed else products) / np.float32(spread * np.sqrt(2))
        turned += (np.abs(at_zero) if signed else at_zero) / np.sqrt(2)
    best, rival, move = _peak(surface)
    return _Lay(best, rival, move, tuple(turned.tolist()), polarity)


def _at_zero(edge: Field, outline: Field, signed: bool, square: bool) -> list[float]:
    """Sum of products of an edge map with the outline map turned in the ways of `TURNS`: both its places and its directions."""
    right, down = np.ascontiguousarray(edge.real), np.ascontiguousarray(edge.imag)
    found = []
    for exchange in (False, True) if square else (False,):
        along, across = outline.real, outline.imag
        if exchange:  # a direction without sign has twice the angle, so that it becomes −conj(v)
            along, across = (across.T, along.T) if signed else (-along.T, across.T)
        along, across = np.ascontiguousarray(along), np.ascontiguousarray(across)
        for flips in range(4):
            sideways, over = bool(flips & 1), bool(flips & 2)
            places = (slice(None, None, -1 if over else 1), slice(None, None, -1 if sideways else 1))
            sign_along = -1 if signed and sideways else 1
            sign_across = -1 if (over if signed else over != sideways) else 1
            found.append(sign_along * float(np.einsum("yx,yx", along[places], right))
                         + sign_across * float(np.einsum("yx,yx", across[places], down)))
    return found


def _peak(surface: Plane) -> tuple[float, float, tuple[float, float]]:
    """Best fit within reach, the best outside its peak, and the shift (y, x) of the best to a fraction of a pixel."""
    reach = [max(2, int(n * REACH)) for n in surface.shape]
    near = np.roll(surface, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    rows, columns = np.ogrid[: near.shape[0], : near.shape[1]]
    far = (rows - y) ** 2 + (columns - x) ** 2 > PEAK_RADIUS**2
    best = float(near[y, x])
    return (best, float(near[far].max()) if far.any() else best,
            (y - reach[0] + _summit(near[:, x], y), x - reach[1] + _summit(near[y], x)))


def _summit(line: Plane, at: int) -> float:
    """Offset, at most half a pixel, of the top of the parabola through a maximum and its neighbours; 0 at an end."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, top, after = (float(v) for v in line[at - 1 : at + 2])
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _lookalike(planes: Sequence[Plane], strength: Plane, inside: Plane) -> tuple[float, tuple[int, int]]:
    """Area without label that looks like the labelled, as a share of that, and the (y, x) working pixel in its midst.

    Compared are each channel, the intensity of the surroundings and the strength of edges around, at half the working size.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    labelled = reduced(inside, 2)
    core = labelled > 0.5
    like = np.ones(core.shape, bool)
    if core.sum() < FEWEST_LIKE:
        return 0.0, (0, 0)
    halves = [reduced(plane, 2) for plane in planes]
    texture = np.log(gaussian_filter(reduced(strength**2, 2), 2, truncate=2) + np.float32(1e-5))
    features = [*(gaussian_filter(half, 0.7, truncate=2) for half in halves), gaussian_filter(sum(halves), 2, truncate=2), texture]
    for feature in features:
        low, high = np.quantile(feature[core], LIKE_QUANTILES)
        like &= (feature >= low) & (feature <= high)
    like = uniform_filter(like.astype(np.float32), 3) > 0.5  # not single pixels
    apart = uniform_filter((labelled > 0).astype(np.float32), 5) < 1e-3  # outlines are drawn within or without by habit
    inner, outer = int((like & core).sum()), like & apart
    if inner < FEWEST_LIKE or not outer.any():
        return 0.0, (0, 0)
    y, x = divmod(int(uniform_filter(outer.astype(np.float32), 9).argmax()), outer.shape[1])
    return float(outer.sum() / inner), (2 * y, 2 * x)


def _signs(inside: Plane, polarity: float) -> tuple[float, ...]:
    """Brightness of the foreground, its share, its pieces and its share of the image's border, each against the background's."""
    mask = inside > 0.5
    pieces = float(np.log((_pieces(mask) + 1) / (_pieces(~mask) + 1)))
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()
    return (polarity / (abs(polarity) + 5), 2 * float(inside.mean()) - 1, pieces / (abs(pieces) + 1), 2 * float(border) - 1)


def _pieces(mask: npt.NDArray[np.bool_]) -> int:
    from scipy.ndimage import label

    return int(label(mask)[1])


def _count(ids: npt.NDArray[Any], inside: Plane, factor: int, kind: str) -> int:
    """Roughly: instances of a pixel or two are passed over."""
    return len(np.unique(ids[:: 2 * factor, :: 2 * factor])) - 1 if kind == "instances" else _pieces(inside > 0.5)


def _kept(fields: Sequence[Field]) -> npt.NDArray[np.int8]:
    """Block means of at most `KEPT_SIDE`² of each, real then imaginary parts, scaled to −127..127: (fields, D)."""
    down, right = (_averaging(n) for n in fields[0].shape)
    kept = np.array([[down @ part @ right.T for part in (field.real, field.imag)] for field in fields]).reshape(len(fields), -1)
    scaled: npt.NDArray[np.int8] = np.round(kept * (127 / np.abs(kept).max(axis=1, keepdims=True).clip(1e-30))).astype(np.int8)
    return scaled


def _averaging(size: int) -> Plane:
    """(kept, size): the matrix that takes means of blocks."""
    kept = min(size, KEPT_SIDE)
    block = np.arange(size) * kept // size
    matrix = (block == np.arange(kept)[:, None]).astype(np.float32)
    averaging: Plane = matrix / matrix.sum(axis=1, keepdims=True)
    return averaging
