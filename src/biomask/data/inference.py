"""`infer_encoding`: what the labels of a data set mean, from the facts of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from biomask.data.colours import (
    background_first,
    dominant_colours,
    explained,
    snapped,
    unpack,
    usual_values,
)
from biomask.data.encoding import UNNAMED, Encoding
from biomask.data.facts import Inspected, LabelFacts
from biomask.data.limits import MOST_CLASSES
from biomask.errors import LabelsError
from biomask.labels import PALETTE, LabelKind, Legend, LegendEntry

if TYPE_CHECKING:
    from biomask.recipe import DataSettings

#: Class ids are held in 8 bits.
MOST_VALUES = 256

#: More values than this, each in one piece, are taken for objects even where they recur.
MOST_STRUCTURES = 8

#: Values over pieces from which on values count as one piece each; a few objects may be cut.
ONE_PIECE = 0.9

#: Pixels that colours of objects exceed: in a noisy photograph each colour is one pixel.
SMALLEST_OBJECT = 3

#: Share of neighbouring levels among neighbouring pixels that differ, from which on evenly spread levels are averages.
#: Experts' outlines run side by side; classes touch in any order.
NESTED = 0.6

#: Share of pixels that the colours of a legend must explain; the rest are blurred edges.
EXPLAINED = 0.85

#: Distance in RGB of compressed areas from their colour.
EXACT = 12

#: Share of the pixels within that distance of a colour of the legend: masks have 0.7 or more, photographs 0.4 or less.
CLOSELY = 0.55

#: Averages of experts are rounded to whole values.
ROUNDED = 0.6


def infer_encoding(good: Sequence[Inspected], settings: DataSettings, structures: Sequence[str] = ()) -> Encoding:
    """What the labels of a data set are. Raises LabelsError where they are nothing that can be told."""
    facts = [i.labels for i in good if i.labels]
    if structures:
        return _multilabel(facts, structures, settings)
    # Each annotation of a COCO file is an object, however few there are of a class.
    if settings.kind is None and any(i.pair.truth is not None and i.pair.truth.form == "coco" for i in good):
        settings = settings.model_copy(update={"kind": "instances"})
        return replace(infer_encoding_of([f[0] for f in facts], settings), reason=_objects_said([f[0] for f in facts]))
    return infer_encoding_of([f[0] for f in facts], settings)


def infer_encoding_of(single: Sequence[LabelFacts], settings: DataSettings) -> Encoding:
    """The same for one mask an image."""
    if not single:
        raise LabelsError("there are no labels")
    form = usual_form(single)
    single = [as_form(f, form) for f in single]
    others = {f.form for f in single} - ({"values", form} if form == "fractions" else {form})
    if others:
        raise LabelsError(f"some masks hold {form}, others {', '.join(sorted(others))}", fix="save all labels in one way")
    if form == "objects":
        return _of_objects(single, settings)
    if form == "colours":
        return _of_colours(single, settings)
    return _of_values(single, form, settings)


def usual_form(facts: Iterable[LabelFacts]) -> str:
    """The form of most masks but those in colour of which only one is used; fractions where any has them."""
    forms = Counter(f.form for f in facts if not (f.in_colour and f.distinct == 1)) or Counter(["values"])
    return "fractions" if set(forms) == {"values", "fractions"} else forms.most_common(1)[0][0]


def as_form(facts: LabelFacts, form: str) -> LabelFacts:
    """Facts of three equal colours as those of a colour-coded mask; others as they are."""
    if form != "colours" or not facts.in_colour:
        return facts
    counts = {v * 0x010101: n for v, n in facts.counts.items()}
    return replace(facts, form="colours", counts=counts, flat=counts)


def total_of(counts: Iterable[Mapping[int, int]]) -> Counter[int]:
    """The sum of several counts."""
    total: Counter[int] = Counter()
    for some in counts:
        total.update(some)
    return total


def _multilabel(facts: Sequence[Sequence[LabelFacts]], structures: Sequence[str], settings: DataSettings) -> Encoding:
    if settings.kind not in (None, "multilabel"):
        raise LabelsError(f"--labels {settings.kind}: there is one mask a structure ({', '.join(structures)})",
                          fix=f"give one of them: --masks {structures[0]}")
    if any(s.form == "colours" for f in facts for s in f):
        raise LabelsError("is colour-coded where a mask of one structure is expected", fix="save it with 0 and 255")
    of_each = [sorted({v for f in facts for v in f[k].counts} - {settings.ignore}) for k in range(len(structures))]
    full = [max(values, default=1) or 1 for values in of_each]
    levels = sorted({v for values in of_each for v in values})
    odd = [f"{name} {values}" for name, values in zip(structures, of_each, strict=True) if not _are_levels(values)]
    if odd:
        raise LabelsError(f"the masks of {', '.join(odd)} are neither of two values nor averages of experts",
                          fix="save them with 0 and 255, or leave a value out with --ignore VALUE")
    averages = f", levels {levels}: averages of experts, taken where at least half agree" if len(levels) > 2 else ""
    return Encoding("multilabel", f"a mask a structure: {', '.join(structures)}{averages}", _structure_legend(structures), "values",
                    tuple(float(f) for f in full), ignore=settings.ignore)


def _are_levels(values: Sequence[int]) -> bool:
    """Whether values are 0 and one more, or shares of up to 12 experts: all that a mask of one structure holds."""
    top = max(values, default=0)
    if not values or min(values) < 0 or top == 0:
        return not any(values)
    return any(all(abs(v - round(v * n / top) * top / n) <= ROUNDED for v in values) for n in range(1, 13))


def _structure_legend(names: Sequence[str]) -> Legend:
    return Legend.of_values(range(len(names) + 1), dict(enumerate(names, start=1)))


def _of_objects(facts: Sequence[LabelFacts], settings: DataSettings) -> Encoding:
    """Objects that come one by one: folders of masks, outlines."""
    names = _class_names(facts)
    if names and any(len(f.classes) < f.objects for f in facts):
        names = (*names, UNNAMED)
    colours = {n: c for f in facts for n, c in f.colours.items()}
    said = _objects_said(facts)
    # Regions with several class names are an annotation of tissue; many objects an image are cells.
    many = float(np.median([f.objects for f in facts])) > MOST_STRUCTURES * max(1, len(names))
    kind: LabelKind = settings.kind or ("classes" if len(names) > 1 and not many else "instances")
    if kind not in ("classes", "instances"):
        raise LabelsError(f"--labels {kind}: the labels are objects", fix="--labels instances or --labels classes")
    shown = names or ("object",)
    entries = [LegendEntry(0, "background", (0, 0, 0)), *(
        LegendEntry(i, n, colours.get(n) or PALETTE[(i - 1) % len(PALETTE)]) for i, n in enumerate(shown, start=1))]
    if len(entries) > MOST_VALUES:
        raise LabelsError(f"{len(names)} class names are too many; there can be {MOST_VALUES - 1}")
    reason = said if settings.kind is None else f"as told; {said}"
    return Encoding(kind, reason, Legend(tuple(entries)), "objects", names=shown, ignore=settings.ignore)


def _class_names(facts: Sequence[LabelFacts]) -> tuple[str, ...]:
    return tuple(sorted({c for f in facts for c in f.classes.values() if c}))


def _objects_said(facts: Sequence[LabelFacts]) -> str:
    names = _class_names(facts)
    return f"{sum(f.objects for f in facts)} objects, given one by one" + (
        f", of {len(names)} class{'es' * (len(names) > 1)}: {_listed(names)}" if names else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def _of_colours(facts: Sequence[LabelFacts], settings: DataSettings) -> Encoding:
    if settings.ignore is not None:
        raise LabelsError(f"--ignore {settings.ignore} is a value, but the masks are colour-coded",
                          fix="leave it out, and draw unknown places as a class of their own; or save the masks with values")
    pixels, flat = total_of(f.counts for f in facts), total_of(f.flat for f in facts)
    distinct = max(f.distinct for f in facts)
    given = {int(k[1:], 16): name for k, name in (settings.legend or {}).items() if isinstance(k, str)}
    if _int_names(settings):
        raise LabelsError("--legend names values, but the masks are colour-coded",
                          fix='name colours: --legend "#000000=background,#ff0000=tumour"')
    common = dominant_colours(pixels, flat, settings.tolerance)
    centres = list(given) or common
    near = explained(pixels, centres, settings.tolerance)
    if settings.kind == "instances" or (settings.kind is None and not given and _colours_are_ids(facts)):
        return Encoding("instances", f"up to {distinct} colours an image, each of them one piece",
                        Legend.of_values([0, 1], {1: "object"}), "colours")
    strangers = [c for c in common if given and explained({c: 1}, centres, settings.tolerance) == 0]
    if strangers:
        shown = ", ".join(f"#{c:06x} ({explained(pixels, [c], settings.tolerance):.1%} of the pixels)" for c in strangers[:8])
        raise LabelsError(f"colours are not in the legend: {shown}", fix="name them too in --legend")
    exact = explained(pixels, centres, EXACT)
    if not given and (len(centres) > MOST_CLASSES or near < EXPLAINED or exact < CLOSELY):
        shown = ", ".join(f"#{c:06x}" for c in centres[:8])
        raise LabelsError(f"up to {distinct} colours an image, of which {len(centres)} common ones explain {near:.0%} roughly and "
                          f"{exact:.0%} closely: a photograph rather than a mask? Most common: {shown}",
                          fix='if it is a mask, name its colours: --legend "#000000=background,#ff0000=tumour"')
    ordered = background_first(centres, pixels)
    colours = tuple(unpack(c) for c in ordered)
    names = [given.get(c) or ("background" if i == 0 else f"#{c:06x}") for i, c in enumerate(ordered)]
    blurred = f"; {1 - exact:.1%} of the pixels are mixtures, taken for the nearest" if distinct > len(centres) else ""
    return Encoding("classes", f"colours {', '.join(f'#{c:06x}' for c in ordered)}{blurred}",
                    Legend(tuple(LegendEntry(i, n, c) for i, (n, c) in enumerate(zip(names, colours, strict=True)))), "colours",
                    colours=colours, tolerance=settings.tolerance)


def _colours_are_ids(facts: Sequence[LabelFacts]) -> bool:
    """Whether every image has many colours, each in one piece."""
    return all(f.distinct > MOST_STRUCTURES and f.single >= ONE_PIECE and f.areas[1] > SMALLEST_OBJECT for f in facts)


def _of_values(facts: Sequence[LabelFacts], form: str, settings: DataSettings) -> Encoding:
    pixels = total_of(f.counts for f in facts)
    if settings.values is not None:
        pixels = Counter()
        for fact in facts:
            for value, n in fact.counts.items():
                pixels[value if value == settings.ignore else int(snapped(np.asarray(value), settings.values))] += n
    known = {v: n for v, n in pixels.items() if v != settings.ignore}
    kind, reason = _kind_of_values(facts, form, known, settings)
    if kind == "soft":
        top = 1 if form == "fractions" else max(known, default=0)
        if top <= 0 or min(known, default=0) < 0:
            raise LabelsError(f"the label values are {sorted(known)[:10]}: no shares of experts, which go from 0 up",
                              fix="--labels classes, or leave --labels out")
        return Encoding("soft", reason, Legend.of_values([0, top], {top: "structure"} | _int_names(settings)), form, (float(top),),
                        ignore=settings.ignore)
    if kind == "instances":
        return Encoding("instances", reason, Legend.of_values([0, 1], {1: "object"}), form, ignore=settings.ignore)
    if kind == "multilabel":
        raise LabelsError("--labels multilabel: there is one mask for all structures", fix="give a folder a structure")
    if form == "fractions":
        raise LabelsError("holds fractions, not class values", fix="--labels soft takes them as shares of experts")
    return Encoding("classes", reason, _legend_of_values(known, facts, settings), form, values=settings.values,
                    ignore=settings.ignore)


def _int_names(settings: DataSettings) -> dict[int, str]:
    return {k: n for k, n in (settings.legend or {}).items() if isinstance(k, int)}


def _names_of_values(settings: DataSettings, palette: Sequence[tuple[int, int, int]] | None) -> dict[int, str]:
    """Names by value; colours are those of the files' palette, or greys."""
    names = _int_names(settings)
    for colour, name in (settings.legend or {}).items():
        if isinstance(colour, int):
            continue
        rgb = unpack(int(colour[1:], 16))
        value = next((v for v, c in enumerate(palette) if c == rgb), None) if palette is not None else (
            rgb[0] if len(set(rgb)) == 1 else None)
        if value is None:
            raise LabelsError(f"--legend names the colour {colour}, but the masks hold values" + (
                ", and their palette lacks it" if palette is not None else ""), fix="name values: --legend 0=background,1=cell")
        names[value] = name
    return names


