"""`understand`: a folder and settings in; pairs, facts, the meaning of the labels and everything that is wrong out.

`check` prints what is found here, training stops at it: both see the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from biomask.data.colours import explained, reach_of, usual_values
from biomask.data.encoding import (
    CLOSELY,
    EXACT,
    ONE_PIECE,
    Encoding,
    are_averages,
    as_form,
    infer_encoding,
    total_of,
    usual_form,
)
from biomask.data.facts import Inspected, LabelFacts
from biomask.data.groups import NONE
from biomask.data.layouts import find_layout
from biomask.data.limits import MOST_CLASSES
from biomask.data.pairing import MASK_FOLDERS, Layout, Pair, Part, missing_truth, where_of
from biomask.data.split_table import apply_split_table
from biomask.data.survey import Prober, Survey, survey
from biomask.errors import BiomaskError, LabelsError, ManyErrors, PairingError, ReadError
from biomask.io.files import open_stored
from biomask.labels import Legend
from biomask.progress import Progress
from biomask.recipe import DataSettings
from biomask.stored import WHOLE, planes

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


@dataclass(frozen=True)
class Understood:
    """A data folder, read once."""

    layout: Layout
    settings: DataSettings
    """As given, completed by what the data say, such as one channel of grey images saved in colour."""
    survey: Survey
    encoding: Encoding | None
    """None where the labels cannot be told, or there are none."""
    errors: tuple[BiomaskError, ...]
    """All that keeps the folder from being trained on."""
    notes: tuple[str, ...] = field(default=())
    """What was chosen, for the user to read."""

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures of multilabel data."""
        return structures_of(self.layout.pairs)


