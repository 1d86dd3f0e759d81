"""`predict`: a model and a folder of images in; masks, objects, outlines, tables and probabilities out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import biomask
from biomask.allocator import freed_memory_kept
from biomask.checkpoint import Model
from biomask.data.survey import file_hash
from biomask.device import describe_device
from biomask.errors import BiomaskError, DiskFullError, ManyErrors, OutOfMemoryError
from biomask.image import Image
from biomask.io import read_image
from biomask.io.files import open_stored
from biomask.prediction.attention import Gates
from biomask.prediction.fits import channels_by_name, require_fit
from biomask.prediction.folder import IMAGES_FILE, OBJECTS_FILE, Job, Wanted, as_json, part_jobs, plan_jobs
from biomask.prediction.found_files import write_all_found
from biomask.prediction.objects import ObjectsFile, measure_found
from biomask.prediction.one_image import Predicted, class_pixels, predict_image
from biomask.prediction.options import PredictOptions
from biomask.prediction.possible import require_possible
from biomask.prediction.record import Record
from biomask.prediction.remarks import conclude, differences_of
from biomask.prediction.results import write_results
from biomask.prediction.summary import summary_of, write_images_csv
from biomask.prediction.work import Work
from biomask.progress import Bar, Progress, Silent
from biomask.stored import Selection
from biomask.words import count


@dataclass(frozen=True)
class PredictResult:
    """What was done."""

    out: Path
    done: tuple[str, ...]
    """Names predicted in this run."""
    skipped: tuple[str, ...]
    """Names that were there from an earlier run."""
    seconds: float
    warnings: tuple[str, ...] = ()
    """What must be known of the images, those of earlier runs included."""


@freed_memory_kept()
def predict(model: Model, images: str | Path, out: str | Path, options: PredictOptions | None = None, *,
            jobs: Sequence[Job] | None = None, progress: Progress | None = None) -> PredictResult:
    """Predict every image below `images` (or the one file) into `out`; run again, it does what is missing.

    jobs: images chosen by name in place of those below `images`.

    Raises ManyErrors after all good images are done, listing the failed ones, and DiskFullError at once.
    """
    options, progress, out = options or PredictOptions(), progress or Silent(), Path(out)
    began = time.perf_counter()
    require_possible(model, options)
    selection = _selection(model, options)
    structures = tuple(e.name for e in model.legend)[1:] if model.task.kind == "multilabel" else ()
    wanted = Wanted(options.probabilities, options.objects, structures, options.attention, model.is_detector)
    if jobs is not None:
        jobs, broken = list(jobs), list[tuple[Job, BiomaskError]]()
    elif options.part is not None:
        jobs, broken = part_jobs(Path(images), options.part, out, selection, wanted)
    else:
        jobs, broken = plan_jobs(Path(images), out, selection, wanted, progress)
    work = Work.of(model, options)
    if options.attention:
        Gates(work.network)  # refuses a model without them before any work is done
    progress.say(f"device: {describe_device(work.device)}")
    record = Record(out, _facts(work, selection), overwrite=options.overwrite)
    same = _asked(options)
    todo = [j for j in jobs if not record.has(j, selection, same)]
    missing = {j.name for j in todo}
    skipped = tuple(j.name for j in jobs if j.name not in missing)
    if skipped:
        progress.say(f"done already: {len(skipped)} of {count(len(jobs), 'image')}")
    if len(work.copies) > 1 and todo:
        progress.say(f"predictions are the mean over {len(work.copies)} mirrored or turned copies (--augment none is "
                     f"{len(work.copies)} times as fast)")
    errors: list[BiomaskError] = [_named(error, job) for job, error in broken]
    for (job, _), error in zip(broken, errors, strict=True):
        record.failed(job.name, str(error))
    table = None
    try:
        if options.objects:
            table = ObjectsFile(out / OBJECTS_FILE, model, micrometres=model.header.spacing is not None or _calibrated(jobs),
                                probability=work.keeps_maps, done={n for n in record.content["images"] if n not in missing})
        errors += _predict_all(Folder(work, selection, record, table), todo, progress)
    finally:
        if table is not None:
            table.close()
        record.content["seconds"] = round(time.perf_counter() - began, 3)
        record.write()
        write_images_csv(out / IMAGES_FILE, record.content["images"])
        if model.is_detector:
            write_all_found(out, model, record.content["images"])
    conclude(record.content, model, progress, new=[j.name for j in todo])
    record.write()
    if errors:
        others = f", the others are in {out}" if len(errors) < len(jobs) + len(broken) else ""
        raise ManyErrors(f"{len(errors)} of {len(todo) + len(broken)} images failed{others}:", errors,
                         fix="mend them and run the same command again: only what is missing is done")
    return PredictResult(out, tuple(j.name for j in todo), skipped, time.perf_counter() - began, tuple(record.content["warnings"]))


@dataclass(frozen=True)
class Folder:
    """What the images of a run share: how they are predicted, and where it is noted."""

    work: Work
    selection: Selection
    record: Record
    table: ObjectsFile | None


def _predict_all(folder: Folder, todo: list[Job], progress: Progress) -> list[BiomaskError]:
    """Predict images one after the other; the errors of those that failed. Raises DiskFullError at once."""
    errors = list[BiomaskError]()
    with progress.bar("predicting") as bar:
        for n, job in enumerate(todo):
            try:
                facts = _predict_one(folder, job, partial(_show, bar, n, len(todo), job.name))
                folder.record.done(job.name, facts)
            except DiskFullError:
                raise
            except (BiomaskError, MemoryError, RuntimeError) as error:
                errors.append(_named(error, job))
                folder.record.failed(job.name, str(errors[-1]))
            bar.update((n + 1) / len(todo), job.name)
    return errors


def _show(bar: Bar, n: int, images: int, name: str, done: int, of: int) -> None:
    bar.update((n + done / of) / images, name)


def _predict_one(folder: Folder, job: Job, done: Callable[[int, int], None]) -> dict[str, Any]:
    """Read, predict, measure and write one image; its entry of run.json."""
    began, work = time.perf_counter(), folder.work
    model, options = work.model, work.options
    image, channels = _read(job, folder.selection, model, options)
    predicted = predict_image(work, image, done)
    tables = measure_found(predicted.found, image, model) if options.objects else None
    if folder.table is not None and tables is not None:
        folder.table.add(job.name, tables)
    write_results(job, image, predicted, model)
    outside = differences_of(model.header, image, predicted, resampled=options.rescale is not None)
    pixels = class_pixels(work, predicted)
    finite = np.count_nonzero(np.isfinite(image.array)) if image.array.dtype.kind == "f" else image.array.size
    return {"not_finite": int(image.array.size - finite),
            "file": str(job.source), "sha256": folder.record.hash_of(job.source), "plane": as_json(job.plane),
            "mask": job.mask_name, "labels": [p.relative_to(job.out).as_posix() for p in job.labels],
            "objects": sum(len(f.classes) - 1 for f in predicted.found) if options.objects else None,
            "selection": as_json(folder.selection), "channels": None if channels is None else list(channels),
            "size": list(image.size), "spacing": None if image.spacing is None else dict(image.spacing),
            **_asked(options), "factors": None if predicted.factors is None else list(predicted.factors),
            "tiling_difference": predicted.tiling_difference, "tile": list(predicted.tile), **_found(predicted),
            "seconds": round(time.perf_counter() - began, 3),
            "class_pixels": {str(e.value): pixels[k] for k, e in enumerate(model.legend)},
            "summary": summary_of(model, image, pixels, tables),
            "outside": outside, "warnings": list(outside.values())}


def _found(predicted: Predicted) -> dict[str, Any]:
    """Of a detector, how an image's objects came about."""
    found = predicted.detections
    return {} if found is None else {"detections": len(found), "hidden": predicted.vanished, "windows": found.tiles,
                                     "joined": found.joined, "at_limit": found.at_limit}


