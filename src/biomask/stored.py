"""`Stored`: what a file holds, before it is read; `Selection`: what of it is an image; `select`: from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biomask.errors import ReadError, UsageError
from biomask.image import Image

#: One part of a numpy basic index.
Key = int | slice

#: Axes a file may name: time, channel, depth, rows, columns, samples of a colour. Q: the file does not say.
KNOWN_AXES = "TCZYXS"
UNKNOWN = "Q"

#: An axis that is no longer than this may be one of colours or channels.
FEW = 4

#: Endings of two parts, longest first.
DOUBLE_SUFFIXES = (".ome.tiff", ".ome.zarr", ".ome.tif", ".ome.btf", ".ome.tf8", ".ome.tf2", ".nii.gz", ".tar.gz")


def suffix_of(path: Path) -> str:
    """The ending that says the format, in lower case: ".png", ".nii.gz", ".ome.tif"; empty where there is none.

    >>> suffix_of(Path("brain.NII.gz")), suffix_of(Path("a.b.png")), suffix_of(Path("README"))
    ('.nii.gz', '.png', '')
    """
    return _double_suffix(path) or path.suffix.lower()


def stem_of(path: Path) -> str:
    """The file's name without that ending.

    >>> stem_of(Path("brain.NII.gz")), stem_of(Path("a.b.png"))
    ('brain', 'a.b')
    """
    double = _double_suffix(path)
    return path.name[: -len(double)] if double else path.stem


def _double_suffix(path: Path) -> str:
    name = path.name.lower()
    return next((s for s in DOUBLE_SUFFIXES if name.endswith(s) and len(name) > len(s)), "")

#: Words for `--channels` beside names and numbers.
GREY, RGB = "grey", "rgb"


@dataclass(frozen=True)
class Stored:
    """The header of a file, and the way to its pixels."""

    path: Path
    shape: tuple[int, ...]
    """As stored, one length an axis."""
    dtype: np.dtype[Any]
    axes: str
    """One capital letter a dimension, of T C Z Y X S, or Q where the file does not say what it is."""
    load: Callable[[tuple[Key, ...]], npt.NDArray[Any]]
    """Decodes pixels: `load(())` gives all, `load((3, slice(None)))` what `array[3, :]` would; as little as possible is read."""
    spacing: Mapping[str, float] = field(default_factory=dict)
    """µm per pixel along "z", "y", "x", those that the file states."""
    channel_names: tuple[str, ...] = ()
    """One name a channel, or empty."""
    palette: npt.NDArray[np.uint8] | None = None
    """RGB of each value, uint8 (N, 3), where the values are indices into it."""
    affine: npt.NDArray[np.float64] | None = None
    """(4, 4): from (x, y, z) in pixels to scanner millimetres, of NIfTI files; x, y, z are X, Y, Z of `axes`."""
    transparency: bool = False
    """Whether the last sample (axis S) says how opaque a pixel is."""

    @property
    def described(self) -> str:
        """Axes and shape for a message: "ZCYX = 40, 3, 512, 512"."""
        return f"{self.axes} = {', '.join(map(str, self.shape))}"


@dataclass(frozen=True)
class Selection:
    """Which axes, channels, planes and time points make an image; the flags --axes, --channels, --z, --time."""

    axes: str | None = None
    """What the axes of the files are, e.g. "ZYX", whatever they say; the size of a pixel stays with its dimension, not with
    the letter. None = as the files say."""
    channels: tuple[str, ...] | None = None
    """By name, or by number from 0; ("grey",) = one channel of colour, ("rgb",) = three equal ones of grey; None = all."""
    z: int | Literal["max", "each"] | None = None
    """A plane by number from 0, the brightest value over all planes, each plane as an image; None = a volume stays one."""
    time: int | Literal["each"] | None = None
    """A time point by number from 0, or each as an image; None = files have one."""

    @property
    def splits(self) -> bool:
        """Whether a file may give several images."""
        return "each" in (self.z, self.time)

    def of_labels(self) -> Selection:
        """The same for label files: they have no channels, and no brightest plane."""
        axes = "".join(a for a in self.axes if a not in "CS") if self.axes else None
        return replace(self, channels=None, axes=axes, z=None if self.z == "max" else self.z)

    def flags(self) -> str:
        """As it is typed."""
        given = {"--axes": self.axes, "--channels": ",".join(self.channels) if self.channels else None, "--z": self.z,
                 "--time": self.time}
        return " ".join(f"{flag} {value}" for flag, value in given.items() if value is not None)


@dataclass(frozen=True)
class Plane:
    """One of the images of a file that is split."""

    z: int | None = None
    time: int | None = None

    @property
    def suffix(self) -> str:
        """What is added to the file's name: "_t003_z012"; nothing for a whole file."""
        return "".join(f"_{letter}{n:03d}" for letter, n in (("t", self.time), ("z", self.z)) if n is not None)