def _legend_of_values(known: Mapping[int, int], facts: Sequence[LabelFacts], settings: DataSettings) -> Legend:
    """Values found and named, in the colours of the files' palette where they have one."""
    palette = next((f.palette for f in facts if f.palette is not None), None)
    _check_palettes(facts, settings)
    names = _names_of_values(settings, palette)
    if len(known) > MOST_VALUES:
        raise LabelsError(f"{len(known)} values are too many for classes, of which there can be {MOST_VALUES}")
    strangers = sorted(set(known) - set(names)) if names else []
    if strangers:
        raise LabelsError(f"values {strangers[:10]} are not in the legend {sorted(names)}",
                          fix="name them in --legend, or leave one of them out with --ignore VALUE")
    legend = Legend.of_values([*known, *names], names)
    used = {palette[v] for v in legend.values if 0 <= v < len(palette)} if palette is not None else set()
    if palette is None or len(used) < len(legend):
        return legend
    return Legend(tuple(LegendEntry(e.value, e.name, palette[e.value]) for e in legend))


def _check_palettes(facts: Sequence[LabelFacts], settings: DataSettings) -> None:
    """Raise LabelsError where the same colour has different values in different masks: the colour was meant, then."""
    if settings.kind is not None:
        return
    values: dict[tuple[int, int, int], set[int]] = {}
    for fact in facts:
        for value in fact.counts:
            if fact.palette is not None and 0 <= value < len(fact.palette):
                values.setdefault(fact.palette[value], set()).add(value)
    odd = {colour: found for colour, found in values.items() if len(found) > 1}
    if odd:
        shown = "; ".join(f"#{bytes(c).hex()} is {' or '.join(map(str, sorted(v)))}" for c, v in list(odd.items())[:4])
        raise LabelsError(f"the palettes of the masks differ: {shown}",
                          fix="save the masks as RGB, so that colours count, or say --labels classes: then values count")


