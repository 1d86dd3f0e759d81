"""Sentences of a Methods paragraph on a detector, each a pure function of its settings; `[@key]` cites `sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biomask.data.task import SCORE
from biomask.prediction.detect import OVERLAP_SHARE
from biomask.prediction.one_image import LEAST_SIZE

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader

#: How backbones are called, and by which work, by the beginnings of their names.
BACKBONES: Mapping[str, tuple[str, str]] = {"resnext": ("ResNeXt-", " [@resnext]"), "resnet": ("ResNet-", " [@resnet]")}

#: What each option of the network means that is no number.
NORMS: Mapping[str, str] = {"frozen": "batch normalisation with fixed statistics", "batch": "batch normalisation [@batch-norm]",
                            "none": "no normalisation"}


def built_said(options: Mapping[str, Any]) -> list[str]:
    """The options of a detector's constructor in words."""
    backbone = str(options.get("backbone", "resnet50"))
    called, key = next(((name + backbone.removeprefix(start), key) for start, (name, key) in BACKBONES.items()
                        if backbone.startswith(start)), (backbone, ""))
    width = int(options.get("width", 64))
    found = [f"a {called}{key}" + ("" if width == 64 else f" of {width} feature maps in its first layer")]
    found.append("a feature pyramid [@fpn]" if options.get("neck", "fpn") == "fpn" else "the features of its fourth stage (C4)")
    found.append(NORMS.get(str(options.get("norm", "frozen")), ""))
    short = options.get("short_side", 800)
    if short is not None:
        sides = short if isinstance(short, list | tuple) else [short]
        span = dict.fromkeys((min(sides), max(sides)))
        found.append(f"windows brought to {' to '.join(map(str, span))} px at their shorter side")
    return [part for part in found if part]


def scaled_said(header: ModelHeader) -> list[str]:
    """How the size of things was varied; nothing where it was not."""
    a = header.recipe.augmentation
    return [f"scaled by up to {100 * a.scale:.4g} %"] if a.warp and a.scale else []


def loss_said(header: ModelHeader) -> str:
    """What was minimised."""
    parts = ["objectness and boxes of the proposals", "classes and boxes of the objects"]
    if header.recipe.network.name != "faster-rcnn" and header.recipe.network.options.get("masks") is not False:
        parts.append("the mask of the true class")
    if header.recipe.network.options.get("keypoints"):
        parts.append("the place of each key point")
    return (f"The loss was the sum of those of {', '.join(parts[:-1])} and {parts[-1]}, as in the paper [@mask-rcnn].")


def decision_said(header: ModelHeader, told: float | None = None) -> str:
    """From the network's answer to objects. told: the score that was asked for, where one was."""
    said = [_cut_said(header, told)]
    said.append(f"Images larger than a window are seen in several, which share at least a {_SHARES[OVERLAP_SHARE]} of their "
                "shorter side: an object that one of them cuts is taken from another that sees it whole, and parts of larger ones "
                "are joined.")
    said.append("Where objects lie over each other, the one with the higher score has the pixel.")
    least = header.thresholds.get(LEAST_SIZE)
    if least is not None and least > 1:
        said.append(f"Objects of fewer than {least:g} visible px are dropped.")
    return " ".join(said)


def _cut_said(header: ModelHeader, told: float | None) -> str:
    score = told if told is not None else header.thresholds.get(SCORE)
    if score is None:
        return "Objects are those that the network reports."
    tuned = told is None and header.scores.get("trial.thresholds tuned") is not None
    return f"Objects are those with a score above {score:.3g}{', a threshold tuned on the held-out images' if tuned else ''}."


_SHARES: Mapping[int, str] = {2: "half", 3: "third", 4: "quarter"}