def _read(job: Job, selection: Selection, model: Model, options: PredictOptions) -> tuple[Image, tuple[str, ...] | None]:
    """The image, and its channels where they were picked by name. Raises SizeError for one that the model does not take."""
    channels = None if options.selection.channels is not None else channels_by_name(
        open_stored(job.source), selection, model.header.channel_names)
    image = read_image(job.source, selection if channels is None else replace(selection, channels=channels), job.plane)
    require_fit(image, model, job.source)
    return image, channels


def _calibrated(jobs: list[Job]) -> bool:
    """Whether any image says how large its pixels are: the table has one set of columns for all."""
    for job in jobs:
        try:
            if open_stored(job.source).spacing:
                return True
        except BiomaskError:
            continue  # said when it is read
    return False


def _facts(work: Work, selection: Selection) -> dict[str, Any]:
    """What run.json says of all images."""
    model, options = work.model, work.options
    header = model.header
    augment = "none" if model.is_detector else options.augment or header.recipe.prediction.augment or "none"
    values = {e.name: e.value for e in model.legend}
    return {"command": "predict", "biomask_version": biomask.__version__, "torch_version": torch.__version__,
            "model": str(model.path), "model_sha256": file_hash(model.path), "device": str(work.device),
            "tile": options.tile or header.recipe.prediction.tile, "legend": header.legend, "kind": header.kind,
            "objects": options.objects, **_asked(options), "augment": augment,
            "selection": as_json(selection), "ignore": header.recipe.data.ignore,
            # value: in the masks, None for maps that are no class
            "probability_channels": [] if model.is_detector else
            [{"value": values.get(name), "name": name} for name in model.task.names(model.legend)],
            **({"limits": _limits(work)} if model.is_detector else {})}


def _limits(work: Work) -> dict[str, float]:
    """Of a detector's answers."""
    network: Any = work.network
    return {name: getattr(network.limits, name) for name in ("proposals", "score", "nms", "detections")} | work.limits


def _asked(options: PredictOptions) -> dict[str, Any]:
    """What changes the results, as it stands in run.json: images that were predicted otherwise are predicted again."""
    return {"rescale": list(options.rescale) if isinstance(options.rescale, tuple) else options.rescale,
            "augment": options.augment, "depth": options.depth, "mode": options.mode, "score": options.score}


def _selection(model: Model, options: PredictOptions) -> Selection:
    """What of each file is an image: as in training, unless told."""
    trained, told = model.header.recipe.data.selection, options.selection
    return replace(trained, **{k: v for k, v in vars(told).items() if v is not None})


def _named(error: BaseException, job: Job) -> BiomaskError:
    """The error with the image's name; re-raises what is neither ours nor a lack of memory."""
    if isinstance(error, BiomaskError):
        return error if error.where is not None else type(error)(error.what, where=job.source, fix=error.fix)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return OutOfMemoryError(f"needs more memory than there is ({error or type(error).__name__})", where=job.source,
                                fix="give --tile 256 or --memory 2GB")
    raise error
