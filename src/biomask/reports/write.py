"""From the folders that the verbs leave to their `report.html`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biomask.checkpoint import Model, load_model
from biomask.data.pairing import IMAGE_FOLDERS, index
from biomask.evaluation.evaluate import find_cases
from biomask.io import read_image, read_label_values, relative_stem
from biomask.io.files import write_text, writing
from biomask.labels import Legend
from biomask.metrics import confusion_matrix, mean, overlap
from biomask.prediction.overlap_tile import predict_array
from biomask.reports.demo import demo_report, typical_strip
from biomask.reports.evaluation import evaluation_report
from biomask.reports.examples import LONGEST, MOST_EXAMPLES, Example, shrunk
from biomask.reports.prediction import prediction_report
from biomask.reports.training import training_report
from biomask.training.resume import LogRow

if TYPE_CHECKING:
    import torch

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


def write_prediction_report(model: Model, images: Path, out: Path) -> Path:
    """`report.html` in a folder of predictions, with a few of them shown."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    files = {relative_stem(p, images).as_posix(): p for p in index(images).values()} if images.is_dir() else {images.stem: images}
    names = [name for name in record["images"] if name in files]
    small = [name for name in names if np.prod(record["images"][name]["size"]) <= MOST_PIXELS]
    examples = [_example(name, read_image(files[name]), _ids(out / "masks" / f"{name}.tif", model.legend), None, model.legend)
                for name in (small[i] for i in _spread(len(small), MOST_EXAMPLES // 2))]
    return _write(out, prediction_report(record, examples))


def write_evaluation_report(path: Path, evaluation: Mapping[str, Any]) -> Path:
    """An evaluation as HTML, with its images where they stand beside the truth, the worst first."""
    return _write(path.parent, evaluation_report(evaluation, evaluation_examples(evaluation)), path.name)


def write_demo_report(out: Path, evaluation: Mapping[str, Any], comparison: Mapping[str, float], *, seconds: float) -> Path:
    """`report.html` of the demo, and its first picture as `example.png`."""
    header = load_model(out / "model").header
    facts = {"images": f"{len(header.data_hashes) // 2} synthetic ones to train on, {evaluation['n_images']} held out",
             "time": f"{seconds / 60:.1f} minutes for everything"}
    examples = evaluation_examples(evaluation)
    strip = typical_strip(examples)
    if strip is not None:
        with writing(out / "example.png") as temporary:
            temporary.write_bytes(strip.data)
    return _write(out, demo_report(header=header, history=read_log(out / "model" / "log.csv"), evaluation=evaluation,
                                   baselines=comparison, examples=examples, facts=facts))


def evaluation_examples(evaluation: Mapping[str, Any]) -> list[Example]:
    """The worst images of an evaluation, and the middle one; none where no images stand beside the truth."""
    truth = Path(evaluation["truth"])
    folder = next((f / n for f in (truth, truth.parent) for n in IMAGE_FOLDERS if (f / n).is_dir()), None)
    if folder is None:
        return []
    images = index(folder)
    legend, ignore = Legend.from_json(evaluation["legend"]), evaluation["ignore"]
    cases = {c.name: c for c in find_cases(evaluation["predictions"], truth)[0] if c.name in images}
    scored = sorted((i for i in evaluation["per_image"] if i["name"] in cases and i["pixels"] <= MOST_PIXELS),
                    key=lambda i: (i["dice"] is None, i["dice"] or 0.0))
    chosen = scored if len(scored) <= MOST_EXAMPLES else [*scored[: MOST_EXAMPLES - 1], scored[len(scored) // 2]]
    examples = []
    for entry in chosen:
        case = cases[entry["name"]]
        values = read_label_values(case.truth).array[0]
        unknown = values == ignore if ignore is not None else None
        known = values if unknown is None else np.where(unknown, legend.values[0], values)
        example = Example(case.name, read_image(images[case.name]), _ids(case.prediction, legend), legend.ids(known), legend,
                          entry["dice"], unknown)
        examples.append(shrunk(example, LONGEST))
    return examples


def read_log(path: Path) -> list[LogRow]:
    """The rows of a log.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        return [LogRow(int(row["step"]), float(row["seconds"]), float(row["lr"]), float(row["loss"]) if row["loss"] else None,
                       float(row["validation_dice"]) if row["validation_dice"] else None) for row in csv.DictReader(file)]


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