def structures_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Names of the structures of multilabel data; empty for others."""
    return next((p.truth.structures for p in pairs if p.truth is not None and p.truth.form == "structures"), ())


def understand(folder: str | Path, settings: DataSettings, progress: Progress, *, masks: str | Path | None = None,
               parts: Sequence[Part | None] | None = None, prober: Prober | None = None) -> Understood:
    """Read every file of a data folder once and say what it is.

    parts: those that are read; None = all. prober: makes the probe of `survey`. Raises only what leaves nothing to be said:
    a folder that is missing, without images, or of an arrangement that stays open.
    """
    layout = find_layout(folder, masks)
    if settings.groups is not None and settings.groups.startswith("column:"):
        layout = apply_split_table(layout, settings.groups.removeprefix("column:"))
    if parts is not None:
        layout = replace(layout, pairs=tuple(p for p in layout.pairs if p.part in parts))
    layout, errors = split_planes(layout, settings)
    errors = [*layout.problems, *errors]
    if settings.unlabelled is None and (question := missing_truth(layout)) is not None:
        errors.append(question)
    found = survey(layout.pairs, settings, progress, prober(len(layout.pairs)) if prober is not None else None)
    errors += [e for several in found.bad.values() for e in several]
    settings, notes = _as_grey(found.good, settings)
    errors += channel_misfits(found.good, settings)
    encoding, more = _meaning(found.good, layout, settings)
    errors += more
    errors += _unlabelled_question(found.good, settings)
    errors += groups_across_parts(layout.pairs) if settings.groups != NONE else []
    return Understood(layout, settings, found, encoding, tuple(errors), (*layout.notes, *notes))


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


def split_planes(layout: Layout, settings: DataSettings) -> tuple[Layout, list[BiomaskError]]:
    """The layout with a pair a plane or time point, where --z or --time is "each"; and files whose header is broken."""
    if not settings.selection.splits:
        return layout, []
    pairs, errors = list[Pair](), list[BiomaskError]()
    for pair in layout.pairs:
        if pair.plane != WHOLE:
            pairs.append(pair)
            continue
        try:
            found = planes(open_stored(pair.image), settings.selection)
            _check_planes(pair, len(found), settings)
        except BiomaskError as error:
            errors.append(error)
            continue
        # Planes of a file belong together; of a single file they are held out as a block, as slices of a stack are.
        group = pair.group or (pair.name if len(layout.pairs) > 1 else None)
        pairs += [replace(pair, name=pair.name + plane.suffix, plane=plane, group=group) for plane in found]
    return replace(layout, pairs=tuple(pairs)), errors


def _check_planes(pair: Pair, count: int, settings: DataSettings) -> None:
    """Raise LabelsError for a mask of one plane where each of several is an image."""
    files = pair.truth.files if pair.truth is not None and pair.truth.form in ("mask", "structures") else ()
    for file in files if count > 1 else ():
        try:
            drawn = len(planes(open_stored(file, as_labels=True), settings.selection.of_labels()))
        except BiomaskError:
            continue  # found when it is read
        if drawn == 1:
            raise LabelsError(f"the mask has one plane, the image {count} planes", where=file,
                              fix="if it is of the brightest projection, say --z max; if it is of one plane, --z N")


def _as_grey(good: Sequence[Inspected], settings: DataSettings) -> tuple[DataSettings, list[str]]:
    """Colour images that hold no colour are one channel, if all images are such."""
    coloured = [i for i in good if i.image.grey]
    if settings.channels is not None or not coloured or any(i.image.channels != 1 and not i.image.grey for i in good):
        return settings, []
    count = "all" if len(coloured) == len(good) else f"{len(coloured)} of {len(good)}"
    said = f"{count} images are grey, but saved in colour: taken as one channel"
    return settings.model_copy(update={"channels": ("grey",)}), [said]


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


def _meaning(good: Sequence[Inspected], layout: Layout, settings: DataSettings) -> tuple[Encoding | None, list[BiomaskError]]:
    """What the labels mean, after masks were set aside that differ from the others by damage."""
    labelled = [i for i in good if i.labels]
    if not labelled:
        return None, []
    blurred = blurred_masks(labelled, settings)
    strange, many = mixed_forms(labelled)
    grey = grey_images([i for i in labelled if i not in blurred], settings)
    odd = {id(i) for i in (*blurred, *strange, *grey)}
    mixed = [*many, *_grey_errors(grey), *mixed_programs([i for i in labelled if id(i) not in odd], settings)]
    try:
        encoding = infer_encoding([i for i in labelled if id(i) not in odd] or labelled, settings, structures_of(layout.pairs))
    except LabelsError as error:
        where = error.where or common_folder(labelled)
        return None, [*_blurred_errors(blurred, labelled), *mixed, LabelsError(error.what, where=where, fix=error.fix)]
    if layout.unlabelled and settings.unlabelled == "background" and encoding.form == "values" and encoding.kind == "classes":
        named = {e.value: e.name for e in encoding.legend}
        if 0 not in named:  # images without labels become background, which the masks lack
            encoding = replace(encoding, legend=Legend.of_values([0, *named], named | {0: "background"}))
    if encoding.kind == "soft":
        encoding = _named_after(encoding, common_folder(labelled))
    mixed += strange_colours([i for i in labelled if id(i) not in odd], encoding)
    if encoding.kind == "classes" and len(encoding.legend) < 2:
        values = [e.value for e in encoding.legend]
        mixed.append(LabelsError(f"the only label value is {values}: there is nothing to tell apart", where=common_folder(labelled),
                                 fix="a mask has at least two values, e.g. 0 for background and 255 for the object"))
    return encoding, [*_blurred_errors(blurred, labelled), *mixed]


def _named_after(encoding: Encoding, folder: Path) -> Encoding:
    """A structure without a name is called like the folder of its masks, if that says more than "masks"."""
    entry = encoding.legend.entries[-1]
    if entry.name != "structure" or folder.name.casefold() in MASK_FOLDERS:
        return encoding
    return replace(encoding, legend=Legend((*encoding.legend.entries[:-1], replace(entry, name=folder.name))))


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


def _blurred_errors(blurred: Sequence[Inspected], labelled: Sequence[Inspected]) -> list[BiomaskError]:
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


def _grey_errors(grey: Sequence[Inspected]) -> list[BiomaskError]:
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
    return [LabelsError(f"{len(one)} masks hold 0 and 1 (such as {some([_name(i) for i in one], 3)}), {len(full)} hold 0 and 255 "
                        f"(such as {some([_name(i) for i in full], 3)})", where=common_folder([i for i, _ in masks]),
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


def _unlabelled_question(good: Sequence[Inspected], settings: DataSettings) -> list[BiomaskError]:
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
        errors.append(LabelsError(f"{len(gaps)} volumes have planes without labels between labelled ones: empty, or not "
                                  f"annotated? {shown}", where=common_folder([i for i, _ in gaps]),
                                  fix=answer.format("not trained on").strip(), names=[i.pair.name for i, _ in gaps]))
    return errors


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """Names in a line, at most so many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def raise_errors(found: Understood, folder: str | Path) -> None:
    """Raise all errors as one, or the only one."""
    if len(found.errors) == 1:
        raise found.errors[0]
    if found.errors:
        bad = len(found.survey.bad)
        files = f" ({bad} of {len(found.layout.pairs)} pairs cannot be read)" if bad else ""
        raise ManyErrors(f"{folder} cannot be used yet, for {len(found.errors)} reasons{files}:", found.errors,
                         fix=f"mend them and run the command again; 'biomask check {folder}' shows each image")
