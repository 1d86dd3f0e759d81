"""`predict`: a model and images in; masks, outlines and probabilities out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psutil
import torch

import biomask
from biomask.checkpoint import Model
from biomask.data.survey import file_hash
from biomask.device import choose_device, describe_device
from biomask.errors import BiomaskError, DiskFullError, InputError, ManyErrors, OutOfMemoryError, SizeError, UsageError
from biomask.image import Image
from biomask.io import read_image, write_mask, write_picture, write_probabilities
from biomask.io.files import open_stored, write_ids
from biomask.labels import Legend
from biomask.prediction.folder import OBJECTS_FILE, Job, Record, Wanted, as_json, plan_jobs
from biomask.prediction.maps import Augment, Symmetry, class_ids, decide, predict_maps, symmetries
from biomask.prediction.memory import TooLittleMemory, fit_tile, return_memory_at_once
from biomask.prediction.objects import Found, ObjectsFile, find_objects, measure_found
from biomask.prediction.outlines import draw_outlines, stretched
from biomask.prediction.overlap_tile import CHANNELS_LAST, predict_tiles
from biomask.progress import Progress, Silent
from biomask.stored import Selection, Stored, resolve_axes

TileChoice = int | Literal["whole", "auto"]

#: Share of the free memory that a prediction takes unless told.
FREE_SHARE = 0.5

#: Bytes a pixel that finding objects takes at its peak: by a watershed, and as connected pieces.
FLOODED, COUNTED = 40, 24

#: Share of --memory that is left for what cannot be foretold, such as the allocator's gaps.
RESERVE = 0.05


@dataclass(frozen=True)
class PredictOptions:
    """How to predict."""

    tile: TileChoice | None = None
    """Pixels kept a tile, "whole" (untiled) or "auto" (by memory); None = the recipe's."""
    memory: int | None = None
    """Bound on the resident set in bytes; None = half of the free memory for tiles."""
    device: str = "auto"
    probabilities: bool = False
    """Also write the probabilities."""
    overwrite: bool = False
    """Predict again what is there."""
    augment: Augment | None = None
    """Copies that predictions are the mean of; None = as training found best."""
    objects: bool = True
    """Also labels/ and objects.csv."""
    selection: Selection = field(default_factory=Selection)
    """Axes, channels, planes and time points of the inputs; what is None is as in training."""


@dataclass(frozen=True)
class PredictResult:
    """What was done."""

    out: Path
    done: tuple[str, ...]
    """Names predicted in this run."""
    skipped: tuple[str, ...]
    """Names that were there from an earlier run."""
    seconds: float


