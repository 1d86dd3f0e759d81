"""Probabilities of a whole image, if wanted the mean over its mirrored and turned copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from biomask.data.task import Task
from biomask.prediction.overlap_tile import predict_tiles

Augment = Literal["none", "mirrors", "symmetries", "rotations"]


@dataclass(frozen=True)
class Symmetry:
    """A way to mirror and turn an image that no pixel is lost by."""

    flips: tuple[int, ...]
    """Spatial axes to mirror, counted from the end."""
    transpose: bool
    """Exchange y and x, after mirroring."""

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of (C, *S)."""
        array = np.flip(array, self.flips) if self.flips else array
        return array.swapaxes(-1, -2) if self.transpose else array

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Back, a view."""
        array = array.swapaxes(-1, -2) if self.transpose else array
        return np.flip(array, self.flips) if self.flips else array


IDENTITY = Symmetry((), False)

#: The eight of the square by their names in recipes: degrees from y to x, "mirror" = mirrored along x before.
ROTATIONS: Mapping[str, Symmetry] = {
    "0": IDENTITY, "90": Symmetry((-1,), True), "180": Symmetry((-1, -2), False), "270": Symmetry((-2,), True),
    "mirror 0": Symmetry((-1,), False), "mirror 90": Symmetry((), True), "mirror 180": Symmetry((-2,), False),
    "mirror 270": Symmetry((-1, -2), True)}


def symmetries(mode: Augment, dims: int, flip: Sequence[str] = ("z", "y", "x"), *, turn: bool = True,
               rotations: Sequence[str] = ()) -> list[Symmetry]:
    """The copies of a mode, the image as it is first where it is among them.

    none: 1. mirrors: 2 for each axis that may be mirrored. symmetries: those and, where both y and x may be mirrored and
    `turn`, each with y and x exchanged: the 8 of the square in 2D. rotations: those of the symmetries that are named, in y-x; the
    image as it is where none may be taken. (The U-Net paper took the mean over seven turned copies and did not say which.)
    """
    if mode == "none":
        return [IDENTITY]
    if mode == "rotations":
        allowed = symmetries("symmetries", dims, flip, turn=turn)
        return [ROTATIONS[name] for name in rotations if ROTATIONS[name] in allowed] or [IDENTITY]
    axes = [-1 - i for i in range(dims) if "xyz"[i] in flip]
    found = [tuple(a for a, used in zip(axes, chosen, strict=True) if used) for chosen in product((False, True), repeat=len(axes))]
    exchange = (False, True) if mode == "symmetries" and turn and {"y", "x"} <= set(flip) else (False,)
    return [Symmetry(flips, transpose) for transpose in exchange for flips in found]


def predict_maps(network: nn.Module, image: npt.NDArray[Any], task: Task, tile: Sequence[int], *,
                 copies: Sequence[Symmetry] = (Symmetry((), False),),
                 statistics: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
                 device: torch.device | str = "cpu", approximate: bool = False,
                 done: Callable[[int, int], None] | None = None) -> npt.NDArray[np.float32]:
    """Probabilities float32 (channels, *S) of an image (C, *S), the mean over copies; other arguments as in `predict_tiles`."""
    total = np.zeros((task.channels, *image.shape[1:]), np.float32)
    for n, copy in enumerate(copies):
        turned, out = copy.apply(image), copy.apply(total)
        window = tuple(tile) if not copy.transpose else (*tile[:-2], tile[-1], tile[-2])
        for part, logits in predict_tiles(network, turned, window, statistics=statistics, device=device,
                                          approximate=approximate):
            out[(slice(None), *part.write)] += task.activate(logits).cpu().numpy()
        if done:
            done(n + 1, len(copies))
    if len(copies) > 1:
        total /= len(copies)
    return total


def class_ids(logits: Tensor, cut: float = 0.5) -> Tensor:
    """Class ids uint8 (*S) of logits (K, *S), as `decide` does from probabilities."""
    if len(logits) == 2:
        return (logits[1] - logits[0] > log(cut / (1 - cut))).to(torch.uint8)
    return logits.argmax(dim=0).to(torch.uint8)


def decide(maps: npt.NDArray[np.float32], task: Task, cut: float = 0.5) -> npt.NDArray[np.uint8]:
    """Of classes and instances the class ids (*S), by the largest probability; of multilabel 0 or 1 (K, *S), from 0.5 up.

    cut: of two classes, the probability of the second above which a pixel is of it.
    """
    if task.kind == "classes" and task.entries == 2:
        return np.asarray(maps[1] > cut, np.uint8)
    if task.kind == "multilabel":
        return np.asarray(maps >= 0.5, np.uint8)
    return np.asarray(maps[: task.softmax].argmax(axis=0), np.uint8)
