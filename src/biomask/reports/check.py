"""The report of a check: what is in a folder, what is wrong with it, and a contact sheet of all its images."""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from biomask.data.mistakes import some
from biomask.reports.blocks import (
    Block,
    Code,
    ColourKey,
    Finding,
    Findings,
    Fold,
    Headline,
    Jump,
    KeyValues,
    Paragraph,
    Section,
    Table,
    Tag,
    Tile,
    Verdict,
)
from biomask.reports.contents import agreed, content_blocks, drawn
from biomask.reports.html import render
from biomask.reports.parts import folded
from biomask.reports.tiles import clipped, make_tiles, sheets
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checking import Checked, Problem

#: Pictures beside a finding: one row.
MOST_PICTURES = 7

#: Longer lists are left to --json.
MOST_LISTED = 1000

#: Images of a group that are named.
MOST_MEMBERS = 6


def check_report(checked: Checked) -> str:
    """HTML page on a data folder: the verdict, every problem with its fix, and all images with their labels."""
    found = checked.understood
    grouped = _grouped(checked.problems)
    tiles = make_tiles(checked, _tags(grouped))
    sections = [
        *_problems(grouped, tiles, found.layout.root),
        *_labels(checked),
        Section("Contact sheet", _contact_sheet(checked, tiles), "sheet"),
        *_groups(checked),
        Section("Files and settings", _files(checked), "files"),
    ]
    ways = tuple((s.title, s.anchor) for s in sections)
    lines = KeyValues((*checked.verdict, *(("note", note) for note in found.notes)))
    first = Section("", (_verdict(checked), _headline(checked), lines, Jump(ways)))
    return render("Data check", str(found.layout.root), [first, *sections])


def _counts(checked: Checked) -> Counter[str]:
    return Counter(p.level for p in checked.problems)


def _verdict(checked: Checked) -> Verdict:
    found, counts = checked.understood, _counts(checked)
    folder = shlex.quote(str(found.layout.root))
    flags = "".join(f" {flag} {shlex.quote(value)}" for flag, value in checked.flags())
    said = " and ".join(count(counts[level], level) for level in ("error", "warning") if counts[level])
    if not checked.usable:
        return Verdict("error", f"Not usable yet: {said}", "Mend what is listed below, then:", f"biomask check {folder}{flags}")
    then = "Look at what is listed below, then:" if said else "Next:"
    level: Literal["warning", "good"] = "warning" if said else "good"
    if not found.layout.labelled:
        text = "Usable for prediction, not for training: no image has labels"
        return Verdict(level, f"{text}; {said}" if said else text, then, f"biomask predict MODEL {folder} -o OUT")
    text = f"Usable, with {said}" if said else "Usable: nothing wrong was found"
    why, words = checked.next_step()
    return Verdict(level, text, f"{why[:1].upper()}{why[1:]}:" if why else then, words or f"biomask check {folder}{flags}")


def _headline(checked: Checked) -> Headline:
    layout, counts = checked.understood.layout, _counts(checked)
    bad = len(checked.understood.survey.bad)
    return Headline((("images", len(layout.pairs), f"{bad:,} could not be used" if bad else "all can be read"),
                     ("with labels", len(layout.labelled), f"{len(layout.unlabelled):,} without" if layout.unlabelled else ""),
                     ("errors", counts["error"], "to be mended before training" if counts["error"] else ""),
                     ("warnings", counts["warning"], "probably mistakes: have a look" if counts["warning"] else "")))


Grouped = dict[tuple[str, str, str], list["Problem"]]


def _grouped(problems: Sequence[Problem]) -> Grouped:
    """Problems that have level, kind and fix in common, the gravest first."""
    found: Grouped = {}
    for problem in problems:
        found.setdefault((problem.level, problem.kind, problem.fix), []).append(problem)
    return found


def _tags(grouped: Grouped) -> Mapping[str, Sequence[Tag]]:
    """The errors and warnings of each image, by name; each kind once."""
    tags: dict[str, dict[str, Tag]] = defaultdict(dict)
    for n, problems in enumerate(grouped.values(), start=1):
        for problem in problems:
            if problem.level == "note":
                continue
            tag = Tag(problem.level, problem.kind, clipped(" → ".join(filter(None, [problem.what, problem.fix]))), f"problem-{n}")
            for name in problem.names:
                tags[name].setdefault(problem.kind, tag)
    return {name: tuple(several.values()) for name, several in tags.items()}


def _problems(grouped: Grouped, tiles: Mapping[str, Tile], root: Path) -> list[Section]:
    """What is wrong or good to know, with some of the pictures concerned."""
    found = []
    for n, ((_, kind, fix), problems) in enumerate(grouped.items(), start=1):
        names = dict.fromkeys(name for p in problems for name in p.names)
        shown = [tiles[name] for name in names if name in tiles and tiles[name].picture is not None]
        texts = tuple(_below(p.what, root) for p in problems)
        found.append(Finding(problems[0].level, kind[:1].upper() + kind[1:], texts, fix, tuple(shown[:MOST_PICTURES]),
                             max(0, len(shown) - MOST_PICTURES), f"problem-{n}"))
    title = "Notes" if all(f.level == "note" for f in found) else "Problems"
    return [Section(title, (Findings(tuple(found)),), "problems")] if found else []


