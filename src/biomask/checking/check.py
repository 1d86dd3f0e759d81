"""`check`: one pass over a folder; what it is, in a screen, and every problem with the fix to type."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite, pi
from pathlib import Path
from statistics import median
from typing import Any

from biomask.checking.held import held
from biomask.checking.probe import prober
from biomask.checking.problems import Problem, all_problems
from biomask.data.facts import Inspected
from biomask.data.groups import groups_for
from biomask.data.matches import Match
from biomask.data.mistakes import some
from biomask.data.pairing import Pair, where_of
from biomask.data.similar import find_matches
from biomask.data.understand import Understood, understand
from biomask.errors import BiomaskError, ManyErrors, ReadError
from biomask.progress import Progress, Silent
from biomask.recipe import DataSettings
from biomask.words import count

SCHEMA_VERSION = 1

#: Flags that `convert` has too.
CONVERTED = ("--masks", "--labels", "--ignore", "--legend", "--values", "--mask-scale", "--axes", "--z", "--time")

#: What errors are called.
KINDS = {"ReadError": "unreadable", "LabelsError": "labels", "PairingError": "pairing", "MissingPathError": "missing file",
         "SizeError": "size", "OutOfMemoryError": "too large"}

#: Levels in the order of their gravity.
LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Checked:
    """What `check` found."""

    understood: Understood
    problems: tuple[Problem, ...]
    """The gravest first."""
    groups: tuple[str, ...]
    """The group of each readable image."""
    groups_reason: str
    verdict: tuple[tuple[str, str], ...]
    """(what, as text) lines of one screen."""
    masks: str | None = None
    """Where the labels were said to be."""

    @property
    def usable(self) -> bool:
        """Whether nothing keeps the folder from being trained on."""
        return not any(p.level == "error" for p in self.problems)

    @property
    def good(self) -> tuple[Inspected, ...]:
        """All readable pairs."""
        return self.understood.survey.good

    def suspicious_first(self) -> list[Inspected]:
        """Readable pairs, those with the gravest problems first, then in name order."""
        rank = {name: LEVELS.index(p.level) for p in reversed(self.problems) if p.level != "note" for name in p.names}
        return sorted(self.good, key=lambda i: (rank.get(i.pair.name, len(LEVELS)), i.pair.name))

    def of(self, name: str) -> list[Problem]:
        """The errors and warnings of one image."""
        return [p for p in self.problems if p.level != "note" and name in p.names]

    def flags(self) -> list[tuple[str, str]]:
        """(flag, value) of what was said about the data, and of what they say themselves: to be typed again with `train`."""
        settings = self.understood.settings
        legend = ",".join(f"{value}={name}" for value, name in (settings.legend or {}).items())
        given = {"--masks": self.masks, "--labels": settings.kind, "--ignore": settings.ignore, "--legend": legend or None,
                 "--values": _joined(settings.values), "--mask-scale": settings.mask_scale, "--unlabelled": settings.unlabelled,
                 "--groups": settings.groups, "--axes": settings.axes, "--channels": _joined(settings.channels),
                 "--z": settings.z, "--time": settings.time}
        return [(flag, f"{value:g}" if isinstance(value, float) else str(value)) for flag, value in given.items()
                if value is not None]

    def next_step(self) -> tuple[str, str]:
        """(why, what to type next); for what is understood but not trained yet, the way to something that is."""
        found = self.understood
        folder, flags = str(found.layout.root), [w for flag in self.flags() for w in flag]
        if not self.usable or found.encoding is None:
            return "", ""
        return "", shlex.join(["biomask", "train", folder, *flags, "-o", "MODEL"])

    def to_json(self) -> dict[str, Any]:
        """All of it but pictures, JSON-ready."""
        found = self.understood
        encoding = found.encoding
        return {
            "schema_version": SCHEMA_VERSION, "folder": str(found.layout.root), "arrangement": found.layout.how,
            "usable": self.usable, "n_images": len(found.layout.pairs), "n_labelled": len(found.layout.labelled),
            "verdict": dict(self.verdict),
            "kind": encoding.kind if encoding else None, "kind_reason": encoding.reason if encoding else None,
            "legend": encoding.legend.to_json() if encoding else [], "settings": found.settings.model_dump(mode="json"),
            "problems": [asdict(p) for p in self.problems],
            "images": [_image_json(i, group) for i, group in zip(self.good, self.groups, strict=True)],
        }


def _joined(values: Sequence[object] | None) -> str | None:
    return None if values is None else ",".join(map(str, values))


def check(folder: str | Path, settings: DataSettings | None = None, *, masks: str | Path | None = None,
          progress: Progress | None = None) -> Checked:
    """Read everything in `folder` once and say what it is and what is wrong.

    Raises only what leaves nothing to be said, such as a folder that is missing or holds no images.
    """
    progress = progress or Silent()
    settings = settings or DataSettings()
    found = understand(folder, settings, progress, masks=masks, prober=partial(prober, settings))
    good = found.survey.good
    with progress.bar("comparing images") as bar:
        matches = find_matches([i.extra.signature for i in good]) if good else []
        bar.update(1.0)
    own, reason = groups_for([i.pair for i in good], found.settings.groups, lambda: matches) if good else ([], "")
    problems = _errors(found)
    broken = {name for p in problems for name in p.names}
    problems += all_problems(good, found.encoding, _without_films(matches, good), broken)
    problems.sort(key=lambda p: LEVELS.index(p.level))
    return Checked(found, tuple(problems), tuple(own), reason, tuple(_verdict(found, own, reason)),
                   str(masks) if masks is not None else None)


def _without_films(matches: Sequence[Match], good: Sequence[Inspected]) -> list[Match]:
    """Planes and time points of one file resemble each other as a matter of course."""
    return [m for m in matches if good[m.a].pair.image != good[m.b].pair.image]


def _errors(found: Understood) -> list[Problem]:
    """What keeps the folder from being trained on, with the images concerned."""
    by_file: dict[str, list[str]] = {}
    errors = [e for error in found.errors for e in _flat(error)]
    for pair in found.layout.pairs:
        files = () if pair.truth is None else (pair.truth.where, *pair.truth.files)
        for file in {str(f) for f in (pair.image, *files)}:
            by_file.setdefault(file, []).append(pair.name)
    names = [tuple(e.names or by_file.get(str(e.where), ())) for e in errors]
    return [Problem("error", _kind(e), n, _headline(e), e.fix or "")
            for e, n in zip(errors, names, strict=True)]


def _kind(error: BiomaskError) -> str:
    if isinstance(error, ReadError) and error.names:
        return "mixed images"  # each of them can be read
    return KINDS.get(type(error).__name__, "cannot be used")


def _flat(error: BiomaskError) -> list[BiomaskError]:
    return [e for part in error.errors for e in _flat(part)] if isinstance(error, ManyErrors) else [error]


def _headline(error: BiomaskError) -> str:
    return f"{error.where}: {error.what}" if error.where is not None else error.what


def _verdict(found: Understood, groups: Sequence[str], reason: str) -> list[tuple[str, str]]:
    """The lines of one screen."""
    layout, good, lines = found.layout, found.survey.good, list[tuple[str, str]]()
    lines.append(("images", _counts(layout.pairs)))
    lines.append(("arrangement", layout.how))
    if good:
        images = [i.image for i in good]
        lines.append(("axes and size", _axes(good)))
        lines.append(("pixels", _counted(Counter(i.dtype for i in images)) + f", values {min(i.low for i in images):g} to "
                      f"{max(i.high for i in images):g}"))
        lines.append(("spacing", _spacing(good)))
        lines.append(("channels", _channels(good)))
    wrong = {name for e in found.errors for name in e.names} | {str(e.where) for e in found.errors}
    labelled = [i for i in good if i.labels and i.pair.name not in wrong and str(where_of(i.pair)) not in wrong] or [
        i for i in good if i.labels]
    if found.encoding is not None:
        lines.append(("labels", f"{found.encoding.kind}: {found.encoding.reason}"))
        lines += _classes(found, labelled)
    elif not layout.labelled:
        lines.append(("labels", "none: these images can be predicted, not trained on"))
    lines.append(("unlabelled", _unlabelled(found, labelled)))
    if reason:
        lines.append(("groups", f"{len(set(groups))} among {count(len(groups), 'image')}: {reason}"))
    return lines


def _counts(pairs: Sequence[Pair]) -> str:
    parts = Counter(p.part for p in pairs)
    labelled = sum(p.truth is not None for p in pairs)
    said = f"{len(pairs)}, {'all' if labelled == len(pairs) else labelled if labelled else 'none'} with labels"
    if set(parts) == {None}:
        return said
    return said + " (" + ", ".join(f"{n} {part or 'in no part'}" for part, n in parts.items()) + ")"


def _axes(good: Sequence[Inspected]) -> str:
    """Shapes by axes: the only one, or the range of each axis."""
    lines = []
    for axes, n in Counter(i.image.axes for i in good).most_common():
        sizes = [i.image.size for i in good if i.image.axes == axes]
        low, high = (tuple(f(s[k] for s in sizes) for k in range(len(sizes[0]))) for f in (min, max))
        shown = " × ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(low, high, strict=True))
        lines.append(f"{axes[1:].upper()} {shown}" + (f" ({count(n, 'image')})" if n < len(good) else ""))
    return "; ".join(lines)


def _counted(counts: Mapping[Any, int]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{key} ({n})" for key, n in sorted(counts.items(), key=lambda item: -item[1]))


def _spacing(good: Sequence[Inspected]) -> str:
    known = Counter(tuple((a, round(v, 5)) for a, v in (i.image.spacing or {}).items()) for i in good)
    if set(known) == {()}:
        return "not stated in the files: sizes are given in pixels"
    shown = [(in_units(dict(key)) if key else "not stated") + (f", {count(n, 'image')}" if len(known) > 1 else "")
             for key, n in known.most_common(4)]
    return "; ".join(shown) + (" …" if len(known) > 4 else "")


def in_units(spacing: Mapping[str, float]) -> str:
    """Size of a pixel for people: µm, or mm where all sides are large.

    >>> in_units({"z": 1000.0, "y": 500.0, "x": 500.0}), in_units({"y": 0.19, "x": 0.19})
    ('1 × 0.5 × 0.5 mm (ZYX)', '0.19 × 0.19 µm (YX)')
    """
    unit, size = ("mm", 1e-3) if min(spacing.values()) >= 100 else ("µm", 1.0)
    return " × ".join(f"{v * size:g}" for v in spacing.values()) + f" {unit} ({''.join(spacing).upper()})"


def _channels(good: Sequence[Inspected]) -> str:
    names = Counter(i.image.channel_names for i in good)
    if len(names) == 1 and (found := next(iter(names))):
        return ", ".join(f"{k} {n}" for k, n in enumerate(found))
    grey = sum(i.image.grey for i in good)
    return _counted(Counter(i.image.channels for i in good)) + (f"; {grey} of {len(good)} colour images are grey" if grey else "")


def _classes(found: Understood, labelled: Sequence[Inspected]) -> list[tuple[str, str]]:
    """Classes with their share of the pixels, or objects with their size."""
    encoding = found.encoding
    if encoding is None:
        return []
    lines = []
    found_in = [h for h in (held(i, encoding) for i in labelled) if h is not None]
    total = sum(h.total for h in found_in)
    if total and (encoding.kind != "instances" or len(encoding.legend) > 2):
        overlapping = encoding.kind == "multilabel"  # background has no channel there
        shown = [f"{e.name if encoding.form in ('objects', 'colours') or overlapping else f'{e.value} {e.name}'} "
                 f"{sum(h.pixels.get(k, 0) for h in found_in) / total:.1%}"
                 for k, e in enumerate(encoding.legend) if k or not (overlapping or encoding.kind == "soft")]
        lines.append(("classes", some(shown, 12)))
    if encoding.ignore is not None and total:
        ignored = sum(h.ignored for h in found_in)
        lines.append(("ignored", f"value {encoding.ignore}: {ignored / (total + ignored):.1%} of the pixels"))
    if encoding.kind == "instances":
        lines.append(("objects", _objects(labelled)))
    return lines


def _objects(labelled: Sequence[Inspected]) -> str:
    """Number and size of objects; the diameter of a disc, or ball, of their median size."""
    sizes = sorted(n for i in labelled for f in i.labels if f.form != "colours" for v, n in f.counts.items() if v > 0)
    total = sum(f.objects for i in labelled for f in i.labels)
    if not sizes:
        return f"{total}"
    low, middle, high = (sizes[round(share * (len(sizes) - 1))] for share in (0.1, 0.5, 0.9))
    dims = len(labelled[0].image.size)
    diameter = 2 * (middle / pi) ** 0.5 if dims == 2 else 2 * (middle * 3 / (4 * pi)) ** (1 / 3)
    word = "px" if dims == 2 else "voxels"
    shown = (f"{total} in {count(len(labelled), 'image')}; {middle:,.0f} {word} each (usually {low:,.0f} to {high:,.0f}), about "
             f"{diameter:.0f} px across")
    spacing = [i.image.spacing for i in labelled if i.image.spacing]
    if len(spacing) == len(labelled):
        shown += f" = {diameter * median((s or {})['x'] for s in spacing):.3g} µm"
    return shown


def _unlabelled(found: Understood, labelled: Sequence[Inspected]) -> str:
    bare = len(found.layout.unlabelled)
    empty = sum(all(f.empty and f.form != "fractions" for f in i.labels) for i in labelled)
    gaps = sum(bool(f.gaps) for i in labelled for f in i.labels)
    ends = sum(f.ends for i in labelled for f in i.labels[:1])
    parts = [f"{n} {what}" for n, what in ((bare, "images without labels"), (empty, "empty masks"),
                                           (gaps, "volumes with planes without labels amid others")) if n]
    if ends:
        parts.append(f"{ends} planes at the ends of volumes, taken as background (--unlabelled ignore: not trained on)")
    answer = found.settings.unlabelled
    return (", ".join(parts) or "none") + (f" → {answer}, as told" if answer and parts else "")


def _image_json(item: Inspected, group: str) -> dict[str, Any]:
    image = item.image
    return {"name": item.pair.name, "file": str(item.pair.image), "labels": str(item.pair.truth.where) if item.pair.truth else None,
            "part": item.pair.part, "group": group, "size": list(image.size), "axes": image.axes, "channels": image.channels,
            "dtype": image.dtype, "spacing": image.spacing, "low": image.low if isfinite(image.low) else None,
            "high": image.high if isfinite(image.high) else None,
            "objects": [f.objects for f in item.labels], "values": [min(f.distinct, len(f.counts)) for f in item.labels],
            "sha256": item.hashes.get(f"{item.pair.name}:image")}
