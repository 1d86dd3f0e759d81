"""Tiles of a contact sheet: the small picture of each image with its caption and what is the matter with it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from biomask.reports.blocks import Sheet, Tag, Tile
from biomask.reports.contents import caption
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checking import Checked
    from biomask.data.facts import Inspected
    from biomask.errors import BiomaskError

#: Bytes of all pictures of a page; where they are more, each is made smaller. Text makes a page a third larger, and more.
MOST_BYTES = 20_000_000

#: Pixels of the longest side and JPEG quality of pictures that are made smaller: the first that are small enough.
SMALLER = ((112, 75), (112, 60), (96, 60), (96, 45), (80, 45))

#: Pictures by which that is chosen.
TRIED = 64

#: Pictures of a page; of more, those that nothing was found about are a selection.
MOST_TILES = 6000

#: More images than this are shown smaller.
ROOMY = 60

#: Characters of a name, of a group and of a text under the pointer.
LONGEST_NAME, LONGEST_GROUP, LONGEST_NOTE = 44, 18, 400

Tags = Mapping[str, Sequence[Tag]]


def make_tiles(checked: Checked, tags: Tags) -> dict[str, Tile]:
    """{name of the pair: tile}: those that could not be read, then the others, suspicious first.

    tags: what is the matter with each, by the name of its pair.
    """
    pairs = {p.name: p for p in checked.understood.layout.pairs}
    good = _shown(checked, tags)
    groups = dict(zip((i.pair.name for i in checked.good), checked.groups, strict=False))
    sizes = Counter(checked.groups)
    several = len({i.image.size for i in good}) > 1
    tiles: dict[str, Tile] = {}
    for name, errors in checked.understood.survey.bad.items():
        tiles[name] = _bad(name, errors, pairs[name].part if name in pairs else None, tags.get(name, ()), f"image-{len(tiles) + 1}")
    for item, (picture, size) in zip(good, _within(good), strict=True):
        name, group = item.pair.name, groups.get(item.pair.name)
        facts = [item.pair.part or "", " × ".join(map(str, item.image.size)) if several else ""]
        shared = f"group {middle(group, LONGEST_GROUP)}" if group and sizes[group] > 1 else ""
        tiles[name] = Tile(
            middle(name), picture, size, _alt(item),
            lines=tuple(filter(None, [" · ".join(filter(None, facts)), shared])),
            key=tuple(caption(item, checked.understood.encoding)), tags=tuple(tags.get(name, ())), note=_note(item, group),
            anchor=f"image-{len(tiles) + 1}")
    return tiles


def sheets(checked: Checked, tiles: Mapping[str, Tile]) -> list[Sheet]:
    """The contact sheet in parts: unreadable images, those with errors, with warnings, and the others."""
    bad = checked.understood.survey.bad
    # A problem that names no image may be about any of them.
    others = "The others" if any(p.level != "note" and not p.names for p in checked.problems) else "Nothing wrong was found"
    parts: dict[str, list[Tile]] = {"Could not be used": [], "With errors": [], "With warnings": [], others: []}
    for name, tile in tiles.items():
        levels = {t.level for t in tile.tags}
        if name in bad:
            parts["Could not be used"].append(tile)
        else:
            parts["With errors" if "error" in levels else "With warnings" if levels else others].append(tile)
    dense = len(tiles) > ROOMY
    found = [Sheet(tuple(several), f"{title} · {len(several):,}", dense=dense) for title, several in parts.items() if several]
    if not found:
        return []
    left = len(checked.good) + len(bad) - len(tiles)
    if left:
        last = found[-1]
        found[-1] = Sheet(last.tiles, f"{last.title} of {len(last.tiles) + left:,}",
                          f"The other {left:,} are not shown, to keep the page small.", dense)
    return found if len(found) > 1 or bad or found[0].tiles[0].tags else [Sheet(found[0].tiles, "", found[0].note, dense)]


def middle(name: str, longest: int = LONGEST_NAME) -> str:
    """A name without its middle, if it is long: its end tells more.

    >>> middle("a" * 30 + "b" * 30, 20)
    'aaaaaaaa…bbbbbbbbbbb'
    """
    head = (longest - 1) * 4 // 9
    return name if len(name) <= longest else f"{name[:head]}…{name[len(name) - (longest - 1 - head):]}"


def _shown(checked: Checked, tags: Tags) -> list[Inspected]:
    """All readable pairs, or all with tags and an even selection of the others."""
    ordered = checked.suspicious_first()
    if len(ordered) <= MOST_TILES:
        return ordered
    tagged = [i for i in ordered if tags.get(i.pair.name)][:MOST_TILES]
    others = [i for i in ordered if not tags.get(i.pair.name)]
    room = MOST_TILES - len(tagged)
    return [*tagged, *(others[k * len(others) // room] for k in range(room))]


def _bad(name: str, errors: Sequence[BiomaskError], part: str | None, tags: Sequence[Tag], anchor: str) -> Tile:
    whats = [f"{PurePath(e.where).name}: {e.what}" if e.where is not None else e.what for e in errors]
    all_of_it = clipped("\n".join([name, *whats, *(f"→ {e.fix}" for e in errors if e.fix)]))
    return Tile(middle(name), None, lines=(part,) if part else (), tags=tuple(tags),
                reason=clipped("; ".join(e.what for e in errors), 160), note=all_of_it, anchor=anchor)


def _alt(item: Inspected) -> str:
    outlines = "with the outlines of its labels" if item.labels else "without labels"
    return f"{middle(item.pair.name)}, {'middle slice ' if len(item.image.size) == 3 else ''}{outlines}"


def _note(item: Inspected, group: str | None) -> str:
    image = item.image
    lines = [item.pair.name, f"{' × '.join(map(str, image.size))}, {count(image.channels, 'channel')}, {image.dtype}, "
             f"values {image.low:g} to {image.high:g}"]
    return clipped("\n".join([*lines, *([f"group {group}"] if group and group != item.pair.name else [])]))


def clipped(text: str, longest: int = LONGEST_NOTE) -> str:
    """The beginning of a long text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _within(items: Sequence[Inspected]) -> list[tuple[bytes, tuple[int, int]]]:
    """(picture, (height, width)) of each: as they are, or all made smaller if together they are too large."""
    pictures = [(i.extra.picture, i.extra.size) for i in items]
    if sum(len(p) for p, _ in pictures) <= MOST_BYTES:
        return pictures
    few = pictures[:: max(1, len(pictures) // TRIED)]
    room = MOST_BYTES * len(few) / len(pictures)
    way = next((w for w in SMALLER if sum(len(_smaller(*p, *w)[0]) for p in few) <= room), SMALLER[-1])
    return [_smaller(*p, *way) for p in pictures]


def _smaller(picture: bytes, size: tuple[int, int], longest: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """The picture again, or itself where that would save nothing."""
    from PIL import Image as Pillow

    share = min(1.0, longest / max(size))
    height, width = (max(1, round(n * share)) for n in size)
    buffer = io.BytesIO()
    image = Pillow.open(io.BytesIO(picture)).resize((width, height), Pillow.Resampling.BOX)
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return (buffer.getvalue(), (height, width)) if buffer.tell() < len(picture) else (picture, size)
