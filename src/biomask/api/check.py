"""`check`: what is in a data folder and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biomask.api.settings import data_settings
from biomask.checking import Checked
from biomask.checking import check as _check
from biomask.errors import UsageError
from biomask.io.files import require_writable
from biomask.progress import Progress
from biomask.recipe import DataSettings


def check(data: str | Path, settings: DataSettings | Mapping[str, Any] | None = None, *, masks: str | Path | None = None,
          report: str | Path | None = None, progress: Progress | None = None) -> Checked:
    """What is in a data folder and what is wrong with it; see `biomask.checking.check.check`.

    settings: fields of `biomask.recipe.DataSettings`. report: also write the contact sheet, an HTML page, to this file.
    """
    wanted = data_settings(settings)
    if report is not None:
        _check_report(Path(report), Path(data))
    checked = _check(data, wanted, masks=masks, progress=progress)
    if report is not None:
        from biomask.reports.write import write_check_report

        write_check_report(Path(report), checked)
    return checked


def _check_report(report: Path, data: Path) -> None:
    """Refuse a report among the data, before any work is done."""
    if data.is_dir() and data.resolve() in report.resolve().parents:
        raise UsageError(f"--report {report} lies in the data folder",
                         fix="--report FILE elsewhere: nothing is written beside inputs")
    require_writable(report.parent)
