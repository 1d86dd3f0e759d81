"""What keeps a data set from being trained on, found from its facts: each a function to errors that name the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomask.data.colours import explained, reach_of, usual_values
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected, LabelFacts
from biomask.data.inference import CLOSELY, EXACT, ONE_PIECE, are_averages, as_form, total_of, usual_form
from biomask.data.limits import MOST_CLASSES
from biomask.data.pairing import Pair, where_of
from biomask.errors import BiomaskError, LabelsError, PairingError, ReadError
from biomask.recipe import DataSettings
from biomask.words import count

#: Values of a mask beyond those of the others from which on it was smoothed or compressed rather than drawn.
BLURRED = 8

#: Between lowest and highest value of a mask that may have been smoothed: class ids lie closer together.
BLURRED_RANGE = 32

#: JPEG of the highest quality moves values by no more than this.
BESIDE = 4

#: Share of the pixels at a smoothed mask's usual values.
USUAL_SHARE = 0.8

#: Share of the masks that must hold a value for it to be usual.
USUAL_MASKS = 0.3

#: Values over pieces below which many values are no ids of objects.
IN_PIECES = 0.5

#: What masks of each form hold.
FORMS = {"values": "values", "fractions": "fractions", "colours": "colours", "objects": "objects one by one"}

#: Names shown of a longer list.
SHOWN = 10


def groups_across_parts(pairs: Sequence[Pair]) -> list[BiomaskError]:
    """An error for groups that a table names and its parts cut."""
    parts: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.group is not None and pair.part is not None:
            parts.setdefault(pair.group, set()).add(pair.part)
    cut = {group: sorted(found) for group, found in parts.items() if len(found) > 1}
    if not cut:
        return []
    shown = some([f"{group} ({', '.join(found)})" for group, found in cut.items()], 5)
    return [PairingError(f"{len(cut)} groups are in several parts, so that scores would be of images half known: {shown}",
                         fix="give each group one part in the table, or say --groups none",
                         names=[p.name for p in pairs if p.group in cut])]


def channels_of(item: Inspected, settings: DataSettings) -> int:
    """Channels that an image gives."""
    return 1 if settings.channels == ("grey",) else item.image.channels


def channel_misfits(good: Sequence[Inspected], settings: DataSettings) -> list[BiomaskError]:
    """One error for each kind of image that differs from the majority in axes or channels."""
    kinds: dict[tuple[str, int], list[Inspected]] = {}
    orders = Counter(i.image.channel_names for i in good if i.image.channel_names)
    if len(orders) > 1 and settings.channels is None:
        names = orders.most_common(1)[0][0]
        odd = [i for i in good if i.image.channel_names and i.image.channel_names != names]
        return [ReadError(f"{_counted_images(len(odd))} channels called {', '.join(odd[0].image.channel_names)}, the others "
                          f"{', '.join(names)}: {some([i.pair.image.name for i in odd])}",
                          fix=f"--channels {','.join(names)} takes them by name; or keep one kind of images",
                          names=[i.pair.name for i in odd])]
    for item in good:
        kinds.setdefault((item.image.axes, channels_of(item, settings)), []).append(item)
    if len(kinds) < 2:
        return []
    usual = max(kinds, key=lambda k: len(kinds[k]))
    return [_misfit(kind, items, usual, len(kinds[usual])) for kind, items in kinds.items() if kind != usual]


def _misfit(kind: tuple[str, int], items: Sequence[Inspected], usual: tuple[str, int], count: int) -> BiomaskError:
    names = some([i.pair.image.name for i in items])
    if {kind[0], usual[0]} == {"cyx", "czyx"}:
        fix = "--z each takes every plane of the volumes as an image, --z max their brightest; or keep one kind of images"
    elif {kind[1], usual[1]} == {1, 3}:
        fix = "--channels grey turns colour into grey, --channels rgb repeats grey three times; or keep one kind of images"
    else:
        fix = "say which channels are meant, e.g. --channels 0; or keep one kind of images"
    what = f"{_counted_images(len(items))} {_described(kind)}, the other {count} {_described(usual)}: {names}"
    return ReadError(what, where=items[0].pair.image if len(items) == 1 else None, fix=fix, names=[i.pair.name for i in items])


def _counted_images(n: int) -> str:
    return "1 image has" if n == 1 else f"{n} images have"


def _described(kind: tuple[str, int]) -> str:
    axes, channels = kind
    return f"{channels} channel{'s' * (channels > 1)} in {len(axes) - 1}D"


def common_folder(items: Sequence[Inspected]) -> Path:
    """The folder of the first labels."""
    truth = items[0].pair.truth
    return truth.where.parent if truth is not None else items[0].pair.image.parent


def blurred_masks(labelled: Sequence[Inspected], settings: DataSettings) -> list[Inspected]:
    """Masks of values with many more values than the usual ones, most of their pixels at the usual ones.

    JPEG, smoothing and resizing put such values between those that were drawn. Ids of objects are in one piece each.
    """
    if settings.values is not None or settings.kind is not None:
        return []
    facts = [f for i in labelled for f in i.labels]
    if are_averages(facts, {v: n for v, n in total_of(f.counts for f in facts).items() if v != settings.ignore}):
        return []
    return [i for i in labelled if any(_is_blurred(f, settings.ignore) for f in i.labels)]


def _is_blurred(facts: LabelFacts, ignore: int | None) -> bool:
    counts = {v: n for v, n in facts.counts.items() if v != ignore}
    if facts.form != "values" or len(counts) < 2 or max(counts) - min(counts) < BLURRED_RANGE:
        return False
    if facts.single >= ONE_PIECE:
        return False
    if _is_rounded(counts):
        return True
    if len(counts) <= BLURRED:
        return False
    peaks = usual_values(counts, facts.flat)
    reach = reach_of(counts)
    at_peaks = sum(n for v, n in counts.items() if any(abs(v - p) <= reach for p in peaks))
    return 2 <= len(peaks) <= BLURRED and at_peaks >= USUAL_SHARE * sum(counts.values())


def _is_rounded(counts: Mapping[int, int]) -> bool:
    """Whether all values are two or more far ones and rarer ones right beside each of them: JPEG of the highest quality."""
    peaks = [v for v, n in counts.items() if all(abs(v - w) > BESIDE or n > m for w, m in counts.items() if w != v)]
    near = [[v for v in counts if v != p and abs(v - p) <= BESIDE] for p in peaks]
    far = min((abs(p - q) for p in peaks for q in peaks if p != q), default=0) > 4 * BESIDE
    return len(peaks) >= 2 and far and all(near) and len(counts) == len(peaks) + sum(map(len, near))


def blurred_error(facts: LabelFacts, settings: DataSettings, where: Path) -> LabelsError | None:
    """The error for a mask that is smoothed or compressed; None for others, and where the user said what is meant."""
    told = settings.values is not None or settings.kind is not None
    if told or are_averages([facts], facts.counts) or not _is_blurred(facts, settings.ignore):
        return None
    peaks = ",".join(map(str, usual_values(facts.counts, facts.flat)))
    return LabelsError(f"{facts.distinct} values, most pixels at {peaks}: a smoothed, resized or JPEG-compressed mask", where=where,
                       fix=f"save it without compression losses or smoothing, or say --values {peaks}: each value then stands "
                           "for the nearest of these")


def blurred_errors(blurred: Sequence[Inspected], labelled: Sequence[Inspected]) -> list[BiomaskError]:
    """One error a mask, or one for all where it is most of them."""
    if not blurred:
        return []
    several = [f for i in blurred for f in i.labels]
    peaks = ",".join(map(str, usual_values(total_of(f.counts for f in several), total_of(f.flat for f in several))))
    fix = (f"save it without compression losses or smoothing, or say --values {peaks}: each value then stands for the nearest "
           "of these")
    if len(blurred) > len(labelled) / 2:
        return [LabelsError(f"{len(blurred)} of {len(labelled)} masks hold many values between their usual ones ({peaks}): "
                            "smoothed, resized or JPEG-compressed masks", where=common_folder(blurred),
                            fix=fix.replace("save it", "save them"), names=[i.pair.name for i in blurred])]
    return [LabelsError(f"{max(f.distinct for f in i.labels)} values, most pixels at {peaks}: a smoothed, resized or "
                        "JPEG-compressed mask", where=where_of(i.pair), fix=fix) for i in blurred]


def grey_images(labelled: Sequence[Inspected], settings: DataSettings) -> list[Inspected]:
    """Masks of many values in many pieces each, where most masks are not like that."""
    found = [i for i in labelled if any(f.form == "values" and f.objects > MOST_CLASSES and f.single < IN_PIECES for f in i.labels)]
    told = settings.values is not None or settings.kind is not None
    return found if not told and len(found) < len(labelled) / 2 else []


def grey_errors(grey: Sequence[Inspected]) -> list[BiomaskError]:
    return [LabelsError(f"{max(f.distinct for f in i.labels)} values, each in several pieces, unlike the other masks: a grey image "
                        "rather than a mask?", where=where_of(i.pair), fix="give the mask") for i in grey]


def mixed_programs(labelled: Sequence[Inspected], settings: DataSettings) -> list[BiomaskError]:
    """Masks of two programs: 0/1 in some files and 0/255 in the others would be trained as three classes."""
    if settings.legend is not None or settings.values is not None:
        return []
    several = max((len(i.labels) for i in labelled), default=0)
    return [e for k in range(several) for e in _mixed_programs([(i, i.labels[k]) for i in labelled if len(i.labels) > k], settings)]


def _mixed_programs(masks: Sequence[tuple[Inspected, LabelFacts]], settings: DataSettings) -> list[BiomaskError]:
    sets = [(i, set(f.counts) - {settings.ignore}) for i, f in masks if f.form == "values"]
    one, full = ([i for i, values in sets if values == {0, value}] for value in (1, 255))
    others = any(values - {0, 1, 255} or {1, 255} <= values for _, values in sets)
    if not (one and full) or others:
        return []
    return [LabelsError(f"{count(len(one), 'mask')} with 0 and 1 (such as {some([_name(i) for i in one], 3)}), {len(full)} with "
                        f"0 and 255 (such as {some([_name(i) for i in full], 3)})", where=common_folder([i for i, _ in masks]),
                        fix="save all masks with the same two values",
                        names=[i.pair.name for i in min(one, full, key=len)])]


def mixed_forms(labelled: Sequence[Inspected]) -> tuple[list[Inspected], list[BiomaskError]]:
    """(masks stored in another way than most, an error for each way): colours among values, outlines among masks."""
    single = [i for i in labelled if len(i.labels) == 1]
    if not single:
        return [], []
    form = usual_form(i.labels[0] for i in single)
    others: dict[str, list[Inspected]] = {}
    for item in single:
        found = as_form(item.labels[0], form)
        if found.form != form and not (form == "fractions" and found.low >= 0 and found.high <= 1):
            others.setdefault(found.form, []).append(item)
    return [i for items in others.values() for i in items], [
        LabelsError(f"{_counted_masks(len(items))} {FORMS[kind]}, the other {len(single) - len(items)} {FORMS[form]}: "
                    + some([_name(i) for i in items]), where=where_of(items[0].pair) if len(items) == 1 else common_folder(items),
                    fix="save all labels in one way; 'biomask convert' turns one into the other")
        for kind, items in others.items()]


def _counted_masks(n: int) -> str:
    return "1 mask holds" if n == 1 else f"{n} masks hold"


def strange_colours(labelled: Sequence[Inspected], encoding: Encoding) -> list[BiomaskError]:
    """Colour-coded masks that hold hardly any of the colours that the others do."""
    if encoding.form != "colours" or encoding.kind != "classes":
        return []
    colours = [r << 16 | g << 8 | b for r, g, b in encoding.colours]
    shares = [(i, explained(as_form(i.labels[0], "colours").counts, colours, EXACT)) for i in labelled]
    return [LabelsError(f"only {share:.0%} of its pixels have the colours of the masks: a photograph?", where=where_of(i.pair),
                        fix="give the mask") for i, share in shares if share < CLOSELY / 2]


def _name(item: Inspected) -> str:
    return item.pair.truth.where.name if item.pair.truth is not None else item.pair.name


def unlabelled_question(good: Sequence[Inspected], settings: DataSettings) -> list[BiomaskError]:
    """Empty masks, and planes without labels amid labelled ones: nobody but the user knows what they mean."""
    if settings.unlabelled is not None:
        return []
    labelled = [i for i in good if i.labels]
    empty = [i for i in labelled if all(f.empty and f.form != "fractions" for f in i.labels)]
    errors = list[BiomaskError]()
    answer = "say --unlabelled background (nothing is there) or --unlabelled ignore ({}) "
    if empty and len(empty) < len(labelled):
        shown = some([_name(i) for i in empty])
        errors.append(LabelsError(f"{len(empty)} of {len(labelled)} masks are empty: empty, or not annotated? {shown}",
                                  where=common_folder(empty), fix=answer.format("leave these images out").strip(),
                                  names=[i.pair.name for i in empty]))
    gaps = [(i, sorted({z for f in i.labels for z in f.gaps})) for i in labelled if any(f.gaps for f in i.labels)]
    if gaps:
        shown = some([f"{_name(i)} (planes {', '.join(map(str, z[:5]))}{' …' if len(z) > 5 else ''})" for i, z in gaps], 5)
        errors.append(LabelsError(f"planes without labels between labelled ones in {count(len(gaps), 'volume')}: empty, or not "
                                  f"annotated? {shown}", where=common_folder([i for i, _ in gaps]),
                                  fix=answer.format("not trained on").strip(), names=[i.pair.name for i, _ in gaps]))
    return errors


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """Names in a line, at most so many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