def predict(model: Model, images: str | Path, out: str | Path, options: PredictOptions | None = None, *,
            progress: Progress | None = None) -> PredictResult:
    """Predict every image below `images` (or the one file) into `out`; run again, it does what is missing.

    Raises ManyErrors after all good images are done, listing the failed ones, and DiskFullError at once.
    """
    options, progress, out = options or PredictOptions(), progress or Silent(), Path(out)
    began = time.perf_counter()
    selection = _selection(model, options)
    structures = tuple(e.name for e in model.legend)[1:] if model.task.kind == "multilabel" else ()
    jobs, broken = plan_jobs(Path(images), out, selection, Wanted(options.probabilities, options.objects, structures), progress)
    device = choose_device(options.device)
    progress.say(f"device: {describe_device(device)}")
    if options.memory is not None:
        return_memory_at_once()
    record = Record(out, _facts(model, options, selection, device), overwrite=options.overwrite)
    todo = [j for j in jobs if not record.has(j, selection)]
    missing = {j.name for j in todo}
    skipped = tuple(j.name for j in jobs if j.name not in missing)
    if skipped:
        progress.say(f"{len(skipped)} of {len(jobs)} images are done already")
    network = model.network.to(device, memory_format=CHANNELS_LAST[model.header.spatial_dims])  # type: ignore[call-overload]
    work = Work(model, network, device, options, copies_of(model, options), None)
    if len(work.copies) > 1:
        progress.say(f"predictions are the mean over {len(work.copies)} mirrored or turned copies (--augment none is as many times "
                     "as fast)")
    if options.objects:
        work.table = ObjectsFile(out / OBJECTS_FILE, model, micrometres=model.header.spacing is not None or _calibrated(jobs),
                                 probability=keeps_maps(model, work.copies, options),
                                 done={n for n in record.content["images"] if n not in missing})
    errors: list[BiomaskError] = [_named(error, job) for job, error in broken]
    for (job, _), error in zip(broken, errors, strict=True):
        record.failed(job.name, str(error))
    try:
        with progress.bar("predicting") as bar:
            for n, job in enumerate(todo):
                try:
                    facts = _predict_one(work, job, selection, lambda done, of, n=n, job=job: bar.update(
                        (n + done / of) / len(todo), job.name))
                    record.done(job.name, {**facts, "sha256": record.hash_of(job.source)})
                except DiskFullError:
                    raise
                except (BiomaskError, MemoryError, RuntimeError) as error:
                    errors.append(_named(error, job))
                    record.failed(job.name, str(errors[-1]))
                bar.update((n + 1) / len(todo), job.name)
    finally:
        if work.table is not None:
            work.table.close()
        record.content["seconds"] = round(time.perf_counter() - began, 3)
        record.write()
    _warn_of_training_images(record.content, model, progress)
    _warn_of_nan(record.content, [j.name for j in todo], progress)
    _say_channels(record.content, [j.name for j in todo], progress)
    if errors:
        others = f", the others are in {out}" if len(errors) < len(jobs) + len(broken) else ""
        raise ManyErrors(f"{len(errors)} of {len(todo) + len(broken)} images failed{others}:", errors,
                         fix="mend them and run the same command again: only what is missing is done")
    return PredictResult(out, tuple(j.name for j in todo), skipped, time.perf_counter() - began)


def _calibrated(jobs: list[Job]) -> bool:
    """Whether any image says how large its pixels are: the table has one set of columns for all."""
    for job in jobs:
        try:
            if open_stored(job.source).spacing:
                return True
        except BiomaskError:
            continue  # said when it is read
    return False


def _warn_of_training_images(content: dict[str, Any], model: Model, progress: Progress) -> None:
    trained = set(model.header.data_hashes.values())
    known = [name for name, entry in content["images"].items() if entry.get("sha256") in trained]
    content["trained_on"] = known
    if known:
        progress.warn(f"the model was trained on {len(known)} of these images: scores on them say nothing of new ones")


def _warn_of_nan(content: dict[str, Any], names: list[str], progress: Progress) -> None:
    found = [name for name in names if content["images"].get(name, {}).get("not_finite")]
    if found:
        shown = ", ".join(f"{name} ({content['images'][name]['not_finite']})" for name in found[:5])
        progress.warn(f"{len(found)} images hold values that are NaN or infinite, which were taken for the mean: {shown}"
                      + (" …" if len(found) > 5 else ""))


def _say_channels(content: dict[str, Any], names: list[str], progress: Progress) -> None:
    picked = [name for name in names if content["images"].get(name, {}).get("channels")]
    if picked:
        progress.say(f"{len(picked)} images have other channels than the training images, or another order of them: "
                     f"{', '.join(content['images'][picked[0]]['channels'])} were picked by name: {', '.join(picked[:5])}"
                     + (" …" if len(picked) > 5 else ""))


def _facts(model: Model, options: PredictOptions, selection: Selection, device: torch.device) -> dict[str, Any]:
    """What run.json says of all images."""
    return {"command": "predict", "biomask_version": biomask.__version__, "torch_version": torch.__version__,
            "model": str(model.path), "model_sha256": file_hash(model.path), "device": str(device),
            "tile": options.tile or model.header.recipe.prediction.tile, "legend": model.header.legend, "kind": model.header.kind,
            "objects": options.objects, "augment": options.augment or model.header.recipe.prediction.augment or "none",
            "selection": as_json(selection), "ignore": model.header.recipe.data.ignore,
            "probability_channels": _channels(model)}


