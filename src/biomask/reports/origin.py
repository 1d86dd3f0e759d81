"""What a data folder says of its own origin and licence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from biomask.reports.sentences import listed

#: Stems of files that say so, in the order in which they are named, and their endings.
STEMS = ("license", "licence", "copying", "dataset_description", "readme", "citation")
ENDINGS = ("", ".txt", ".md", ".rst", ".json", ".cff", ".bib", ".html", ".pdf")

#: The file of the Brain Imaging Data Structure (BIDS), which names the licence.
BIDS = "dataset_description.json"

#: Letters of a licence's name that are kept, and bytes of a file that holds one.
LONGEST, LARGEST = 100, 1_000_000


def origin_said(folder: Path) -> str:
    """A sentence that names the files in a data folder that state its licence and origin; empty where there is none."""
    files = _files(folder)
    if not files:
        return ""
    named = listed([f"{folder.resolve().name}/{f.name}" for f in files])
    licence = next((found for f in files if f.name.lower() == BIDS and (found := _licence(f))), "")
    declared = f" ({licence}, by {BIDS})" if licence else ""
    return f"Licence and origin of the training images{declared}: as stated in {named}."


def _files(folder: Path) -> Sequence[Path]:
    try:
        found = [p for p in folder.iterdir() if p.stem.lower() in STEMS and p.suffix.lower() in ENDINGS and p.is_file()]
    except OSError:  # gone since, or a file
        return ()
    return sorted(found, key=lambda p: (STEMS.index(p.stem.lower()), p.name))


def _licence(file: Path) -> str:
    """As BIDS has it, in a line; empty where it is not there or cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= LARGEST else None
    except (OSError, ValueError, RecursionError):
        return ""
    licence = content.get("License") if isinstance(content, dict) else None
    return " ".join(licence.split())[:LONGEST] if isinstance(licence, str) else ""
