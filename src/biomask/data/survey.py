"""`survey`: one pass over all images and labels; their facts are kept, their pixels are not."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from biomask.data.colours import coarsened, flat_pixels, pack
from biomask.data.facts import ImageFacts, Inspected, LabelFacts
from biomask.data.pairing import Pair
from biomask.data.truth import Raw, read_truth
from biomask.errors import BiomaskError, LabelsError, ManyErrors, ReadError
from biomask.image import Image
from biomask.io import open_stored, read_image
from biomask.machine import free_memory, usable_cores
from biomask.progress import Progress

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: Pixels by which the look of an image is told, and the shares of its range below which it is dark, above which bright.
LOOKED_AT, DARK, BRIGHT = 50_000, 0.3, 0.6

#: More values than this in one mask, in several pieces each, are no labels at all.
MOST_IDS = 4096

#: Pixels of the shortest side in a plane of an image.
SMALLEST_SIDE = 8

#: Objects are larger than this many pixels on average; hundreds of smaller ones that cover most of a mask are a grey image.
SMALLEST_OBJECT, MANY_IDS = 3, 256

#: From so many values on it is looked at which of them cover areas.
MANY_VALUES = 8

#: Colours of a mask that are remembered as they are, the most common ones: JPEG makes thousands of them.
MOST_COLOURS = 2048

#: Values of masks among which levels of expert averages are sought.
MOST_LEVELS = 17

#: Pairs read ahead, a worker, and the share of the free memory that pairs may take together: what bounds the memory.
AHEAD, MEMORY_SHARE = 2, 0.5

#: Bytes that looking at a pixel of an image and its labels takes at the peak; 41 were measured for colour-coded masks.
PER_PIXEL = 40

Probe = Callable[[Image, Sequence[Raw]], Any]
#: Makes the probe, once it is known for how many pairs.
Prober = Callable[[int], Probe]


@dataclass(frozen=True)
class Survey:
    """The facts of all pairs that can be read, and what is wrong with the others."""

    good: tuple[Inspected, ...]
    bad: dict[str, list[BiomaskError]]
    """By the name of the pair, in the order of the pairs."""


def survey(pairs: Sequence[Pair], settings: DataSettings, progress: Progress, probe: Probe | None = None) -> Survey:
    """Read every pair once, on all cores; at most a few are in memory at a time.

    probe: is given the image and its labels (none for an image without) and may keep facts of its own.
    """
    good, bad = list[Inspected](), dict[str, list[BiomaskError]]()
    with progress.bar("reading images and labels") as bar:
        for n, (pair, found) in enumerate(_in_order(pairs, lambda p: inspect(p, settings, probe))):
            if isinstance(found, Inspected):
                good.append(found)
            else:
                bad[pair.name] = found
            bar.update((n + 1) / len(pairs), pair.name)
    return Survey(tuple(good), bad)


def _in_order(pairs: Sequence[Pair], work: Callable[[Pair], Any]) -> Iterator[tuple[Pair, Any]]:
    """Results in order, from as many threads as cores: decoders and numpy let each other run."""
    workers = usable_cores()
    waiting: deque[tuple[Pair, Future[Any], int]] = deque()
    most, taken = MEMORY_SHARE * free_memory(), 0
    # Threads of threads would wait for each other: products of matrices are small here.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        try:
            for pair in pairs:
                needed = _bytes_needed(pair)
                while waiting and (len(waiting) > AHEAD * workers or taken + needed > most):
                    first, future, size = waiting.popleft()
                    yield first, future.result()
                    taken -= size
                waiting.append((pair, pool.submit(work, pair), needed))
                taken += needed
            while waiting:
                first, future, _ = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future, _ in waiting:
                future.cancel()


def _bytes_needed(pair: Pair) -> int:
    """Roughly what looking at a pair takes, from the header of its image; 0 where that cannot be read."""
    try:
        stored = open_stored(pair.image)
    except BiomaskError:
        return 0
    return PER_PIXEL * math.prod(stored.shape)


def inspect(pair: Pair, settings: DataSettings, probe: Probe | None = None) -> Inspected | list[BiomaskError]:
    """The facts of a pair, or what is wrong with each of its files."""
    errors: list[BiomaskError] = []
    raws: tuple[Raw, ...] = ()
    image: Image | None = None
    try:
        image = read_image(pair.image, settings.selection, pair.plane)
    except BiomaskError as error:
        errors.append(error)
    if pair.truth is not None:
        try:
            raws = read_truth(pair, image.size if image is not None else (1, 1), settings)
        except BiomaskError as error:
            # Without its image, a size that differs is no news.
            errors += [error] if image is not None or not isinstance(error, LabelsError) else []
    facts = image_facts(image) if image is not None else None
    if facts is not None:
        errors += _unusable(facts, pair.image)
    labels = []
    for raw in raws:
        try:
            labels.append(label_facts(raw, settings.ignore, pair.truth.where if pair.truth else pair.image))
        except BiomaskError as error:
            errors.append(error)
    hashes: dict[str, str] = {}
    try:
        hashes = _hashes(pair) if not errors else {}
    except BiomaskError as error:
        errors.append(error)
    if errors or image is None or facts is None:
        return [e for error in errors for e in (error.errors if isinstance(error, ManyErrors) else (error,))]
    return Inspected(pair, facts, tuple(labels), hashes, probe(image, raws) if probe else None)


def _unusable(facts: ImageFacts, where: Path) -> list[BiomaskError]:
    """What keeps a readable image from being learnt from."""
    errors = list[BiomaskError]()
    if facts.not_finite:
        errors.append(ReadError(f"{facts.not_finite} of its values are NaN or infinite", where=where,
                                fix="replace them, e.g. by 0 or the background's value, and save it again"))
    if min(facts.size[-2:]) < SMALLEST_SIDE:
        errors.append(ReadError(f"is {' x '.join(map(str, facts.size))} pixels: too small to learn from", where=where,
                                fix="remove it and its labels"))
    return errors


def _hashes(pair: Pair) -> dict[str, str]:
    try:
        found = {f"{pair.name}:image": _hash_once(pair.image)}
        if pair.truth is not None:
            files = [_hash_once(f) for f in pair.truth.files]
            found[f"{pair.name}:labels"] = files[0] if len(files) == 1 else hashlib.sha256("".join(files).encode()).hexdigest()
    except OSError as error:
        raise ReadError(f"cannot be read ({error.strerror or error})", where=error.filename or pair.image) from error
    return found


def _hash_once(path: Path) -> str:
    """The same for planes of one file, and for images of one COCO file."""
    found = path.stat()
    return _hash_of(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=32)
def _hash_of(path: Path, changed: int, size: int) -> str:
    return file_hash(path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_facts(image: Image) -> ImageFacts:
    """The facts of an image."""
    array = np.asarray(image.array)
    finite = np.isfinite(array) if array.dtype.kind == "f" else None
    missing = 0 if finite is None else int(array.size - np.count_nonzero(finite))
    known = array if not missing else array[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (float("nan"), float("nan"))
    at_top = max(float(np.count_nonzero(channel == high) / channel.size) for channel in array) if high > low else 0.0
    grey = image.channels == 3 and bool((array[0] == array[1]).all() and (array[0] == array[2]).all())
    return ImageFacts(image.size, image.axes, image.channels, str(array.dtype), dict(image.spacing) if image.spacing else None,
                      image.channel_names, low, high, missing, at_top, grey, _look(known, low, high)
                      + (" colour" if image.channels == 3 and not grey else ""))


def _look(known: npt.NDArray[Any], low: float, high: float) -> str:
    """Where the median lies between the lowest and the highest value; empty for a constant image."""
    if not high > low:
        return ""
    share = (float(np.median(known.reshape(-1)[:: max(1, known.size // LOOKED_AT)])) - low) / (high - low)
    return "dark" if share < DARK else "bright" if share > BRIGHT else "middling"


def label_facts(raw: Raw, ignore: int | None, where: Path) -> LabelFacts:
    """The facts of labels. Raises LabelsError for what is no labels at all."""
    array = pack(raw.array) if raw.form == "colours" else raw.array
    if raw.form == "fractions":
        return LabelFacts("fractions", {}, len(np.unique(array)), array.size, float(array.min()), float(array.max()), 0,
                          (0.0, 0.0, 0.0), 0, None, *_empty_planes(array > 0), notes=raw.notes)
    counts = _counted(array)
    background = _background(counts, raw.form)
    foreground = [v for v in counts if v not in (background, ignore)]
    pieces, areas = _pieces(array, background, ignore) if foreground else (0, (0.0, 0.0, 0.0))
    covered = sum(counts[v] for v in foreground)
    tiny = len(counts) > MANY_IDS and array.size / 2 < covered < SMALLEST_OBJECT * len(foreground)
    if raw.form == "values" and (tiny or (len(counts) > MOST_IDS and pieces > 2 * len(foreground))):
        raise LabelsError(f"{len(counts)} distinct values: a grey image rather than a mask?", where=where,
                          fix="give the masks; if this is the image, say where the masks are: --masks FOLDER")
    kept, flat = counts, dict[int, int]()
    if raw.form == "colours":
        kept = coarsened(counts, MOST_COLOURS)
        flat = coarsened(_counted(array[flat_pixels(raw.array)]), MOST_COLOURS)
    elif raw.form == "values" and MANY_VALUES < len(counts) <= MOST_IDS:
        flat = _counted(array[flat_pixels(array[None], (max(counts) - min(counts)) // 40)])
    palette = None if raw.palette is None else tuple((int(r), int(g), int(b)) for r, g, b in raw.palette)
    return LabelFacts(raw.form, kept, len(counts), array.size, float(min(counts)), float(max(counts)), pieces, areas,
                      len(foreground), _nested(array, counts), *_empty_planes(array != background), palette,
                      dict(raw.classes), dict(raw.colours), raw.notes, raw.in_colour, flat)


def _counted(array: npt.NDArray[Any]) -> dict[int, int]:
    """{value: pixels}, by counting where values are small and by sorting elsewhere."""
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if not array.size:
        return {}
    low, high = int(array.min()), int(array.max())
    if low >= 0 and high < 2**16:
        counts = np.bincount(array.ravel(), minlength=high + 1)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, counts = np.unique(array, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def _background(counts: Mapping[int, int], form: str) -> int:
    """0; of colours, black or white or the most common."""
    if form != "colours":
        return 0
    return next((c for c in (0x000000, 0xFFFFFF) if c in counts), max(counts, key=lambda c: counts[c]))


def _pieces(array: npt.NDArray[Any], background: int, ignore: int | None) -> tuple[int, tuple[float, float, float]]:
    """(number of connected regions of one value, percentiles of their pixels), but background and the ignored value."""
    from skimage.measure import label

    known = array if ignore is None else np.where(array == ignore, background, array)
    found, count = label(known, background=background, return_num=True)
    if not count:
        return 0, (0.0, 0.0, 0.0)
    areas = np.bincount(found.ravel())[1:]
    low, middle, high = np.percentile(areas, [10, 50, 90])
    return int(count), (float(low), float(middle), float(high))


def _nested(array: npt.NDArray[Any], counts: Mapping[int, int]) -> float | None:
    """Share of neighbouring levels among pixels beside each other that differ; None unless there are a few levels."""
    levels = sorted(counts)
    if not 4 <= len(levels) <= MOST_LEVELS:
        return None
    ranks = np.searchsorted(levels, array).astype(np.int8)
    changes, neighbouring = 0, 0
    for axis in (-2, -1):
        steps = np.abs(np.diff(ranks, axis=axis))
        changes += int(np.count_nonzero(steps))
        neighbouring += int(np.count_nonzero(steps == 1))
    return neighbouring / changes if changes else None


def _empty_planes(inside: npt.NDArray[np.bool_]) -> tuple[tuple[int, ...], int]:
    """(planes without labels between labelled ones, number of them at the ends) of a volume."""
    if inside.ndim < 3:
        return (), 0
    there = np.flatnonzero(inside.any(axis=(1, 2)))
    if not there.size:
        return (), 0
    first, last = int(there[0]), int(there[-1])
    gaps = sorted(set(range(first, last + 1)) - {int(z) for z in there})
    return tuple(gaps), first + inside.shape[0] - 1 - last