def _channels(model: Model) -> list[dict[str, Any]]:
    """What each channel of the probabilities is; value: in the masks, None for maps that are no class."""
    values = {e.name: e.value for e in model.legend}
    return [{"value": values.get(name), "name": name} for name in model.task.names(model.legend)]


def copies_of(model: Model, options: PredictOptions) -> list[Symmetry]:
    """The copies that predictions are the mean of."""
    recipe = model.header.recipe
    return symmetries(options.augment or recipe.prediction.augment or "none", model.header.spatial_dims, recipe.augmentation.flip,
                      turn=recipe.augmentation.rotate90)


def _selection(model: Model, options: PredictOptions) -> Selection:
    """What of each file is an image: as in training, unless told."""
    trained, told = model.header.recipe.data.selection, options.selection
    return replace(trained, **{k: v for k, v in vars(told).items() if v is not None})


def _predict_one(work: Work, job: Job, selection: Selection, done: Any) -> dict[str, Any]:
    began, model, options = time.perf_counter(), work.model, work.options
    channels = None if options.selection.channels is not None else channels_by_name(
        open_stored(job.source), selection, model.header.channel_names)
    image = read_image(job.source, selection if channels is None else replace(selection, channels=channels), job.plane)
    _check_fits(image, model, job.source)
    tile = tile_for(image, model, work.network, options, work.device)
    statistics = model.normalization.statistics(image.array)
    maps: npt.NDArray[np.float32] | None = None
    if keeps_maps(model, work.copies, options):
        maps = predict_maps(work.network, image.array, model.task, tile, copies=work.copies, statistics=statistics,
                            device=work.device, done=done)
        decided = decide(maps, model.task, model.cut)
    else:
        decided = np.empty(image.size, np.uint8)
        for window, logits in predict_tiles(work.network, image.array, tile, statistics=statistics, device=work.device, done=done):
            decided[window.write] = class_ids(logits, model.cut).cpu().numpy()
    found = find_objects(model, decided, maps) if options.objects else []
    if model.task.kind == "instances" and found:
        decided = found[0].classes[found[0].ids].astype(np.uint8)
    if work.table is not None:
        work.table.add(job.name, measure_found(found, image, model))
    _write(job, image, decided, maps, found, model)
    finite = np.count_nonzero(np.isfinite(image.array)) if image.array.dtype.kind == "f" else image.array.size
    pixels = [decided == i for i in range(len(model.legend))] if model.task.kind != "multilabel" else [
        ~decided.any(axis=0), *(decided > 0)]
    return {"not_finite": int(image.array.size - finite),
            "file": str(job.source), "plane": as_json(job.plane), "mask": job.mask_name,
            "labels": [p.relative_to(job.out).as_posix() for p in job.labels],
            "objects": sum(len(f.classes) - 1 for f in found) if options.objects else None,
            "selection": as_json(selection), "channels": None if channels is None else list(channels),
            "size": list(image.size), "tile": list(tile),
            "seconds": round(time.perf_counter() - began, 3),
            "class_pixels": {str(e.value): int(p.sum()) for e, p in zip(model.legend, pixels, strict=True)}}


@dataclass
class Work:
    """What is the same for all images of a run."""

    model: Model
    network: torch.nn.Module
    device: torch.device
    options: PredictOptions
    copies: list[Symmetry]
    table: ObjectsFile | None


def keeps_maps(model: Model, copies: Sequence[Symmetry], options: PredictOptions) -> bool:
    """Whether the probabilities of a whole image are needed at once."""
    return len(copies) > 1 or options.probabilities or model.task.kind != "classes"


