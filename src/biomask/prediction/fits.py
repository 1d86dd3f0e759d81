"""Whether an image is one that the model takes, and which of its channels are meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biomask.checkpoint import Model
from biomask.errors import ReadError, SizeError
from biomask.image import Image
from biomask.stored import Selection, Stored, resolve_axes


def channels_by_name(stored: Stored, selection: Selection, wanted: tuple[str, ...]) -> tuple[str, ...] | None:
    """The training's channels by name, where what is selected of this file are not the same ones in the same order.

    None where it is so, or where names do not tell: some are without, or several channels share one. Raises SizeError for
    names that are not there.
    """
    stored = resolve_axes(stored, selection)
    count = next((stored.shape[stored.axes.index(a)] for a in "CS" if a in stored.axes), 1)
    there, sought = [n.casefold() for n in stored.channel_names], [n.casefold() for n in wanted]
    if len(there) != count or len(set(there)) < count or not sought or len(set(sought)) < len(sought):
        return None
    missing = [name for name in wanted if name.casefold() not in there]
    if missing:
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(stored.channel_names))
        raise SizeError(f"has no channel {' nor '.join(missing)}, on which the model was trained: there are {shown}",
                        where=stored.path, fix=f"say which to take for {', '.join(wanted)}, in this order: "
                                               f"--channels {','.join(map(str, range(min(count, len(wanted)))))}")
    return None if _selected(there, selection.channels) == sought else wanted


def _selected(names: list[str], channels: tuple[str, ...] | None) -> list[str]:
    """Names of the channels that a selection takes, all in small letters; those by number may not be there."""
    if channels is None:
        return names
    wishes = [c.casefold() for c in channels]
    return [w if w in names else names[int(w)] if w.isdecimal() and int(w) < len(names) else "" for w in wishes]


def require_fit(image: Image, model: Model, source: str | Path) -> None:
    """Raise SizeError for another number of dimensions or channels than in training, ReadError for an image without any value."""
    header = model.header
    if 0 in image.array.shape:
        raise SizeError(f"has no pixel (size {' × '.join(map(str, image.size))})", where=source)
    if image.spatial_dims != header.spatial_dims:
        fix = "--z each predicts every plane, --z max the brightest of all planes" if image.spatial_dims == 3 else None
        raise SizeError(f"is {image.spatial_dims}D with axes {image.axes}, the model was trained on {header.spatial_dims}D",
                        where=source, fix=fix)
    if image.channels != header.in_channels:
        raise SizeError(f"has {image.channels} channel(s), the model was trained on {header.in_channels}", where=source,
                        fix=_channel_advice(image, header.in_channels))
    if image.array.dtype.kind == "f" and not any(np.isfinite(channel).any() for channel in image.array):
        raise ReadError("holds nothing to segment: all its values are NaN or infinite", where=source,
                        fix="export it again from the program that wrote it, or take it away")


def _channel_advice(image: Image, wanted: int) -> str:
    if {image.channels, wanted} == {1, 3}:
        return "--channels grey turns colour into grey" if wanted == 1 else "--channels rgb repeats grey three times"
    if image.channels > wanted:
        there = ", ".join(f"{i} {n}" for i, n in enumerate(image.channel_names)) or f"0 to {image.channels - 1}"
        return f"say which it was trained on, e.g. --channels {','.join(map(str, range(wanted)))} (there are {there})"
    return "give images with the channels of the training images"