#: The whole file.
WHOLE = Plane()


def resolve_axes(stored: Stored, selection: Selection) -> Stored:
    """With the axes that the selection names, where it names any of as many. Raises ReadError where they stay open."""
    long = tuple(i for i, n in enumerate(stored.shape) if n > 1 or stored.axes[i] in "YX")
    given = selection.axes
    if given is not None and len(given) == len(stored.shape):
        return _renamed(stored, given)
    if given is not None and len(given) == len(long):
        letters = ["Q"] * len(stored.shape)
        for i, letter in zip(long, given, strict=True):
            letters[i] = letter
        return _renamed(stored, "".join(letters))
    open_ = [i for i in long if stored.axes[i] not in KNOWN_AXES]
    if not open_:
        return stored
    # Each plane on its own: whether they follow each other in depth or in time makes no difference.
    wishes = (("Z", selection.z), ("T", selection.time))
    free = [letter for letter, wish in wishes if wish is not None and letter not in stored.axes]
    if len(open_) == 1 and free:
        return _renamed(stored, _put(stored.axes, open_[0], free[0]))
    shown = ", ".join(str(stored.shape[i]) for i in long)
    raise ReadError(f"has shape ({shown}), and what its axes {''.join(stored.axes[i] for i in long)} are is not in the file",
                    where=stored.path, fix="say " + " or ".join(_proposals(stored, long, open_)))


def _renamed(stored: Stored, axes: str) -> Stored:
    """With other names of the same dimensions. Each takes its pixel size along; a size of no dimension stays as it is.

    The affine's columns move likewise; it goes where a dimension of space is no longer one, or one of no space becomes one.
    """
    pairs = list(zip(axes, stored.axes, strict=True))
    spacing = {a: v for a, v in stored.spacing.items() if a.upper() not in stored.axes}
    spacing |= {new.lower(): stored.spacing[old.lower()] for new, old in pairs if new in "ZYX" and old.lower() in stored.spacing}
    source = {new: old for new, old in pairs if new in "ZYX"}
    if "Z" not in source and all(n == 1 for n, old in zip(stored.shape, stored.axes, strict=True) if old == "Z"):
        source["Z"] = "Z"  # of a plane
    affine = stored.affine
    if affine is not None:
        still = sorted(source.values()) == ["X", "Y", "Z"]
        affine = affine[:, [*("XYZ".index(source[a]) for a in "XYZ"), 3]] if still else None
    return replace(stored, axes=axes, spacing=spacing, affine=affine)


def _proposals(stored: Stored, long: tuple[int, ...], open_: list[int]) -> list[str]:
    """What to type for axes that the file leaves open."""
    free = [a for a in "TCZ" if a not in stored.axes and not (a == "C" and "S" in stored.axes)]
    axes = "".join(stored.axes[i] for i in long)
    if len(open_) > len(free):
        return ["--axes with one letter a dimension, of T (time) C (channel) Z (depth) Y X"]
    if len(open_) > 1:
        letters = iter(free[-len(open_):])
        return ["--axes " + "".join(next(letters) if a == UNKNOWN else a for a in axes)]
    lengths = [stored.shape[i] for i in long]
    last = ["--axes YXC (channels last)"] if axes == UNKNOWN + "YX" and lengths[2] <= FEW < lengths[0] else []
    words = {"Z": "a volume", "C": "channels", "T": "a time series"}
    each = ["--z each (every plane is an image)"] if "Z" in free else []
    return last + [f"--axes {axes.replace(UNKNOWN, a)} ({words[a]})" for a in "ZCT" if a in free] + each


