"""What is compared, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from biomask.errors import UsageError
from biomask.recipe import DataSettings, Recipe


@dataclass(frozen=True)
class CompareOptions:
    """How recipes are compared; the flags of `biomask compare`."""

    minutes: float | None = None
    """Budget in wall time of each training."""
    steps: int | None = None
    """Budget in steps of each training; with neither, `DEFAULT_MINUTES`."""
    folds: int | Literal["loo"] | None = None
    """Cross-validation; "loo" leaves out one image, or group, at a time. None = the data's own test part where there is one, else
    by how many images there are."""
    seeds: Sequence[int] = (0,)
    """Each training is repeated with each; scores are the means over them."""
    sizes: Sequence[int] = ()
    """Numbers of training images for a learning curve, besides all of them."""
    external: Mapping[str, str | Path] = field(default_factory=dict)
    """Folders of predictions by others, by the name that they get in the table."""
    splits: str | Path | None = None
    """nnU-Net's splits_final.json, whose folds are taken."""
    data: DataSettings = field(default_factory=DataSettings)
    """How the data are read."""
    masks: str | Path | None = None
    device: str = "auto"
    tolerance: float | None = None
    """Of NSD; see `biomask.evaluation.options`."""
    overwrite: bool = False
    """Forget what an earlier comparison left in the folder."""

    def __post_init__(self) -> None:
        if self.minutes is not None and self.steps is not None:
            raise UsageError("--minutes and --steps exclude each other", fix="give one of them")
        if isinstance(self.folds, int) and self.folds < 2:
            raise UsageError(f"--folds {self.folds} is not at least 2", fix="--folds 3, or loo")
        if self.splits is not None and self.folds is not None:
            raise UsageError("--splits and --folds exclude each other", fix="give one of them")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError("--seeds need at least one number, none twice", fix="--seeds 0,1,2")
        if any(n < 2 for n in self.sizes) or len(set(self.sizes)) < len(self.sizes):
            raise UsageError("--images need numbers of at least 2, none twice", fix="--images 5,10,20")


def checked_names(recipes: Sequence[Recipe], external: Mapping[str, str | Path]) -> None:
    """Raise UsageError where two rows of the table would have one name, or a name is no folder."""
    names = [r.name for r in recipes] + list(external)
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(f"{', '.join(twice)} is compared with itself", fix="give each recipe file another name:, or leave one out")
    strange = [n for n in names if not n or n in (".", "..") or any(c in '/\\:*?"<>|' for c in n) or len(n) > 80]
    if strange:
        raise UsageError(f"{strange[0]!r} cannot be the name of a folder", fix="letters, digits, - and + are safe")
    if len(names) < 1:
        raise UsageError("nothing to compare", fix="--recipes default,unet-2015")
