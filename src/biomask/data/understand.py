"""`understand`: a folder and settings in; pairs, facts, the meaning of the labels and everything that is wrong out.

`check` prints what is found here, training stops at it: both see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from biomask.data.coco_layout import with_keypoints
from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.groups import NONE
from biomask.data.inference import infer_encoding
from biomask.data.layouts import find_layout
from biomask.data.mistakes import (
    blurred_errors,
    blurred_masks,
    channel_misfits,
    common_folder,
    grey_errors,
    grey_images,
    groups_across_parts,
    mixed_forms,
    mixed_programs,
    strange_colours,
    unlabelled_question,
)
from biomask.data.pairing import MASK_FOLDERS, Layout, Pair, Part, missing_truth
from biomask.data.split_table import apply_split_table
from biomask.data.survey import Prober, Survey, survey
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.io.files import open_stored
from biomask.labels import Legend
from biomask.progress import Progress
from biomask.recipe import DataSettings
from biomask.stored import WHOLE, planes


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
    if settings.keypoints:
        layout = with_keypoints(layout)
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
    errors += unlabelled_question(found.good, settings)
    errors += groups_across_parts(layout.pairs) if settings.groups != NONE else []
    return Understood(layout, settings, found, encoding, tuple(errors), (*layout.notes, *notes))


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


def _meaning(good: Sequence[Inspected], layout: Layout, settings: DataSettings) -> tuple[Encoding | None, list[BiomaskError]]:
    """What the labels mean, after masks were set aside that differ from the others by damage."""
    labelled = [i for i in good if i.labels]
    if not labelled:
        return None, []
    blurred = blurred_masks(labelled, settings)
    strange, many = mixed_forms(labelled)
    grey = grey_images([i for i in labelled if i not in blurred], settings)
    odd = {id(i) for i in (*blurred, *strange, *grey)}
    mixed = [*many, *grey_errors(grey), *mixed_programs([i for i in labelled if id(i) not in odd], settings)]
    try:
        encoding = infer_encoding([i for i in labelled if id(i) not in odd] or labelled, settings, structures_of(layout.pairs))
    except LabelsError as error:
        where = error.where or common_folder(labelled)
        return None, [*blurred_errors(blurred, labelled), *mixed, LabelsError(error.what, where=where, fix=error.fix)]
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
    return encoding, [*blurred_errors(blurred, labelled), *mixed]


def _named_after(encoding: Encoding, folder: Path) -> Encoding:
    """A structure without a name is called like the folder of its masks, if that says more than "masks"."""
    entry = encoding.legend.entries[-1]
    if entry.name != "structure" or folder.name.casefold() in MASK_FOLDERS:
        return encoding
    return replace(encoding, legend=Legend((*encoding.legend.entries[:-1], replace(entry, name=folder.name))))


def raise_errors(found: Understood, folder: str | Path) -> None:
    """Raise all errors as one, or the only one."""
    if len(found.errors) == 1:
        raise found.errors[0]
    if found.errors:
        bad = len(found.survey.bad)
        files = f" ({bad} of {len(found.layout.pairs)} pairs cannot be read)" if bad else ""
        raise ManyErrors(f"{folder} cannot be used yet, for {len(found.errors)} reasons{files}:", found.errors,
                         fix=f"mend them and run the command again; 'biomask check {folder}' shows each image")