def _write(job: Job, image: Image, decided: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32] | None, found: Sequence[Found],
           model: Model) -> None:
    """The masks last: their presence says that the image is done."""
    legend = model.legend
    if job.probabilities is not None and maps is not None:
        write_probabilities(job.probabilities, maps, image.axes, image.spacing, model.task.names(legend))
    for path, objects in zip(job.labels, found, strict=True):
        write_ids(path, objects.ids, image.spacing, image.affine)
    if model.task.kind == "multilabel":
        structures = [Legend((legend.entries[0], e)) for e in legend.entries[1:]]
        picture = stretched(image)
        for mask, own in zip(decided, structures, strict=True):
            picture = draw_outlines(image, mask, own, onto=picture)
        write_picture(job.outlines, picture)
        for path, mask, own in zip(job.masks, decided, structures, strict=True):
            shown = Legend((own.entries[0], replace(own.entries[1], value=255)))
            write_mask(path, shown.values_of(mask), shown, image.spacing, image.affine)
        return
    objects_drawn = found[0].ids if model.task.kind == "instances" and found else None
    write_picture(job.outlines, draw_outlines(image, decided, legend) if objects_drawn is None else
                  draw_outlines(image, objects_drawn, None))
    write_mask(job.masks[0], legend.values_of(decided), legend, image.spacing, image.affine)


def channels_by_name(stored: Stored, selection: Selection, wanted: tuple[str, ...]) -> tuple[str, ...] | None:
    """The training's channels by name, where what is selected of this file are not the same ones in the same order.

    None where it is so, or where names do not tell: some are without, or several channels share one. Raises SizeError for
    names that are not there.
    """
    stored = resolve_axes(stored, selection)
    count = next((stored.shape[stored.axes.index(a)] for a in "CS" if a in stored.axes), 1)
    there, sought = [n.casefold() for n in stored.channel_names], [n.casefold() for n in wanted]
    if len(there) != count or len(set(there)) < count or not sought or len(set(sought)) < len(sought):
        return None
    missing = [name for name in wanted if name.casefold() not in there]
    if missing:
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(stored.channel_names))
        raise SizeError(f"has no channel {' nor '.join(missing)}, on which the model was trained: there are {shown}",
                        where=stored.path, fix=f"say which to take for {', '.join(wanted)}, in this order: "
                                               f"--channels {','.join(map(str, range(min(count, len(wanted)))))}")
    return None if _selected(there, selection.channels) == sought else wanted


def _selected(names: list[str], channels: tuple[str, ...] | None) -> list[str]:
    """Names of the channels that a selection takes, all in small letters; those by number may not be there."""
    if channels is None:
        return names
    wishes = [c.casefold() for c in channels]
    return [w if w in names else names[int(w)] if w.isdecimal() and int(w) < len(names) else "" for w in wishes]


def _check_fits(image: Image, model: Model, source: Path) -> None:
    header = model.header
    if image.spatial_dims != header.spatial_dims:
        fix = "--z each predicts every plane, --z max the brightest of all planes" if image.spatial_dims == 3 else None
        raise SizeError(f"is {image.spatial_dims}D with axes {image.axes}, the model was trained on {header.spatial_dims}D",
                        where=source, fix=fix)
    if image.channels != header.in_channels:
        raise SizeError(f"has {image.channels} channel(s), the model was trained on {header.in_channels}", where=source,
                        fix=_channel_advice(image, header.in_channels))


def _channel_advice(image: Image, wanted: int) -> str:
    if {image.channels, wanted} == {1, 3}:
        return "--channels grey turns colour into grey" if wanted == 1 else "--channels rgb repeats grey three times"
    if image.channels > wanted:
        there = ", ".join(f"{i} {n}" for i, n in enumerate(image.channel_names)) or f"0 to {image.channels - 1}"
        return f"say which it was trained on, e.g. --channels {','.join(map(str, range(wanted)))} (there are {there})"
    return "give images with the channels of the training images"