def _kind_of_values(facts: Sequence[LabelFacts], form: str, known: Mapping[int, int],
                    settings: DataSettings) -> tuple[LabelKind, str]:
    if settings.kind is not None:
        return settings.kind, "as told"
    if form == "fractions":
        low, high = min(f.low for f in facts), max(f.high for f in facts)
        if low >= 0 and high <= 1:
            return "soft", f"fractions from {low:g} to {high:g}: the share of experts, or probabilities"
        raise LabelsError(f"holds fractions from {low:g} to {high:g}: a grey image rather than a mask?",
                          fix="a mask holds one whole number a class")
    if settings.values is None and are_averages(facts, known):
        experts = len(known) - 1
        return "soft", (f"levels {sorted(known)}, one inside the other: averages of {experts} experts (if they are classes, say "
                        "--labels classes)")
    per_image = [frozenset(f.counts) - {0, settings.ignore} for f in facts]
    pieces = sum(f.pieces for f, v in zip(facts, per_image, strict=True) if v)
    flat = total_of(f.flat for f in facts)
    return infer_kind(known, per_image, sum(len(v) for v in per_image) / max(1, pieces), flat)


def are_averages(facts: Sequence[LabelFacts], known: Mapping[int, int]) -> bool:
    """Whether values are evenly spread levels of at least three experts that lie inside one another."""
    levels, top = sorted(known), max(known, default=0)
    if not 4 <= len(levels) <= 17 or top < len(levels) or levels[0] != 0:
        return False
    even = all(abs(v - i * top / (len(levels) - 1)) <= 1 for i, v in enumerate(levels))
    told = [f for f in facts if f.nested is not None]
    return even and bool(told) and float(np.mean([f.nested for f in told if f.nested is not None])) >= NESTED


