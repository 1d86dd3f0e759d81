"""Each problem that `check` looks for: a small function from the facts of all images to what is wrong, with the fix to type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from biomask.checking.held import held
from biomask.checking.probe import MANY_IMAGES
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.matches import Match
from biomask.data.misfits import misfits
from biomask.data.mistakes import some
from biomask.words import count

Level = Literal["error", "warning", "note"]

#: Fewer images than this have no usual look from which one could differ.
FEWEST = 4

#: Share of the images up to which those that differ are exceptions.
EXCEPTIONS = 0.2

#: Share of saturated pixels from which on it is worth saying.
SATURATED = 0.01

#: Relative difference of a spacing from the usual one.
SPACING = 0.1

#: Objects of at most this many pixels beside usual ones many times as large were not drawn by anybody.
SPECK, TIMES_LARGER = 4, 30

#: Share of foreground below which training has little to learn from.
LITTLE = 0.002

#: Class ids are small; 255 among them is a border or unknown.
MOST_SMALL = 64

#: Images below which a score on those held out says little.
FEW = 8


@dataclass(frozen=True)
class Problem:
    """Something that the user should know before training."""

    level: Level
    """error: cannot be trained on; warning: probably a mistake; note: good to know."""
    kind: str
    """What it is, in two or three words; the same for all of its sort."""
    names: tuple[str, ...]
    """The images concerned, by the names of their pairs."""
    what: str
    fix: str = ""


def all_problems(good: Sequence[Inspected], encoding: Encoding | None, matches: Sequence[Match],
                 broken: Container[str] = ()) -> list[Problem]:
    """Warnings and notes about readable pairs. broken: names of those whose labels are an error anyway."""
    labelled = [i for i in good if i.labels and i.pair.name not in broken]
    return [*constant_images(good), *saturated_images(good), *odd_spacing(good), *odd_dtypes(good), *duplicates(good, matches),
            *same_labels(labelled), *misplaced_masks(good), *label_notes(labelled), *specks(labelled, encoding),
            *odd_values(labelled, encoding), *unknown_values(labelled, encoding), *missing_classes(labelled, encoding),
            *little_foreground(labelled, encoding),
            *neighbours(good, matches), *few_images(labelled)]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _are(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def constant_images(good: Sequence[Inspected]) -> list[Problem]:
    """Images of one grey value."""
    found = [i for i in good if i.image.low == i.image.high]
    shown = some([f"{i.pair.name} (all {i.image.low:g})" for i in found])
    return [Problem("warning", "constant image", _names(found), f"{_are(len(found), 'image')} of one value only: {shown}",
                    "export them again, or remove them with their labels")] if found else []


def saturated_images(good: Sequence[Inspected]) -> list[Problem]:
    """Images with many pixels at the highest value of their dtype: what was there is lost."""
    limits = {"uint8": 255.0, "uint16": 65535.0}
    found = [i for i in good if i.image.at_top > SATURATED and i.image.high in (limits.get(i.image.dtype), 4095.0, 16383.0)
             and (i.image.channels != 3 or i.image.grey)]  # photographs and stains are often white
    if not found or len(found) > 0.5 * len(good):
        return [Problem("note", "saturated", (), f"{len(found)} of {len(good)} images have more than {SATURATED:.0%} of their "
                        "pixels at the highest value")] if found else []
    shown = some([f"{i.pair.name} ({i.image.at_top:.0%})" for i in found])
    return [Problem("warning", "saturated", _names(found),
                    f"{_are(len(found), 'image')} saturated, with share of the pixels: {shown}",
                    "a shorter exposure, where they can be taken again; sizes of saturated objects are too large")]


def odd_spacing(good: Sequence[Inspected]) -> list[Problem]:
    """Images whose pixels have another size than those of the others, or an unknown one."""
    known = [i for i in good if i.image.spacing]
    if not known:
        return []
    problems = []
    usual = {a: median((i.image.spacing or {}).get(a, 0.0) for i in known) for a in known[0].image.spacing or {}}
    odd = [i for i in known if any(abs((i.image.spacing or {}).get(a, 0) / v - 1) > SPACING for a, v in usual.items() if v)]
    if odd:
        shown = some([f"{i.pair.name} ({_spacing(i)})" for i in odd], 5)
        problems.append(Problem("warning", "outlier spacing", _names(odd),
                                f"pixels are usually {_shown(usual)} µm; differing: {shown}",
                                "check the metadata; if true, resample these images and their labels to the usual size"))
    if len(known) < len(good):
        unknown = [i for i in good if not i.image.spacing]
        shown = some(_names(unknown), 5)
        problems.append(Problem("note", "unknown spacing", _names(unknown),
                                f"{len(unknown)} of {len(good)} images do not state the size of a pixel: {shown}"))
    return problems


def _spacing(item: Inspected) -> str:
    return _shown(item.image.spacing or {})


def _shown(spacing: dict[str, float]) -> str:
    return " × ".join(f"{v:.4g}" for v in spacing.values())


def odd_dtypes(good: Sequence[Inspected]) -> list[Problem]:
    """Images of several bit depths."""
    kinds = Counter(i.image.dtype for i in good)
    if len(kinds) < 2:
        return []
    usual = kinds.most_common(1)[0][0]
    odd = [i for i in good if i.image.dtype != usual]
    counts = ", ".join(f"{count(n, 'image')} of {k}" for k, n in kinds.most_common())
    return [Problem("note", "mixed bit depths", _names(odd), f"{counts}; normalised one by one, so they can be mixed. Not {usual}: "
                    + some(_names(odd), 5))]


def duplicates(good: Sequence[Inspected], matches: Sequence[Match]) -> list[Problem]:
    """Images that show the same, most gravely on both sides of a split."""
    problems = []
    said_of = {"duplicate": "the same pixels", "near duplicate": "the same picture", "overlap": "overlapping places"}
    for kind, said in said_of.items():
        found = [m for m in matches if m.kind == kind]
        across = [m for m in found if good[m.a].pair.part != good[m.b].pair.part]
        if across:
            problems.append(Problem("warning", f"{kind} across parts", _of(good, across),
                                    f"{_counted(len(across), 'pair')} of images in different parts: {said}: {_pairs(good, across)}",
                                    "remove one of each: scores on images that were trained on mean nothing"))
        inside = [m for m in found if m not in across]
        if inside:
            fix = "remove one of each" if kind != "overlap" else ""
            problems.append(Problem("warning" if kind == "duplicate" else "note", kind, _of(good, inside),
                                    f"{_counted(len(inside), 'pair')} of images: {said}: {_pairs(good, inside)}; never split",
                                    fix))
    return problems


def neighbours(good: Sequence[Inspected], matches: Sequence[Match]) -> list[Problem]:
    """Crops that abut: parts of one field of view."""
    found = [m for m in matches if m.kind == "neighbour"]
    across = [m for m in found if good[m.a].pair.part != good[m.b].pair.part]
    problems = []
    if across:
        problems.append(Problem("warning", "neighbour across parts", _of(good, across),
                                f"{_counted(len(across), 'pair')} of neighbouring crops in different parts: {_pairs(good, across)}",
                                "move them into one part: they show the same field of view"))
    inside = [m for m in found if m not in across]
    if inside:
        names = _of(good, inside)
        problems.append(Problem("note", "neighbouring crops", names, f"{len(names)} images are crops of common fields of view: "
                                f"{_pairs(good, inside, 5)}; they are never split (--groups none: they are)"))
    return problems


def _of(good: Sequence[Inspected], matches: Sequence[Match]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(good[i].pair.name for m in matches for i in (m.a, m.b)))


def _pairs(good: Sequence[Inspected], matches: Sequence[Match], most: int = 8) -> str:
    details = [f" ({m.detail})" if m.detail and m.kind != "duplicate" else "" for m in matches]
    return some([f"{good[m.a].pair.name} and {good[m.b].pair.name}{d}" for m, d in zip(matches, details, strict=True)], most)


def same_labels(labelled: Sequence[Inspected]) -> list[Problem]:
    """One label file under the names of several images whose pixels differ."""
    files: dict[str, list[Inspected]] = defaultdict(list)
    for item in labelled:
        if not all(f.empty for f in item.labels):
            files[item.hashes.get(f"{item.pair.name}:labels", item.pair.name)].append(item)
    found = [items for items in files.values() if len(items) > 1 and len({i.hashes[f"{i.pair.name}:image"] for i in items}) > 1
             and all(i.pair.truth is not None and i.pair.truth.form != "coco" and i.pair.plane.suffix == "" for i in items)]
    return [Problem("warning", "same labels", tuple(i.pair.name for items in found for i in items),
                    f"the same labels belong to different images: {some([' and '.join(_names(items)) for items in found], 5)}",
                    "one of them has the labels of another")] if found else []


def misplaced_masks(good: Sequence[Inspected]) -> list[Problem]:
    """Masks that do not lie on what the image shows."""
    problems = []
    said = {"shifted": ("shifted mask", "move it back, or export it again"),
            "swapped": ("swapped pair", "exchange the two masks"),
            "turned": ("turned mask", "turn it back, or export it again"),
            "inverted": ("inverted mask", "exchange foreground and background in it"),
            "incomplete": ("incomplete mask", "annotate the rest, or mark it as unknown and say --ignore VALUE")}
    done = set[frozenset[int]]()
    for found in misfits([i.extra.fit for i in good]):
        if found.kind == "incomplete" and len(good) > MANY_IMAGES:
            continue  # not told apart on the smaller images that so many are compared by
        pair = frozenset({found.index, found.other if found.other is not None else found.index})
        if found.kind == "swapped" and pair in done:
            continue
        done.add(pair)
        names = tuple(good[i].pair.name for i in sorted(pair))
        kind, fix = said[found.kind]
        who = f"mask of {names[0]}" if len(names) == 1 else f"masks of {' and '.join(names)}"
        problems.append(Problem("warning", kind, names, f"{who}: {found.detail}", fix))
    return problems


def label_notes(labelled: Sequence[Inspected]) -> list[Problem]:
    """What was left out of annotation files, and overlapping objects."""
    found = [(i, note) for i in labelled for f in i.labels for note in f.notes]
    texts: dict[str, list[tuple[Inspected, str]]] = defaultdict(list)
    for item, note in found:
        texts["".join(c for c in note if not c.isdigit())[:40]].append((item, note))
    return [Problem("note", "annotation", tuple(dict.fromkeys(i.pair.name for i, _ in items)),
                    some([f"{i.pair.name}: {note}" for i, note in items], 3)) for items in texts.values()]


def specks(labelled: Sequence[Inspected], encoding: Encoding | None) -> list[Problem]:
    """Ids of a few pixels, as interpolation of labels leaves them at borders; ids in several pieces."""
    if encoding is None or encoding.kind != "instances":
        return []
    problems = []
    found = [(i, n) for i in labelled for f in i.labels if f.areas[1] >= SPECK * TIMES_LARGER
             for n in [sum(0 < c <= SPECK for v, c in f.counts.items() if v != 0)] if n]
    if found:
        shown = some([f"{i.pair.name} ({n})" for i, n in found], 5)
        problems.append(Problem("warning", "specks", tuple(i.pair.name for i, _ in found),
                                f"objects of at most {SPECK} pixels are in {count(len(found), 'image')}: {shown}",
                                "if labels were scaled with interpolation, export them again with nearest neighbour"))
    torn = [(i, f.pieces - f.objects) for i in labelled for f in i.labels if f.pieces > f.objects and f.form != "colours"]
    if torn:
        shown = some([f"{i.pair.name} ({n})" for i, n in torn], 5)
        problems.append(Problem("note", "torn objects", tuple(i.pair.name for i, _ in torn),
                                f"objects lie in several pieces in {count(len(torn), 'image')} (number of further pieces): "
                                f"{shown}"))
    return problems


def odd_values(labelled: Sequence[Inspected], encoding: Encoding | None) -> list[Problem]:
    """Masks with values, or colours, that hardly any other mask has."""
    if encoding is None or encoding.kind != "classes" or encoding.form != "values" or len(labelled) < FEWEST:
        return []
    images: Counter[int] = Counter(v for i in labelled for v in i.labels[0].counts if v != encoding.ignore)
    rare = {v for v, n in images.items() if n <= max(1, EXCEPTIONS * len(labelled))}
    found = [(i, sorted(rare & set(i.labels[0].counts))) for i in labelled if rare & set(i.labels[0].counts)]
    if not found or len(found) > max(1, EXCEPTIONS * len(labelled)):
        return []
    usual = sorted(set(images) - rare)
    shown = some([f"{i.pair.name} (values {', '.join(map(str, v[:6]))})" for i, v in found], 5)
    return [Problem("warning", "odd values", tuple(i.pair.name for i, _ in found),
                    f"the masks usually hold {usual}; others hold values of their own: {shown}",
                    f"correct them, or leave a value out with --ignore VALUE, or say --values {','.join(map(str, usual))}")]


def unknown_values(labelled: Sequence[Inspected], encoding: Encoding | None) -> list[Problem]:
    """Values that programs use for "unknown", taken for a class."""
    if encoding is None or encoding.kind != "classes" or encoding.form != "values" or encoding.values is not None:
        return []
    values = encoding.legend.values
    others = [v for v in values if v >= 0 and v != 255]
    found = [v for v in values if v < 0] + ([255] if 255 in values and len(others) > 1 and max(others) < MOST_SMALL else [])
    return [Problem("warning", "unknown value", (), f"value {v} is taken for a class; often it stands for unknown pixels",
                    f"if it does, say --ignore {v}") for v in found]


def missing_classes(labelled: Sequence[Inspected], encoding: Encoding | None) -> list[Problem]:
    """Classes that nearly all masks have and a few lack."""
    if encoding is None or encoding.kind not in ("classes", "multilabel") or len(labelled) < FEWEST:
        return []
    problems = []
    full = [(i, h) for i in labelled for h in [held(i, encoding)] if h is not None and not all(f.empty for f in i.labels)]
    for position, entry in enumerate(encoding.legend):
        if encoding.kind == "multilabel" and not position:
            continue  # background is no structure
        lacking = [i for i, h in full if not h.pixels.get(position)]
        if lacking and len(lacking) <= EXCEPTIONS * len(full):
            problems.append(Problem("warning", "missing class", _names(lacking),
                                    f"{entry.name} ({entry.value}) is in {len(full) - len(lacking)} of {len(full)} masks, not in "
                                    f"{some(_names(lacking), 5)}", "forgotten? If not, leave it as it is"))
    return problems


def little_foreground(labelled: Sequence[Inspected], encoding: Encoding | None) -> list[Problem]:
    """Classes of hardly any pixels."""
    if encoding is None or encoding.kind not in ("classes", "multilabel"):
        return []
    everything = [h for h in (held(i, encoding) for i in labelled) if h is not None]
    total = sum(h.total for h in everything)
    shares = [(e, sum(h.pixels.get(k, 0) for h in everything) / max(1, total)) for k, e in enumerate(encoding.legend)
              if k or encoding.kind != "multilabel"]
    found = [(e, share) for e, share in shares if share < LITTLE]
    return [Problem("note", "rare class", (), f"{e.name} ({e.value}) covers {share:.2%} of the pixels" if share else
                    f"{e.name} ({e.value}) is in no mask") for e, share in found]


def few_images(labelled: Sequence[Inspected]) -> list[Problem]:
    """Too few to judge a model by."""
    if not 0 < len(labelled) < FEW:
        return []
    count = f"{len(labelled)} labelled image{'s' * (len(labelled) > 1)}"
    return [Problem("note", "few images", (), f"{count}: enough to begin; a score on one or two held out says little")]


def _names(items: Sequence[Inspected]) -> tuple[str, ...]:
    return tuple(i.pair.name for i in items)
