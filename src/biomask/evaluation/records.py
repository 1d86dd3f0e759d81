"""What `predict` noted in run.json beside the masks that are evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    """The kind of labels that the model was trained on; None where it is not recorded."""
    return next((c["kind"] for c in _records(predictions) if c.get("kind") in LABEL_KINDS), None)


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


def _records(predictions: str | Path) -> Iterator[dict[str, Any]]:
    """The run.json of predicted masks, and that of the folder above, where they can be read."""
    for folder in (Path(predictions), Path(predictions).parent):
        try:
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield content
