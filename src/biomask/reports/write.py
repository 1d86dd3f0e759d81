"""From the folders that the verbs leave to their `report.html`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.checkpoint import Model, load_model
from biomask.data.pairing import IMAGE_FOLDERS, index
from biomask.errors import BiomaskError
from biomask.evaluation.evaluate import Case, Judged, true_ids
from biomask.image import Image
from biomask.io import read_image, read_label_values
from biomask.io.files import write_text, writing
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.prediction.folder import selection_of
from biomask.prediction.overlap_tile import predict_array
from biomask.reports.demo import demo_report, typical_strip
from biomask.reports.evaluation import evaluation_report
from biomask.reports.examples import LONGEST, MOST_EXAMPLES, Example, shrunk
from biomask.reports.prediction import prediction_report
from biomask.reports.training import training_report
from biomask.stored import Plane
from biomask.training.resume import LogRow

if TYPE_CHECKING:
    import torch

    from biomask.checking import Checked
    from biomask.data.dataset import Dataset

#: Held-out images shown after a training, which is also what writing its report costs.
SHOWN = 4

#: Larger images are not predicted again for a picture, which would add to the time asked for.
MOST_PREDICTED = 600_000

#: Larger images are not shown, since a report must not take the memory that prediction was bounded to.
MOST_PIXELS = 16_000_000


def write_training_report(folder: Path, dataset: Dataset, held_out: Dataset | None, device: torch.device) -> Path:
    """`report.html` in a model folder, with predictions of a few held-out images by the weights that were kept."""
    model = load_model(folder)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    facts = {"images": f"{len(dataset)}, of which {len(held_out) if held_out else 0} held out", "steps": str(record["step"]),
             "time": f"{record['seconds'] / 60:.1f} minutes", "device": str(record["device"]),
             "state": "finished" if record["finished"] else f"stopped by {record['stopped_by']}",
             "torch": str(record["torch_version"])}
    model.network.to(device)
    few = [i for i, size in enumerate(held_out.facts.sizes) if np.prod(size) <= MOST_PREDICTED] if held_out else []
    examples = [_held_out_example(model, held_out, few[i], device) for i in _spread(len(few), SHOWN)] if held_out else []
    return _write(folder, training_report(model.header, read_log(folder / "log.csv"), facts=facts, examples=examples))


def _held_out_example(model: Model, held_out: Dataset, i: int, device: torch.device) -> Example:
    image, labels = held_out.image(i), held_out.labels(i)
    logits = predict_array(model.network, image.array, tile=512 if image.spatial_dims == 2 else 64,
                           statistics=model.normalization.statistics(image.array), device=device)
    return _example(held_out.pairs[i].name, image, logits.argmax(axis=0), labels.array, model.legend, labels.ignore)


def write_prediction_report(model: Model, out: Path) -> Path:
    """`report.html` in a folder of predictions, with a few of them shown."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    small = [(name, entry) for name, entry in record["images"].items()
             if np.prod(entry["size"]) <= MOST_PIXELS and Path(entry.get("file", "")).is_file()]
    chosen = [small[i] for i in _spread(len(small), MOST_EXAMPLES // 2)]
    examples = [_example(name, read_image(entry["file"], selection_of({"selection": record["selection"], **entry}),
                                          Plane(**entry["plane"])),
                         _ids(out / entry["mask"], model.legend), None, model.legend) for name, entry in chosen]
    return _write(out, prediction_report(record, examples))


def write_check_report(path: Path, checked: Checked) -> Path:
    """The contact sheet of a data folder."""
    from biomask.reports.check import check_report

    return _write(path.parent, check_report(checked), path.name)


def write_evaluation_report(path: Path, judged: Judged) -> Path:
    """An evaluation as HTML, with its images where they stand beside the truth, the worst first."""
    return _write(path.parent, evaluation_report(judged.scores, evaluation_examples(judged)), path.name)


def write_demo_report(out: Path, judged: Judged, comparison: Mapping[str, float], *, seconds: float) -> Path:
    """`report.html` of the demo, and its first picture as `example.png`."""
    header, evaluation = load_model(out / "model").header, judged.scores
    facts = {"images": f"{len(header.data_hashes) // 2} synthetic ones to train on, {evaluation['n_images']} held out",
             "time": f"{seconds / 60:.1f} minutes for everything"}
    examples = evaluation_examples(judged)
    strip = typical_strip(examples)
    if strip is not None:
        with writing(out / "example.png") as temporary:
            temporary.write_bytes(strip.data)
    return _write(out, demo_report(header=header, history=read_log(out / "model" / "log.csv"), evaluation=evaluation,
                                   baselines=comparison, examples=examples, facts=facts))


def evaluation_examples(judged: Judged) -> list[Example]:
    """The worst images of an evaluation, and the middle one; none where no images stand beside the truth."""
    cases = _with_images({c.name: c for c in judged.cases}, Path(judged.scores["truth"]))
    scored = sorted((i for i in judged.scores["per_image"] if i["name"] in cases and i["pixels"] <= MOST_PIXELS),
                    key=lambda i: (i["dice"] is None, i["dice"] or 0.0))
    chosen = scored if len(scored) <= MOST_EXAMPLES else [*scored[: MOST_EXAMPLES - 1], scored[len(scored) // 2]]
    examples = []
    for entry in chosen:
        case, legend = cases[entry["name"]], judged.legend
        predicted = _ids(case.prediction, legend)
        values, unknown = true_ids(case, judged.encoding, predicted.shape, judged.settings)
        image = _readable(case, judged)
        if image is not None and image.size == predicted.shape:
            example = Example(case.name, image, predicted, legend.ids(values), legend, entry["dice"], unknown)
            examples.append(shrunk(example, LONGEST))
    return examples


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


def read_log(path: Path) -> list[LogRow]:
    """The rows of a log.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        return [LogRow(int(row["step"]), float(row["seconds"]), float(row["lr"]), float(row["loss"]) if row["loss"] else None,
                       float(row["validation_score"]) if row["validation_score"] else None) for row in csv.DictReader(file)]


def _example(name: str, image: Any, predicted: npt.NDArray[Any], truth: npt.NDArray[Any] | None, legend: Legend,
             ignore: npt.NDArray[np.bool_] | None = None) -> Example:
    score = None if truth is None else mean(overlap(confusion_matrix(truth, predicted, len(legend), ignore)).dice[1:])
    return shrunk(Example(name, image, predicted, truth, legend, score, ignore), LONGEST)


def _ids(path: Path, legend: Legend) -> npt.NDArray[Any]:
    return legend.ids(read_label_values(path).array[0])


def _spread(count: int, most: int) -> Sequence[int]:
    """Up to `most` of `count` indices, evenly spread."""
    return range(count) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _write(folder: Path, html: str, name: str = "report.html") -> Path:
    write_text(folder / name, html)
    return folder / name
