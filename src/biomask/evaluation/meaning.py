"""What the truth means, and whether the predictions speak of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import Encoding
from biomask.data.facts import ImageFacts, Inspected, LabelFacts
from biomask.data.inference import ONE_PIECE, SMALLEST_OBJECT, infer_encoding, infer_encoding_of, usual_form
from biomask.data.limits import MOST_CLASSES
from biomask.data.mistakes import blurred_error
from biomask.data.pairing import where_of
from biomask.data.survey import label_facts
from biomask.data.truth import read_truth
from biomask.data.understand import structures_of
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.evaluation.cases import Case
from biomask.evaluation.records import recorded_ignore, recorded_kind, recorded_legend
from biomask.io import read_label_values
from biomask.labels import Labels, Legend
from biomask.progress import Progress
from biomask.recipe import DataSettings


@dataclass(frozen=True)
class Recorded:
    """What `predict` noted of the model; None where nothing was."""

    legend: Legend | None = None
    kind: str | None = None
    ignore: int | None = None

    @classmethod
    def beside(cls, predictions: str | Path) -> Recorded:
        """From the run.json of a folder of predictions."""
        return cls(recorded_legend(predictions), recorded_kind(predictions), recorded_ignore(predictions))


@dataclass(frozen=True)
class Understood:
    """What the truth means, and how it is read."""

    encoding: Encoding
    legend: Legend
    """All classes of truth and predictions."""
    settings: DataSettings
    """As given, completed by what `predict` recorded."""
    sizes: Mapping[str, tuple[int, ...]]
    """Spatial shape of each prediction, by the name of its case."""


def understand_truth(cases: Sequence[Case], settings: DataSettings, recorded: Recorded, names: Mapping[int, str],
                     progress: Progress) -> Understood:
    """After checking that truth and predictions speak of the same.

    names: value → class name. Raises ManyErrors listing files that cannot be read, and LabelsError.
    """
    assumed = recorded.ignore if settings.ignore is None else None
    ignore = settings.ignore if assumed is None else assumed
    found, predicted, errors = list[Inspected](), set[int](), list[BiomaskError]()
    sizes = dict[str, tuple[int, ...]]()
    with progress.bar("reading masks") as bar:
        for n, case in enumerate(cases):
            size: tuple[int, ...] | None = None
            try:
                prediction = read_label_values(case.prediction)
                predicted |= {int(v) for v in np.unique(prediction.array)}
                size = sizes[case.name] = prediction.size
            except BiomaskError as error:
                errors.append(error)
            facts, wrong = truth_facts(case, size, settings, ignore)
            found += [inspected(case, facts, size or (1, 1))] if facts else []
            errors += wrong
            bar.update((n + 1) / len(cases))
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} masks cannot be read:", errors)
    structures = structures_of([c.pair for c in cases])
    if structures:
        encoding = infer_encoding(found, settings, structures)
        return Understood(encoding, encoding.legend, settings, sizes)
    single = [i.labels[0] for i in found]
    if assumed is not None and usual_form(single) in ("values", "fractions"):
        settings = settings.model_copy(update={"ignore": assumed})
        progress.say(f"pixels of value {assumed} are not judged, as they were not trained on; --ignore VALUE names another value")
    encoding = encoding_of(single, settings, recorded.legend, recorded.kind)
    if encoding.kind == "instances":
        check_objects(cases, encoding, recorded, settings)
        encoding = _in_words_of(encoding, recorded.legend)
        return Understood(encoding, encoding.legend, settings, sizes)
    return Understood(encoding, shared_legend(encoding, predicted, names), settings, sizes)


def truth_facts(case: Case, size: tuple[int, ...] | None, settings: DataSettings,
           ignore: int | None) -> tuple[tuple[LabelFacts, ...], list[BiomaskError]]:
    """(the facts of the truth, one a structure; none where there is no truth, what is wrong with it)."""
    where = where_of(case.pair)
    try:
        raws = read_truth(case.pair, size or (1, 1), settings)
        if case.pair.truth is None:
            return (), []
        facts = tuple(label_facts(raw, ignore, where) for raw in raws)
        blurred = blurred_error(facts[0], settings, where) if len(facts) == 1 else None
        return facts, [] if blurred is None else [blurred]
    except BiomaskError as error:
        # Without its prediction, a size that differs is no news.
        return (), [error] if size is not None or not isinstance(error, LabelsError) else []


def inspected(case: Case, labels: tuple[LabelFacts, ...], size: tuple[int, ...]) -> Inspected:
    """Facts of labels as training has them; of the image only its size matters here."""
    image = ImageFacts(size, "zyx"[-len(size):], 1, "uint8", None, (), 0.0, 0.0, 0, 0.0, False)
    return Inspected(case.pair, image, labels, {})


def shared_legend(encoding: Encoding, predicted: set[int], names: Mapping[int, str]) -> Legend:
    """All values of both sides. Raises LabelsError where they have none in common."""
    true = set(encoding.legend.values)
    if len(predicted - set(names)) > MOST_CLASSES:
        raise LabelsError(f"{len(predicted - set(names))} values in the predictions are too many for classes: images rather than "
                          "masks?", fix="evaluate class masks; of ids of objects the truth has to be ids too")
    predicted |= set(names)
    if (true - {0}) and (predicted - {0}) and not (true - {0}) & (predicted - {0}):
        raise LabelsError(f"the truth has values {sorted(true)[:10]}, the predictions {sorted(predicted)[:10]}: "
                          "no class is in both", fix="relabel one side so that a class has the same value in both")
    shown = {e.value: e.name for e in encoding.legend if e.value not in names} | dict(names)
    return Legend.of_values(sorted(true | predicted), shown)


def encoding_of(found: Sequence[LabelFacts], settings: DataSettings, recorded: Legend | None,
                kind: str | None = None) -> Encoding:
    """What the truth means. What `predict` recorded comes first: its values, colours and names are classes, but for a model
    of instances each value of a truth whose values are one piece each is an object."""
    form = usual_form(found)
    pieces = form == "objects" or _are_pieces(found)
    if settings.kind is None and kind == "instances" and pieces and form != "fractions":
        settings = settings.model_copy(update={"kind": "instances"})
    if settings.kind == "instances":
        return infer_encoding_of(found, settings)
    values = {v for f in found for v in f.counts} - {settings.ignore}
    strange = values - set(recorded.values if recorded is not None else ())
    if form == "values" and settings.values is None and len(strange) > MOST_CLASSES and not pieces:
        raise LabelsError(f"{len(strange)} values in the truth are too many for classes: images rather than masks, or ids of "
                          "objects?", fix="evaluate class masks; where they are ids of objects, say --labels instances")
    if recorded is not None and form == "colours" and settings.legend is None:
        colours = {e.colour: e for e in recorded}
        legend = {f"#{bytes(c).hex()}": e.name for c, e in colours.items()}
        encoding = infer_encoding_of(found, settings.model_copy(update={"kind": "classes", "legend": legend}))
        entries = sorted((colours[c] for c in encoding.colours), key=lambda e: e.value)
        return replace(encoding, colours=tuple(e.colour for e in entries), legend=Legend(tuple(entries)))
    if recorded is not None and form == "objects":
        shown = tuple(e.name for e in list(recorded)[1:])
        strangers = sorted({c for f in found for c in f.classes.values()} - set(shown))
        if len(shown) > 1 and (strangers or any(len(f.classes) < f.objects for f in found)):
            if not any(f.classes for f in found):
                return infer_encoding_of(found, settings)
            what = f"are of {', '.join(strangers[:8])}" if strangers else "have no class"
            raise LabelsError(f"outlines {what}, the predictions of {', '.join(shown)}", fix="give both sides the same class names")
        return Encoding("classes", "objects, by the names of their classes", recorded, "objects", names=shown)
    if form == "values" and settings.kind is None and recorded is not None and values <= set(recorded.values):
        settings = settings.model_copy(update={"kind": "classes"})
    return infer_encoding_of(found, settings)


def _are_pieces(found: Sequence[LabelFacts]) -> bool:
    """Whether values are one piece each, as ids are, and larger than the single pixels of a photograph."""
    sizes = [f.areas[1] for f in found if f.pieces]
    return sum(f.objects for f in found) >= ONE_PIECE * sum(f.pieces for f in found) and (
        not sizes or float(np.median(sizes)) > SMALLEST_OBJECT)


def check_objects(cases: Sequence[Case], encoding: Encoding, recorded: Recorded, settings: DataSettings) -> None:
    """Raise LabelsError where objects are asked for and the predictions are none."""
    told = "--labels instances" if settings.kind == "instances" else "the truth looks like instances"
    if any(c.objects is None for c in cases):
        lacking = [c.name for c in cases if c.objects is None]
        some = "" if len(lacking) == len(cases) else f" for {', '.join(lacking[:5])}"
        raise LabelsError(f"{told} ({encoding.reason}), and the predictions are class masks without ids of objects{some}",
                          fix="give ids of objects (labels/ of a model of instances), or if the truth holds classes, say "
                              "--labels classes")
    if recorded.kind is not None or any(c.objects != c.prediction for c in cases):
        return
    from scipy.ndimage import label

    objects = [read_label_values(c.prediction).array[0] for c in cases]
    if all(len(set(np.unique(o).tolist()) - {0}) < 2 for o in objects) and any(label(o)[1] > 1 for o in objects):
        raise LabelsError(f"{told} ({encoding.reason}), and the predictions have one value in several pieces",
                          where=cases[0].prediction.parent, fix="give each predicted object an id of its own")


def _in_words_of(encoding: Encoding, recorded: Legend | None) -> Encoding:
    """The classes of objects in the values and names of the prediction; all of one class where it has others."""
    if recorded is not None and len(recorded) == len(encoding.legend) and (
            len(recorded) == 2 or [e.name for e in recorded][1:] == [e.name for e in encoding.legend][1:]):
        return replace(encoding, legend=recorded)
    if len(encoding.legend) == 2:
        return encoding
    return replace(encoding, names=(), legend=Legend.of_values([0, 1], {1: "object"}))


def true_labels(case: Case, encoding: Encoding, size: tuple[int, ...], settings: DataSettings) -> Labels:
    """The truth of an image at the size of the prediction; planes and images without labels are unknown where the settings say
    so."""
    where = where_of(case.pair)
    if encoding.kind == "multilabel" and case.pair.truth is None:
        labels = Labels(np.zeros((len(encoding.full), *size), np.bool_), "multilabel", case.name, encoding.legend)
    else:
        labels = encoding.labels(read_truth(case.pair, size, settings), case.name, where)
    if settings.unlabelled != "ignore":
        return labels
    inside = np.asarray(labels.array.any(axis=0) if encoding.kind == "multilabel" else class_ids(labels, encoding))
    if (there := inside.any(axis=(-2, -1), keepdims=True)).all():
        return labels
    empty = np.broadcast_to(~there, inside.shape)
    return replace(labels, ignore=empty.copy() if labels.ignore is None else labels.ignore | empty)


def class_ids(labels: Labels, encoding: Encoding) -> npt.NDArray[Any]:
    """Class ids (*S), positions in the legend, of labels of any kind but multilabel; of objects, their classes."""
    if labels.kind != "instances":
        return encoding.class_ids(labels)
    if labels.classes is None:
        return (labels.array > 0).astype(np.uint8)
    ids, flat = np.unique(labels.array, return_inverse=True)
    table = np.array([labels.classes.get(int(i), 0) if i else 0 for i in ids], np.uint8)
    return np.asarray(table[flat.reshape(labels.array.shape)])
