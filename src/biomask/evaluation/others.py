"""What other predictions and a second annotator's labels mean, in the classes of the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from biomask.data.encoding import Encoding
from biomask.data.facts import Inspected
from biomask.data.inference import infer_encoding, infer_encoding_of, usual_form
from biomask.data.pairing import where_of
from biomask.data.understand import structures_of
from biomask.errors import BiomaskError, LabelsError, ManyErrors
from biomask.evaluation.cases import Case
from biomask.evaluation.meaning import Recorded, Understood, check_objects, inspected, shared_legend, truth_facts
from biomask.io import read_label_values
from biomask.labels import Legend
from biomask.progress import Progress


def legend_of_others(cases: Sequence[Case], understood: Understood, recorded: Recorded, names: Mapping[int, str],
                     progress: Progress) -> Legend:
    """All classes of the truth and of other predictions; arguments and errors as in `understand_truth`."""
    encoding = understood.encoding
    if encoding.kind == "multilabel":
        return understood.legend
    if encoding.kind == "instances":
        check_objects(cases, encoding, recorded, understood.settings)
        return understood.legend
    predicted, errors = set[int](), list[BiomaskError]()
    with progress.bar("reading the other masks") as bar:
        for n, case in enumerate(cases):
            try:
                predicted |= {int(v) for v in np.unique(read_label_values(case.prediction).array)}
            except BiomaskError as error:
                errors.append(error)
            bar.update((n + 1) / len(cases))
    if errors:
        raise ManyErrors(f"{len(errors)} of the other masks cannot be read:", errors)
    return shared_legend(encoding, predicted, names)


def understand_annotated(cases: Sequence[Case], understood: Understood, progress: Progress) -> tuple[Encoding, tuple[int, ...]]:
    """(what a second annotator's labels mean, for each entry of their legend the position of its class in that of the truth; of
    structures, for each of the truth its channel). cases: with the annotator's labels as their truth. Raises as `understand_truth`.
    """
    settings, truth = understood.settings, understood.encoding
    found, errors = list[Inspected](), list[BiomaskError]()
    with progress.bar("reading the annotator's labels") as bar:
        for n, case in enumerate(cases):
            size = understood.sizes[case.name]
            facts, wrong = truth_facts(case, size, settings, settings.ignore)
            found += [inspected(case, facts, size)] if facts else []
            errors += wrong
            bar.update((n + 1) / len(cases))
    if errors:
        raise errors[0] if len(errors) == 1 else ManyErrors(f"{len(errors)} labels of the annotator cannot be read:", errors)
    structures = structures_of([c.pair for c in cases])
    if structures or truth.kind == "multilabel":
        own = infer_encoding(found, settings, structures)
        return own, _same_structures(own, truth, where_of(cases[0].pair))
    single = [i.labels[0] for i in found]
    values = {v for f in single for v in f.counts} - {settings.ignore}
    if truth.kind != "instances" and usual_form(single) == truth.form == "values" and values <= set(truth.legend.values):
        own = truth
    else:
        told = {"kind": truth.kind} if truth.kind == "instances" else {}
        own = infer_encoding_of(single, settings.model_copy(update=told))
    return own, _positions(own.legend, understood.legend, where_of(cases[0].pair))


def _positions(own: Legend, legend: Legend, where: Path) -> tuple[int, ...]:
    """Where each class of one legend stands in another: by value, by name, or the only one beside the background."""
    values, names = list(legend.values), [e.name for e in legend]
    if set(own.values) <= set(values):
        return tuple(values.index(v) for v in own.values)
    if len(own) == 2 and len(legend) == 2:
        return 0, 1
    if {e.name for e in own.entries[1:]} <= set(names):
        return (0, *(names.index(e.name) for e in own.entries[1:]))
    raise LabelsError(f"the annotator's classes are {_shown(own)}, those of the truth {_shown(legend)}", where=where,
                      fix="give both the same values, or the same names")


def _same_structures(own: Encoding, truth: Encoding, where: Path) -> tuple[int, ...]:
    there, wanted = ([e.name for e in encoding.legend.entries[1:]] for encoding in (own, truth))
    if own.kind != truth.kind or set(there) != set(wanted):
        raise LabelsError(f"the annotator's labels are of {', '.join(there)}, the truth of {', '.join(wanted)}", where=where,
                          fix="give both a folder a structure, of the same names")
    return tuple(there.index(name) for name in wanted)


def _shown(legend: Legend) -> str:
    return ", ".join(f"{e.name} ({e.value})" for e in legend)
