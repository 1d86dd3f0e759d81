"""`convert`: labels for another program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biomask.api.settings import data_settings
from biomask.exports.convert import Converted
from biomask.exports.convert import convert as _convert
from biomask.progress import Progress
from biomask.recipe import DataSettings


def convert(labels: str | Path, out: str | Path, to: str, settings: DataSettings | Mapping[str, Any] | None = None, *,
            masks: str | Path | None = None, images: str | Path | None = None, overwrite: bool = False,
            progress: Progress | None = None) -> Converted:
    """Labels of any form for another program; see `biomask.exports.convert.convert`.

    settings: fields of `biomask.recipe.DataSettings`.
    """
    return _convert(labels, out, to, data_settings(settings), masks=masks, images=images, overwrite=overwrite, progress=progress)