def _put(axes: str, place: int, letter: str) -> str:
    return axes[:place] + letter + axes[place + 1:]


def planes(stored: Stored, selection: Selection) -> list[Plane]:
    """The images that a file gives: one, or one a plane or time point. Raises ReadError where axes stay open."""
    stored = resolve_axes(stored, selection)
    ranges: list[Iterator[int | None]] = []
    for letter, wish in (("T", selection.time), ("Z", selection.z)):
        there = letter in stored.axes and stored.shape[stored.axes.index(letter)] > 1
        ranges.append(iter(range(stored.shape[stored.axes.index(letter)])) if wish == "each" and there else iter([None]))
    return [Plane(z, t) for t, z in product(*ranges)]


def select(stored: Stored, selection: Selection, plane: Plane = WHOLE) -> Image:
    """Read what is selected as an `Image` "cyx" or "czyx".

    Samples (S) are channels; axes of length 1 are dropped, but depth is kept where `--z` is not given and it is longer
    than 1. Raises ReadError for axes that stay open, time points without `--time`, and planes that are not there.
    """
    stored = resolve_axes(stored, selection)
    axes, path = stored.axes, stored.path
    if any(axes.count(a) > 1 for a in KNOWN_AXES) or not {"Y", "X"} <= set(axes):
        raise ReadError(f"axes {axes} do not name Y and X once each", where=path, fix="give --axes with one letter a dimension")
    key = [_index(stored, i, selection, plane) for i in range(len(axes))]
    array = stored.load(tuple(key))
    left = "".join(a for a, k in zip(axes, key, strict=True) if isinstance(k, slice))
    if stored.transparency and "S" in left:
        array = without_alpha(array, left.index("S"), path)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    array, left = _merge_channels(array, left, path)
    if selection.z == "max" and "Z" in left:
        array, left = array.max(axis=left.index("Z")), left.replace("Z", "")
    order = [a for a in "CZYX" if a in left]
    array = array.transpose([left.index(a) for a in order])
    if "C" not in left:
        array = array[None]
    names = stored.channel_names if len(stored.channel_names) == array.shape[0] else ()
    array, names = _choose(array, names, selection.channels, path)
    spatial = "zyx" if "Z" in left else "yx"
    known = {a: float(v) for a, v in stored.spacing.items() if a in spatial and v > 0 and np.isfinite(v)}
    return Image(np.ascontiguousarray(array), "c" + spatial, stem_of(path) + plane.suffix,
                 {a: known[a] for a in spatial} if len(known) == len(spatial) else None, names,
                 _affine_of(stored, key))


def _affine_of(stored: Stored, key: list[Key]) -> npt.NDArray[np.float64] | None:
    """The affine of what is read: that of a plane begins where the plane lies, that of the brightest at the first one."""
    depth = key[stored.axes.index("Z")] if "Z" in stored.axes else 0
    if stored.affine is None or not isinstance(depth, int):
        return stored.affine
    affine = stored.affine.copy()
    affine[:3, 3] += depth * affine[:3, 2]
    return affine


def _index(stored: Stored, axis: int, selection: Selection, plane: Plane) -> Key:
    """What of one axis is read."""
    letter, length = stored.axes[axis], stored.shape[axis]
    if letter in "YXCS":
        return 0 if length == 1 and letter in "CS" else slice(None)
    chosen: int | str | None = {"T": plane.time if plane.time is not None else selection.time,
                                "Z": plane.z if plane.z is not None else selection.z}.get(letter)
    if length == 1:
        return 0
    if isinstance(chosen, int):
        flag = "--time" if letter == "T" else "--z"
        if not 0 <= chosen < length:
            raise ReadError(f"has no {flag[2:]} {chosen}: {stored.described}", where=stored.path, fix=f"{flag} 0 to {length - 1}")
        return chosen
    if letter == "T":
        raise ReadError(f"is a time series of {length}: {stored.described}", where=stored.path,
                        fix="say --time each (every time point is an image) or --time 0 (that one alone)"
                            + _unless_time(stored, axis))
    return slice(None)