def infer_kind(pixels: Mapping[int, int], per_image: Sequence[frozenset[int]], single: float = 1.0,
               flat: Mapping[int, int] | None = None) -> tuple[LabelKind, str]:
    """(kind, reason) from the values found.

    pixels: value → number of pixels. per_image: each image's values but 0. single: values of all images over their
    connected regions, 1 where every value is one piece. flat: as in `LabelFacts`, for advice.

    Ids that differ between images and form one piece each are instances; more than 8 of them are instances
    even where the same ones recur, as tracked cells do.
    Raises LabelsError for many values in many pieces, which are neither.
    """
    values = sorted(v for v in pixels if v != 0)
    if len(values) <= 2:
        return "classes", f"the values are {sorted(pixels)}"
    differ = len(set(per_image)) > 1 and len(per_image) > 1
    if single >= ONE_PIECE and (differ or len(values) > MOST_STRUCTURES):
        where = "other ones in each image, " if differ else ""
        return "instances", f"{len(values)} values up to {values[-1]}, {where}each of them one piece"
    if len(values) > MOST_CLASSES:
        raise LabelsError(f"{len(values)} values, each in about {1 / single:.0f} pieces: a grey image rather than a mask?",
                          fix=_advice_of_greys(pixels, flat))
    shown = sorted(pixels) if len(pixels) <= 12 else f"{len(values)} besides 0"
    return "classes", f"the values are {shown}" + (", in several pieces each" if differ else "")


def _advice_of_greys(pixels: Mapping[int, int], flat: Mapping[int, int] | None) -> str:
    peaks = usual_values(pixels, flat)
    shown = ",".join(map(str, peaks))
    known = f"; to take each for the nearest of its usual values, say --values {shown}" if 2 <= len(peaks) <= 8 else ""
    return f"save masks without compression losses or smoothing{known}; if they are classes, say --labels classes"