def _below(text: str, root: Path) -> str:
    """A message with paths as seen from the folder."""
    return text.removeprefix(f"{root}{os.sep}").removeprefix(f"{root}: ")


def _labels(checked: Checked) -> list[Section]:
    """What the labels hold, if that can be said."""
    encoding = checked.understood.encoding
    blocks = content_blocks([i for i in checked.good if i.labels], encoding)
    return [Section("Objects" if encoding and encoding.kind == "instances" else "Classes", blocks, "labels")] if blocks else []


def _contact_sheet(checked: Checked, tiles: Mapping[str, Tile]) -> tuple[Block, ...]:
    if not tiles:
        return (Paragraph("There is no image to show."),)
    encoding, labelled = checked.understood.encoding, [i for i in checked.good if i.labels]
    notes, blocks = [], list[Block]()
    if any(p.level != "note" and p.names for p in checked.problems) or checked.understood.survey.bad:
        notes.append("Images with errors or warnings come first.")
    if any(len(i.image.size) == 3 for i in checked.good):
        notes.append("Of a volume the middle slice is shown.")
    if any(i.image.channels not in (1, 3) for i in checked.good):
        notes.append("Of several channels the first is shown.")
    if encoding is not None and labelled:
        colours = agreed(labelled, encoding) if len(encoding.legend) > 2 else {}
        legend = list(encoding.legend)
        if colours:
            blocks.append(ColourKey(tuple((legend[p].name, c) for p, c in sorted(colours.items())), "Outlines:"))
        elif encoding.kind == "instances" or encoding.form == "objects":
            notes.append("Each object has an outline; colours only tell neighbours apart.")
        elif any(drawn(i, encoding) for i in labelled) and len(encoding.legend) > 2:
            notes.append("Outlines have the colours that stand below each picture.")
        elif len(encoding.legend) > 2:
            notes.append("Each value of a mask has an outline; colours only tell them apart.")
    return (*blocks, *([Paragraph(" ".join(notes))] if notes else []), *sheets(checked, tiles))


def _groups(checked: Checked) -> list[Section]:
    """Groups of several images, the largest first."""
    members: dict[str, list[str]] = defaultdict(list)
    parts: dict[str, set[str]] = defaultdict(set)
    for item, group in zip(checked.good, checked.groups, strict=False):
        members[group].append(item.pair.name)
        parts[group].add(item.pair.part or "")
    several = sorted(((g, n) for g, n in members.items() if len(n) > 1), key=lambda g: (-len(g[1]), g[0]))
    if not checked.groups_reason or not several:
        return []
    images = count(len(checked.groups), "image")
    said = (f"{count(len(members), 'group')} of {images}: {checked.groups_reason}. Images of a group are never split between "
            "training and validation.")
    rows = tuple((group, len(names), ", ".join(sorted(filter(None, parts[group]))) or None, some(names, MOST_MEMBERS))
                 for group, names in several[:MOST_LISTED])
    table = folded(Table(("group", "images", "part", "such as"), rows), "groups of several images")
    return [Section("Groups", (Paragraph(said), table), "groups")]


def _files(checked: Checked) -> tuple[Block, ...]:
    import yaml

    found = checked.understood
    facts = KeyValues((("folder", str(found.layout.root)), ("arrangement", found.layout.how),
                       ("kind of labels", f"{found.encoding.kind}: {found.encoding.reason}" if found.encoding else None)))
    settings = yaml.safe_dump({"data": found.settings.model_dump(mode="json")}, sort_keys=False, allow_unicode=True, width=110)
    code = Code(settings, "Settings as understood, in YAML, as a recipe has them")
    if len(checked.good) > MOST_LISTED:
        return (facts, Paragraph("'biomask check' with --json lists every file with its facts."), code)
    listed = [Fold(f"{count(len(checked.good), 'image')} with files and facts", (_table(checked),))] if checked.good else []
    return (facts, *listed, code)


def _table(checked: Checked) -> Table:
    root = checked.understood.layout.root
    columns = ("image", "labels", "size, px", "channels", "type", "values", "spacing, µm")
    rows = [(_below(str(i.pair.image), root), _below(str(i.pair.truth.where), root) if i.pair.truth else None,
             " × ".join(map(str, i.image.size)), i.image.channels, i.image.dtype, f"{i.image.low:g} to {i.image.high:g}",
             " × ".join(f"{v:g}" for v in i.image.spacing.values()) if i.image.spacing else None) for i in checked.good]
    known = len(columns) if any(row[-1] for row in rows) else len(columns) - 1
    return Table(columns[:known], tuple(row[:known] for row in rows))