def _unless_time(stored: Stored, axis: int) -> str:
    """The way out for a file that calls its channels or planes time points, as some programs do."""
    letter = next((a for a in "CZ" if a not in stored.axes and not (a == "C" and "S" in stored.axes)), "")
    words = {"C": "channels", "Z": "planes"}
    return f"; if they are {words[letter]}: --axes {_put(stored.axes, axis, letter)}" if letter else ""


def _merge_channels(array: npt.NDArray[Any], axes: str, path: Path) -> tuple[npt.NDArray[Any], str]:
    """Samples as channels; both of them as one axis."""
    if "S" in axes and "C" in axes:
        raise ReadError(f"axes {axes} with shape {array.shape}: both channels and colours", where=path,
                        fix="save the channels without colours")
    return array, axes.replace("S", "C")


def _choose(array: npt.NDArray[Any], names: tuple[str, ...], wanted: tuple[str, ...] | None,
            path: Path) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The channels wanted of (C, …), and their names; "grey" turns colour into one channel, "rgb" makes three of one."""
    if wanted == (GREY,) and GREY not in names and array.shape[0] in (1, 3):
        return _as_grey(array), ()
    if wanted == (RGB,) and RGB not in names and array.shape[0] in (1, 3):
        return np.repeat(array, 3, axis=0) if array.shape[0] == 1 else array, ()
    picked = _picked(wanted, names, array.shape[0], path)
    if picked is None:
        return array, names
    return array[picked], tuple(names[i] for i in picked) if names else ()


def _as_grey(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(3, …) to (1, …) by the luma of ITU-R BT.601, in the same dtype; where the three are equal, any of them."""
    if array.shape[0] == 1 or ((array[0] == array[1]).all() and (array[0] == array[2]).all()):
        return array[:1]
    luma = np.tensordot(np.asarray([0.299, 0.587, 0.114], np.float32), array.astype(np.float32), axes=1)[None]
    return (np.rint(luma) if array.dtype.kind in "ui" else luma).astype(array.dtype)


def _picked(wanted: tuple[str, ...] | None, names: tuple[str, ...], count: int, path: Path) -> list[int] | None:
    """Numbers of the channels wanted, by name or number; None = all."""
    if wanted is None:
        return None
    folded = [n.casefold() for n in names]
    found = []
    for wish in wanted:
        if folded.count(wish.casefold()) > 1:
            numbers = ",".join(str(i) for i, n in enumerate(folded) if n == wish.casefold())
            raise ReadError(f"has several channels {wish!r}", where=path, fix=f"give numbers: --channels {numbers}")
        if wish.casefold() in folded:
            found.append(folded.index(wish.casefold()))
        elif wish.isdecimal() and int(wish) < count:
            found.append(int(wish))
        else:
            there = ", ".join(f"{i} {n}" for i, n in enumerate(names)) if names else f"0 to {count - 1}, without names"
            raise ReadError(f"has no channel {wish!r}: there are {there}", where=path,
                            fix="--channels with names or numbers of these")
    return found


def without_alpha(array: npt.NDArray[Any], axis: int, path: Path) -> npt.NDArray[Any]:
    """Without the last sample, which is transparency. Raises ReadError where it hides something."""
    samples = np.moveaxis(array, axis, 0)
    opaque = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1
    if (samples[-1] != opaque).any():
        raise ReadError("has transparent pixels, whose grey value is open", where=path,
                        fix="flatten it onto a background and save it without transparency")
    return np.moveaxis(samples[:-1], 0, axis)


def parse_axes(text: str | None) -> str | None:
    """`--axes` as capitals. Raises UsageError unless it is one letter a dimension of T C Z Y X S."""
    if text is None:
        return None
    axes = text.upper()
    if set(axes) - set(KNOWN_AXES) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise UsageError(f"--axes {text!r} is not one letter a dimension, Y and X among them",
                         fix="of T (time) C (channel) Z (depth) Y X S (colour), e.g. --axes ZCYX")
    return axes
