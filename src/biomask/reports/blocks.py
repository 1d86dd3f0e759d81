"""Blocks of a report: plain text and numbers, which the template escapes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Cell = str | int | float | None
Level = Literal["error", "warning", "note"]

#: What stands for a value that is undefined or unknown.
UNDEFINED = "–"

#: Text that is read as a number: 0.912, 262,144, 512 × 512, 34.5 %, < 0.1 %.
_NUMBER = re.compile(r"[<≈]?\s?[-−+]?\d[\d.,]*([\s ]?×[\s ]?\d+)*([\s ]?%)?")


@dataclass(frozen=True)
class Headline:
    """The few numbers that matter, large: (label, value, note) each."""

    kind: ClassVar[str] = "headline"
    numbers: tuple[tuple[str, Cell, str], ...]


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Subtitle:
    """A heading within a section."""

    kind: ClassVar[str] = "subtitle"
    text: str


@dataclass(frozen=True)
class Points:
    """Sentences, one a line."""

    kind: ClassVar[str] = "points"
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Numbered:
    """Texts, one a line, with numbers from 1: references."""

    kind: ClassVar[str] = "numbered"
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Quote:
    """A paragraph to be copied elsewhere, set apart."""

    kind: ClassVar[str] = "quote"
    text: str


@dataclass(frozen=True)
class Files:
    """Ways to files beside the page, which needs none of them: (path from the page, what it is) each."""

    kind: ClassVar[str] = "files"
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column names the row. None is shown as "–", columns of numbers are right-aligned."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footnotes: tuple[str, ...] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        strange = [row for row in self.rows if len(row) != len(self.columns)]
        if strange:
            raise ValueError(f"row {strange[0]} does not have the {len(self.columns)} columns {self.columns}")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether it holds numbers."""
        return tuple(i > 0 and _is_numeric([row[i] for row in self.rows]) for i in range(len(self.columns)))


@dataclass(frozen=True)
class Figure:
    """A picture or a chart with its caption."""

    kind: ClassVar[str] = "figure"
    data: bytes
    mime: Literal["image/png", "image/svg+xml"]
    alt: str
    """What it shows, for those who can't see it."""
    caption: str
    dark: bytes | None = None
    """The same for a dark page; None = `data` serves both."""

    def __post_init__(self) -> None:
        if self.mime not in ("image/png", "image/svg+xml"):
            raise ValueError(f"mime {self.mime!r} is neither image/png nor image/svg+xml")

    @property
    def is_chart(self) -> bool:
        """Drawn rather than photographed: never scaled below what can be read."""
        return self.mime == "image/svg+xml"


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, two to a row on a phone."""

    kind: ClassVar[str] = "gallery"
    figures: tuple[Figure, ...]
    columns: int
    title: str = ""


@dataclass(frozen=True)
class Wall:
    """Galleries of few figures each, as many side by side as fit."""

    kind: ClassVar[str] = "wall"
    galleries: tuple[Gallery, ...]


@dataclass(frozen=True)
class KeyValues:
    """Facts: (name, value) each."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class ColourKey:
    """What colours mean: (name, RGB 0..255) each."""

    kind: ClassVar[str] = "key"
    entries: tuple[tuple[str, tuple[int, int, int]], ...]
    title: str = ""


@dataclass(frozen=True)
class Code:
    """Text to be copied, folded behind its summary."""

    kind: ClassVar[str] = "code"
    text: str
    summary: str


@dataclass(frozen=True)
class Fold:
    """Blocks folded behind a summary; paper shows them all."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Block, ...]
    opened: bool = False
    """Whether it is open at first."""


@dataclass(frozen=True)
class Verdict:
    """The answer in a line, and what to type next."""

    kind: ClassVar[str] = "verdict"
    level: Level | Literal["good"]
    text: str
    advice: str = ""
    command: str = ""


@dataclass(frozen=True)
class Tag:
    """What is the matter with a picture, in a word or two."""

    level: Level
    text: str
    note: str = ""
    """All of it, shown where the pointer rests."""
    anchor: str = ""
    """The finding it leads to."""


@dataclass(frozen=True)
class Tile:
    """A small picture with its caption."""

    name: str
    picture: bytes | None
    """JPEG; None where there is none."""
    size: tuple[int, int] = (0, 0)
    """(height, width) of the picture in pixels."""
    alt: str = ""
    lines: tuple[str, ...] = ()
    key: tuple[tuple[str, tuple[int, int, int] | None], ...] = ()
    """(what it shows, its RGB in the picture, if it has one of its own) each."""
    tags: tuple[Tag, ...] = ()
    reason: str = ""
    """Why there is no picture."""
    note: str = ""
    """Shown where the pointer rests."""
    anchor: str = ""
    """Where it can be found on the page; a tile without is found nowhere."""

    @property
    def few_pixels(self) -> bool:
        """Whether it is so small that its pixels are better seen as squares."""
        return max(self.size) < 80


@dataclass(frozen=True)
class Sheet:
    """Many small pictures in rows that fill the window."""

    kind: ClassVar[str] = "sheet"
    tiles: tuple[Tile, ...]
    title: str = ""
    note: str = ""
    dense: bool = False
    """Whether pictures and captions are smaller, to see more at once."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and how to mend it."""

    level: Level
    title: str
    texts: tuple[str, ...]
    fix: str = ""
    tiles: tuple[Tile, ...] = ()
    """Some of the pictures concerned, each leading to its place in the sheet."""
    more: int = 0
    """Pictures concerned beyond these."""
    anchor: str = ""


@dataclass(frozen=True)
class Findings:
    """All of it, the gravest first."""

    kind: ClassVar[str] = "findings"
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Jump:
    """Ways to the sections of a long page: (text, anchor of the section) each."""

    kind: ClassVar[str] = "jump"
    ways: tuple[tuple[str, str], ...]


Block = (Headline | Subtitle | Paragraph | Points | Numbered | Quote | Files | Table | Figure | Gallery | Wall | KeyValues
         | ColourKey | Code | Fold | Verdict | Sheet | Findings | Jump)


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""


def show(value: Cell) -> str:
    """A cell as text.

    >>> show(None), show(0.91234), show(262144), show(float("nan")), show(0.00012)
    ('–', '0.912', '262,144', '–', '0.0001')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1g}"
    return value


def _is_numeric(cells: Sequence[Cell]) -> bool:
    shown = [show(c) for c in cells if not isinstance(c, bool)]
    return len(shown) == len(cells) and all(s == UNDEFINED or _NUMBER.fullmatch(s) for s in shown)
