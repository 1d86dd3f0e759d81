"""What `predict` noted in run.json beside the masks that are evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from biomask.errors import BiomaskError
from biomask.labels import LABEL_KINDS, Legend


def recorded_legend(predictions: str | Path) -> Legend | None:
    """The legend from the run.json of predicted masks or of the folder above; None without one."""
    for content in _records(predictions):
        try:
            return Legend.from_json(content["legend"])
        except (ValueError, KeyError, TypeError, BiomaskError):
            continue
    return None


def recorded_kind(predictions: str | Path) -> str | None:
    """The kind of labels that the model was trained on, or that `convert --to labels` wrote; None where it is not recorded."""
    return next((c["kind"] for c in (*_records(predictions), *_beside(predictions)) if c.get("kind") in LABEL_KINDS), None)


def recorded_ignore(predictions: str | Path) -> int | None:
    """The value of pixels where nothing is known in the labels of the training; None where it is not recorded."""
    return next((c["ignore"] for c in _records(predictions) if type(c.get("ignore")) is int), None)


def recorded_channels(predictions: str | Path) -> tuple[tuple[int | None, str], ...]:
    """(value in masks, or None for a map of no class, name) of each channel of the probabilities; empty where not recorded."""
    for content in _records(predictions):
        channels = content.get("probability_channels")
        if isinstance(channels, list) and all(isinstance(c, dict) and isinstance(c.get("name"), str)
                                              and isinstance(c.get("value"), int | None) for c in channels):
            return tuple((c["value"], c["name"]) for c in channels)
    return ()


def recorded_selection(predictions: str | Path) -> str:
    """The flags by which every plane or time point was predicted on its own, as they are typed; empty where none was."""
    chosen: dict[str, Any] = next((c["selection"] for c in _records(predictions) if isinstance(c.get("selection"), dict)), {})
    return " ".join(f"--{key} each" for key in ("z", "time") if chosen.get(key) == "each")


def recorded_score(predictions: str | Path, images: Sequence[str]) -> float | None:
    """Up to which score objects of a detector were left out, the highest of these images by name; None where it is not recorded."""
    for content in _records(predictions):
        entries, limits = content.get("images"), content.get("limits")
        if isinstance(entries, dict) and isinstance(limits, dict):
            # What an image was told, else what the model's own was: known only if the last run was not told another one.
            own = limits.get("score") if content.get("score") is None else None
            told = [entry.get("score") for name in images if isinstance(entry := entries.get(name), dict)]
            scores = [float(s) for score in told if isinstance(s := own if score is None else score, float | int)]
            return max(scores) if scores and len(scores) == len(images) else None
    return None


def are_ids(labels: str | Path) -> bool:
    """Whether a folder holds ids of objects, as what wrote it says: labels/ of `predict`, or `convert --to labels`."""
    folder = Path(labels)
    if any(c.get("kind") == "instances" for c in _beside(folder)):
        return True
    return folder.name == "labels" and any(c.get("command") == "predict" for c in _records(folder.parent))


def _beside(labels: str | Path) -> Iterator[dict[str, Any]]:
    """What `convert` says of the numbers in a folder of labels."""
    try:
        content = json.loads((Path(labels) / "legend.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(content, dict):
        yield content


def _records(predictions: str | Path) -> Iterator[dict[str, Any]]:
    """The run.json of predicted masks, and that of the folder above, where they can be read."""
    for folder in (Path(predictions), Path(predictions).parent):
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield content
