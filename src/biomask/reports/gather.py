"""Examples for reports, from data sets, folders of predictions and evaluations."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.checkpoint import MODEL_FILE, Model, load_model
from biomask.data.dataset import channels_of_labels
from biomask.data.pairing import IMAGE_FOLDERS, index
from biomask.errors import BiomaskError
from biomask.evaluation.evaluate import Case, Judged
from biomask.evaluation.meaning import class_ids, true_labels
from biomask.image import Image
from biomask.io import read_image, read_label_values
from biomask.labels import Labels, Legend
from biomask.prediction.folder import OBJECTS_FILE, selection_of
from biomask.prediction.maps import decide, predict_maps
from biomask.prediction.objects import find_objects
from biomask.prediction.one_image import predict_image
from biomask.prediction.options import PredictOptions
from biomask.prediction.work import Work, copies_of
from biomask.reports.blocks import Gallery
from biomask.reports.examples import (
    LONGEST,
    MOST_EXAMPLES,
    Example,
    compared,
    comparison_gallery,
    shrunk,
    side_by_side_gallery,
    worst_first,
)
from biomask.reports.prediction import Sizes
from biomask.reports.unusual import striking_first, unusual
from biomask.stored import Plane
from biomask.training.folds import fold_splits
from biomask.training.validation import AS_IT_IS, validation_tile

if TYPE_CHECKING:
    import torch

    from biomask.comparison.run import Compared
    from biomask.data.dataset import Dataset

#: Held-out images shown after a training, and the most that are looked at to find the worst of them.
SHOWN, MOST_SCORED = 6, 60

#: Pixels, of all copies and networks, that are predicted again for pictures, which adds to the time asked for.
MOST_PREDICTED = 2_400_000

#: Of a column of objects.csv.
UNITS = {"area_px": "px", "area_um2": "µm²", "volume_px": "voxels", "volume_um3": "µm³"}

#: Images that became wrong are shown up to this number.
MOST_CHANGED = 4

#: Fewer images than this are better predicted once each, if that makes more.
ENOUGH = 12

#: Larger images are not shown, since a report must not take the memory that prediction was bounded to.
MOST_PIXELS = 16_000_000


@dataclass(frozen=True)
class HeldOut:
    """Held-out images, predicted again after a training."""

    examples: tuple[Example, ...] = ()
    """Some of them: the worst, the middle one and the best, the worst first."""
    scores: tuple[tuple[str, float | None], ...] = ()
    """Name and score of each that was predicted."""
    of: int = 0
    """Images held out."""
    plain: bool = False
    """Whether copies were left out to save time, though the model takes the mean of some."""


def held_out_examples(model: Model, held_out: Dataset, device: torch.device, shown: int = SHOWN,
                      most: int | None = None) -> HeldOut:
    """As many held-out images as there is time for, spread evenly, predicted and scored; pictures of the worst of them.

    most: pixels that are predicted, all copies and networks together.
    """
    budget = (MOST_PREDICTED if most is None else most) // model.header.members
    sizes = [prod(s) for s in held_out.facts.sizes]
    small = [i for i, size in enumerate(sizes) if size <= budget // min(shown, 4)]
    copies = copies_of(model, PredictOptions())
    once, several = _affordable(small, sizes, budget), _affordable(small, sizes, budget // len(copies))
    plain = len(once) > len(several) and len(several) < ENOUGH
    model.network.to(device)
    found = worst_first([_held_out_example(model, held_out, i, AS_IT_IS if plain else copies, device)
                         for i in (once if plain else several)])
    scores = sorted((e.name, e.score) for e in found)
    return HeldOut(tuple(_telling(found, shown)), tuple(scores), len(held_out), plain and bool(found))


def _affordable(images: Sequence[int], sizes: Sequence[int], budget: int) -> Sequence[int]:
    """As many of the images as their pixels fit, spread evenly."""
    for most in range(min(len(images), MOST_SCORED), 0, -1):
        chosen = [images[n] for n in spread(len(images), most)]
        if sum(sizes[i] for i in chosen) <= budget:
            return chosen
    return ()


def _telling(ordered: Sequence[Example], shown: int) -> Sequence[Example]:
    """Of examples, worst first: the worst, and if there is room the middle one and the best."""
    if len(ordered) <= shown:
        return ordered
    if shown < 3:
        return ordered[:shown]
    scored = [e for e in ordered if e.score is not None] or list(ordered)
    worst = scored[: shown - 2]
    rest = [e for e in scored if all(e is not w for w in worst)]
    return [*worst, *([rest[len(rest) // 2], rest[-1]] if len(rest) > 1 else rest)]


def _held_out_example(model: Model, held_out: Dataset, i: int, copies: Sequence[Any], device: torch.device) -> Example:
    image, labels, task = held_out.image(i), held_out.labels(i), model.task
    if model.is_detector:
        return _detected_example(model, held_out.pairs[i].name, image, labels, device)
    maps = predict_maps(model.network, image.array, task, validation_tile(image.size, model.network), copies=copies,
                        statistics=model.normalization.statistics(image.array), device=device)
    decided, true = decide(maps, task, model.cut), channels_of_labels(labels)
    example = Example(held_out.pairs[i].name, image, decided, true if task.kind == "multilabel" else true[0], model.legend, None,
                      labels.ignore, task.kind)
    if task.kind == "instances":
        found = find_objects(model, decided, maps)[0]
        example = replace(example, predicted=found.ids)
        if len(model.legend) > 2:
            example = replace(example, predicted_classes=found.classes[found.ids], true_classes=true[1])
    return shrunk(compared(example), LONGEST)


def _detected_example(model: Model, name: str, image: Image, labels: Labels, device: torch.device) -> Example:
    found = predict_image(Work(model, model.network, device, PredictOptions(), ()), image).found[0]
    ids, *classes = channels_of_labels(labels)
    example = Example(name, image, found.ids, ids, model.legend, None, labels.ignore, "instances")
    if len(model.legend) > 2:
        example = replace(example, predicted_classes=found.classes[found.ids], true_classes=classes[0])
    return shrunk(compared(example), LONGEST)


def fold_examples(folder: Path, model: Model, dataset: Dataset, device: torch.device) -> HeldOut:
    """The same of a cross-validation: of some folds the worst of the images that each held out, predicted by its own network."""
    members, settings = model.header.members, model.header.recipe.training
    splits = fold_splits([p.name for p in dataset.pairs], dataset.facts.groups, members, settings.seed)
    examples, scores, plain = list[Example](), list[tuple[str, float | None]](), False
    chosen = [n for n in spread(members, SHOWN) if (folder / "folds" / str(n + 1) / MODEL_FILE).is_file()]
    for n in chosen:
        own = held_out_examples(load_model(folder / "folds" / str(n + 1)), dataset.subset(splits[n].validation), device, shown=1,
                                most=MOST_PREDICTED // len(chosen))
        examples += [replace(e, name=f"{e.name} (fold {n + 1})") for e in own.examples]
        scores += own.scores
        plain = plain or own.plain
    return HeldOut(tuple(worst_first(examples)), tuple(scores), len(dataset), plain)


def prediction_examples(model: Model, out: Path, record: Mapping[str, Any]) -> list[Example]:
    """Some of the images of a folder of predictions: those with warnings and the most unusual ones first, then usual ones."""
    images = record["images"]
    far = unusual(images)
    ordered = [name for name in striking_first(images)
               if prod(images[name]["size"]) <= MOST_PIXELS and Path(images[name].get("file", "")).is_file()]
    most = MOST_EXAMPLES // 2
    usual = sorted(ordered[most - 2:], key=lambda n: far[n].score)[:2]
    chosen = ordered if len(ordered) <= most else [*ordered[: most - 2], *usual]
    found = []
    for name in chosen:
        example = _predicted_example(model, out, record, name, images[name])
        remarks = [example.note, far[name].reason, *images[name].get("warnings", ())[:1]]
        found.append(replace(example, note=" · ".join(filter(None, remarks))))
    return found


def object_sizes(out: Path) -> Sizes | None:
    """Area or volume of every object in objects.csv, in micrometres where all of them have it; None without any."""
    path = out / OBJECTS_FILE
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        named = [c for c in ("area_px", "area_um2", "volume_px", "volume_um3") if c in columns]
        places = [columns.index(c) for c in named]
        values = [[float(row[p]) if row[p] else 0.0 for p in places] for row in rows]
    for column in reversed(range(len(named))):
        found = tuple(row[column] for row in values)
        if found and min(found) > 0:
            return Sizes(found, UNITS[named[column]])
    return None


def _predicted_example(model: Model, out: Path, record: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> Example:
    image = read_image(entry["file"], selection_of({"selection": record["selection"], **entry}), Plane(**entry["plane"]))
    kind, legend, labels = model.task.kind, model.legend, entry.get("labels") or ()
    if kind == "multilabel":
        below = str(entry["mask"]).removeprefix(f"masks/{legend.entries[1].name}/")
        found = np.stack([_values(out / "masks" / e.name / below) > 0 for e in legend.entries[1:]])
        return shrunk(Example(name, image, found, None, legend, None, kind="multilabel"), LONGEST)
    mask = legend.ids(_values(out / entry["mask"]))
    if kind == "classes" or not labels or not (out / labels[0]).is_file():
        return shrunk(Example(name, image, mask, None, legend, None), LONGEST)
    count = int(entry["objects"])
    return shrunk(Example(name, image, _values(out / labels[0]), None, legend, None, kind="instances",
                          predicted_classes=mask if len(legend) > 2 else None,
                          note=f"{count:,} object{'' if count == 1 else 's'}"), LONGEST)


def evaluation_examples(judged: Judged) -> list[Example]:
    """The worst images of an evaluation, and the middle one; none where no images stand beside the truth."""
    cases = _with_images({c.name: c for c in judged.cases}, Path(judged.scores["truth"]))
    by = "ap50" if judged.encoding.kind == "instances" else "dice"
    scored = sorted((i for i in judged.scores["per_image"] if i["name"] in cases and i["pixels"] <= MOST_PIXELS),
                    key=lambda i: (i[by] is None, i[by] or 0.0))
    chosen = scored if len(scored) <= MOST_EXAMPLES else [*scored[: MOST_EXAMPLES - 1], scored[len(scored) // 2]]
    examples = []
    for entry in chosen:
        case = cases[entry["name"]]
        image = _readable(case, judged)
        example = None if image is None else _judged_example(case, judged, image)
        if example is not None:
            examples.append(shrunk(compared(example), LONGEST))
    return examples


def changed_pictures(judged: Judged) -> tuple[Gallery, ...]:
    """The images that became wrong against other predictions, the largest fall first, with both; none without others."""
    wrong = [e["name"] for e in (judged.scores.get("paired") or {}).get("newly_wrong") or ()]
    mine, others = _with_images({c.name: c for c in judged.cases}, Path(judged.scores["truth"])), {c.name: c for c in judged.others}
    pixels = {r["name"]: r["pixels"] for r in judged.scores["per_image"]}
    found = list[Gallery]()
    for name in wrong:
        if name not in mine or name not in others or pixels[name] > MOST_PIXELS or len(found) == MOST_CHANGED:
            continue
        image = _readable(mine[name], judged)
        other = replace(others[name], pair=mine[name].pair)
        pair = [] if image is None else [_judged_example(case, judged, image) for case in (mine[name], other)]
        if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
            found.append(side_by_side_gallery(*(shrunk(compared(e), LONGEST) for e in pair if e is not None)))
    return tuple(found)


def compared_pictures(comparison: Compared) -> tuple[Gallery, ...]:
    """The images on which the sides of a comparison differ most, then the worst one of each, with what every side made of them."""
    sides, rows = comparison.sides, {i["name"]: i for i in comparison.record["images"]}
    if not sides:
        return ()
    first = next(iter(sides.values()))
    pixels = {r["name"]: r["pixels"] for r in first.scores["per_image"]}
    scored = {name: [float(row[s]) for s in sides if row.get(s) is not None] for name, row in rows.items()
              if pixels.get(name, MOST_PIXELS + 1) <= MOST_PIXELS}
    spread_out = sorted((n for n, v in scored.items() if len(v) > 1), key=lambda n: min(scored[n]) - max(scored[n]))
    worst = [min((n for n in scored if rows[n].get(side) is not None), key=partial(_value, rows, side), default=None)
             for side in sides]
    chosen = [n for n in dict.fromkeys((*spread_out[:MOST_CHANGED // 2], *worst)) if n is not None][:MOST_CHANGED]
    found = list[Gallery]()
    for name in chosen:
        drawn = {side: _side_example(judged, name) for side, judged in sides.items()}
        known = {side: example for side, example in drawn.items() if example is not None}
        if known:
            found.append(comparison_gallery(name, {s: shrunk(compared(e), LONGEST) for s, e in known.items()}))
    return tuple(found)


def _value(rows: Mapping[str, Mapping[str, Any]], side: str, name: str) -> float:
    return float(rows[name][side])


def _side_example(judged: Judged, name: str) -> Example | None:
    """An image as one side predicted it; None where it was not, or cannot be read."""
    case = _with_images({c.name: c for c in judged.cases}, Path(judged.scores["truth"])).get(name)
    image = None if case is None else _readable(case, judged)
    return None if case is None or image is None else _judged_example(case, judged, image)


def _judged_example(case: Case, judged: Judged, image: Image) -> Example | None:
    """None where the image is of another size."""
    kind, legend = judged.encoding.kind, judged.legend
    if kind == "multilabel":
        predicted = np.stack([_values(path) > 0 for path in case.structures])
    elif kind == "instances" and case.objects is not None:
        predicted = _values(case.objects)
    else:
        predicted = legend.ids(_values(case.prediction))
    size = predicted.shape[1:] if kind == "multilabel" else predicted.shape
    if image.size != size:
        return None
    labels = true_labels(case, judged.encoding, size, judged.settings)
    if kind == "multilabel":
        return Example(case.name, image, predicted, labels.array, legend, None, labels.ignore, "multilabel")
    classes = class_ids(labels, judged.encoding)
    if kind != "instances":
        true = legend.ids(judged.encoding.legend.values_of(classes))
        return Example(case.name, image, predicted, true, legend, None, labels.ignore)
    own = _classes_of(case, legend) if len(legend) > 2 else None
    return Example(case.name, image, predicted, labels.array, legend, None, labels.ignore, "instances",
                   predicted_classes=own, true_classes=classes if own is not None else None)


def _classes_of(case: Case, legend: Legend) -> npt.NDArray[Any] | None:
    """Class ids of the predicted pixels; None where there are ids alone."""
    try:
        return None if case.prediction == case.objects else legend.ids(_values(case.prediction))
    except BiomaskError:
        return None


def _with_images(cases: Mapping[str, Case], truth: Path) -> dict[str, Case]:
    """Cases with their images: those of the folder of truth, or of the folder of images beside it."""
    found = {name: c for name, c in cases.items()
             if c.pair.image != c.prediction and (c.pair.truth is None or c.pair.image not in c.pair.truth.files)}
    folder = next((truth.parent / n for n in IMAGE_FOLDERS if (truth.parent / n).is_dir()), None)
    if found or folder is None:
        return found
    images = index(folder)
    files = {name: name.removesuffix(c.pair.plane.suffix) for name, c in cases.items()}
    return {name: replace(c, pair=replace(c.pair, image=images[files[name]])) for name, c in cases.items() if files[name] in images}


def _readable(case: Case, judged: Judged) -> Image | None:
    """The image of a case; None where it cannot be read without more flags than an evaluation has."""
    try:
        return read_image(case.pair.image, judged.settings.selection, case.pair.plane)
    except BiomaskError:
        return None


def _values(path: Path) -> npt.NDArray[Any]:
    return np.asarray(read_label_values(path).array[0])


def spread(count: int, most: int) -> Sequence[int]:
    """Up to `most` of `count` indices, evenly spread; of one the middle.

    >>> list(spread(3, 4)), spread(9, 3), spread(5, 1)
    ([0, 1, 2], [0, 4, 8], [2])
    """
    if count <= most:
        return range(count)
    return [count // 2] if most == 1 else [round(i * (count - 1) / (most - 1)) for i in range(most)]