def tile_for(image: Image, model: Model, network: torch.nn.Module, options: PredictOptions,
             device: torch.device) -> tuple[int, ...]:
    """Pixels kept a tile along each axis of this image."""
    choice = options.tile if options.tile is not None else model.header.recipe.prediction.tile
    if isinstance(choice, int):
        return (choice,) * image.spatial_dims
    if choice == "whole":
        return image.size
    if options.memory is not None:
        return _tile_within(options.memory, image, model, network, options)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return fit_tile(network, image.size, free * FREE_SHARE)


def _tile_within(memory: int, image: Image, model: Model, network: torch.nn.Module, options: PredictOptions) -> tuple[int, ...]:
    taken = psutil.Process().memory_info().rss + output_bytes(image, model, options)
    try:
        return fit_tile(network, image.size, memory * (1 - RESERVE) - taken)
    except TooLittleMemory as error:
        enough = 1.03 * (taken + error.needed) / (1 - RESERVE)  # the program's own share differs a little from run to run
        raise InputError(f"{memory / 1e6:.0f} MB are too little for an image of {image.size}: {taken / 1e6:.0f} MB go to the "
                         f"program, the image and its results, and {error.what}", where="--memory",
                         fix=f"give at least --memory {enough / 1e6:.0f}MB") from error


def output_bytes(image: Image, model: Model, options: PredictOptions) -> int:
    """Bytes that an image's results take beside the image itself, at their peak."""
    pixels = int(np.prod(image.size))
    plane = pixels // (image.size[0] if image.spatial_dims == 3 else 1)
    mask, picture = 4 * pixels, 8 * plane  # class ids, values and their encoding; RGB twice and its PNG
    maps = 4 * model.task.channels * pixels if keeps_maps(model, copies_of(model, options), options) else 0
    if options.probabilities:
        maps *= 2
    objects = (FLOODED if model.task.kind == "instances" else COUNTED) * pixels if options.objects else 0
    return mask + picture + maps + objects


def _named(error: BaseException, job: Job) -> BiomaskError:
    """The error with the image's name; re-raises what is neither ours nor a lack of memory."""
    if isinstance(error, BiomaskError):
        return error if error.where is not None else type(error)(error.what, where=job.source, fix=error.fix)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return OutOfMemoryError(f"needs more memory than there is ({error or type(error).__name__})", where=job.source,
                                fix="give --tile 256 or --memory 2GB")
    raise error


def parse_memory(text: str) -> int:
    """Bytes of "2GB", "1500MB", "1.5 GiB" or a plain number of bytes. GB = 1e9, GiB = 2**30.

    >>> parse_memory("2GB"), parse_memory("1.5GiB")
    (2000000000, 1610612736)
    """
    units = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "kib": 2**10, "m": 1e6, "mb": 1e6, "mib": 2**20, "g": 1e9, "gb": 1e9,
             "gib": 2**30, "t": 1e12, "tb": 1e12, "tib": 2**40}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number):].strip().lower()
    try:
        value = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise UsageError(f"--memory {text!r} is not an amount of memory", fix="e.g. --memory 2GB") from error
    if value <= 0:
        raise UsageError(f"--memory {text!r} must be above 0", fix="e.g. --memory 2GB")
    return value


def parse_tile(text: str) -> TileChoice:
    """`whole`, `auto` or a number of pixels >= 1."""
    if text in ("whole", "auto"):
        return text  # type: ignore[return-value]
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--tile {text!r} is not a number of pixels, whole or auto", fix="e.g. --tile 512")
    return int(text)


def parse_augment(text: str | None) -> Augment | None:
    """none, mirrors, symmetries, or None."""
    if text is not None and text not in ("none", "mirrors", "symmetries"):
        raise UsageError(f"--augment {text!r} is not none, mirrors or symmetries", fix="e.g. --augment none")
    return text  # type: ignore[return-value]
