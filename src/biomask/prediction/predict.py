"""`predict`: a model and images in; masks, outlines and probabilities out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psutil
import torch

import biomask
from biomask.checkpoint import Model
from biomask.data.dataset import file_hash
from biomask.device import choose_device, describe_device
from biomask.errors import BiomaskError, InputError, ManyErrors, PairingError, SizeError, UsageError
from biomask.image import Image
from biomask.io import list_images, read_image, relative_stem, write_mask, write_picture, write_probabilities
from biomask.io.files import write_text
from biomask.prediction.memory import TooLittleMemory, fit_tile, return_memory_at_once
from biomask.prediction.outlines import draw_outlines
from biomask.prediction.overlap_tile import CHANNELS_LAST, predict_tiles
from biomask.progress import Progress, Silent

TileChoice = int | Literal["whole", "auto"]

#: Share of the free memory that a prediction takes unless told.
FREE_SHARE = 0.5

#: Share of --memory that is left for what cannot be foretold, such as the allocator's gaps.
RESERVE = 0.05


@dataclass(frozen=True)
class PredictOptions:
    """How to predict; what does not change the result is not recorded as a difference."""

    tile: TileChoice | None = None
    """Pixels kept a tile, "whole" (untiled) or "auto" (by memory); None = the recipe's."""
    memory: int | None = None
    """Bound on the resident set in bytes; None = half of the free memory for tiles."""
    device: str = "auto"
    probabilities: bool = False
    """Also write the probabilities."""
    overwrite: bool = False
    """Predict again what is there."""


@dataclass(frozen=True)
class PredictResult:
    """What was done."""

    out: Path
    done: tuple[str, ...]
    """Names predicted in this run."""
    skipped: tuple[str, ...]
    """Names that were there from an earlier run."""
    seconds: float


@dataclass(frozen=True)
class _Job:
    name: str
    source: Path
    mask: Path
    outlines: Path
    probabilities: Path | None

    def is_done(self) -> bool:
        """Everything is there, and no older than the input; the mask is written last."""
        wanted = [self.mask, self.outlines, *([self.probabilities] if self.probabilities else [])]
        return all(p.is_file() for p in wanted) and self.mask.stat().st_mtime >= self.source.stat().st_mtime


def predict(model: Model, images: str | Path, out: str | Path, options: PredictOptions | None = None, *,
            progress: Progress | None = None) -> PredictResult:
    """Predict every image below `images` (or the one file) into `out`; run again, it does what is missing.

    Raises ManyErrors after all good images are done, listing the failed ones.
    """
    options, progress, out, images = options or PredictOptions(), progress or Silent(), Path(out), Path(images)
    began = time.perf_counter()
    jobs = _plan(images, out, options)
    device = choose_device(options.device)
    progress.say(f"device: {describe_device(device)}")
    if options.memory is not None:
        return_memory_at_once()
    record = _open_record(out, model, options, device)
    todo = [j for j in jobs if options.overwrite or not j.is_done()]
    skipped = tuple(j.name for j in jobs if j not in todo)
    if skipped:
        progress.say(f"{len(skipped)} of {len(jobs)} images are done already")
    network = model.network.to(device, memory_format=CHANNELS_LAST[model.header.spatial_dims])  # type: ignore[call-overload]
    errors: list[BiomaskError] = []
    with progress.bar("predicting") as bar:
        for n, job in enumerate(todo):
            try:
                record["images"][job.name] = _predict_one(
                    model, network, job, options, device,
                    lambda done, of, n=n, job=job: bar.update((n + done / of) / len(todo), job.name))
            except (BiomaskError, MemoryError, torch.OutOfMemoryError) as error:
                errors.append(_named(error, job))
                record["failed"][job.name] = str(errors[-1])
            bar.update((n + 1) / len(todo), job.name)
    record["seconds"] = round(time.perf_counter() - began, 3)
    write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False))
    if errors:
        raise ManyErrors(f"{len(errors)} of {len(todo)} images failed, the others are in {out}:", errors,
                         fix="mend them and run the same command again: only what is missing is done")
    return PredictResult(out, tuple(j.name for j in todo), skipped, time.perf_counter() - began)


def _plan(images: Path, out: Path, options: PredictOptions) -> list[_Job]:
    sources = list_images(images)
    root = images if images.is_dir() else images.parent
    if not sources:
        raise InputError("holds no images", where=images)
    if out.resolve() == root.resolve() or out.resolve() in [p.resolve() for p in sources]:
        raise UsageError(f"-o {out} is where the images are", fix="give another folder: nothing is written beside inputs")
    jobs: dict[str, _Job] = {}
    for path in sources:
        if out.resolve() in path.resolve().parents:
            continue  # results of an earlier run inside the input folder are no inputs
        stem = relative_stem(path, root)
        name = stem.as_posix()
        if name.casefold() in jobs:
            raise PairingError(f"{path.name} and {jobs[name.casefold()].source.name} would both be written as {name}",
                               where=root, fix="rename one of them")
        jobs[name.casefold()] = _Job(name, path, out / "masks" / f"{stem}.tif", out / "outlines" / f"{stem}.png",
                                     out / "probabilities" / f"{stem}.tif" if options.probabilities else None)
    return list(jobs.values())


def _open_record(out: Path, model: Model, options: PredictOptions, device: torch.device) -> dict[str, Any]:
    """run.json as it will be written; refuses a folder with another model's results."""
    digest = file_hash(model.path)
    record: dict[str, Any] = {
        "command": "predict", "biomask_version": biomask.__version__, "torch_version": torch.__version__,
        "model": str(model.path), "model_sha256": digest, "device": str(device),
        "tile": options.tile or model.header.recipe.prediction.tile, "legend": model.header.legend,
        "probability_channels": [{"value": e.value, "name": e.name} for e in model.legend],
        "images": {}, "failed": {},
    }
    path = out / "run.json"
    if path.is_file() and not options.overwrite:
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            old_digest, old_images = old["model_sha256"], dict(old["images"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("is not a record of biomask predict", where=path,
                             fix="choose another -o, or --overwrite") from error
        if old_digest != digest:
            raise InputError("holds results of another model", where=out, fix="choose another -o, or --overwrite")
        record["images"] = old_images
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False))
    return record


def _predict_one(model: Model, network: torch.nn.Module, job: _Job, options: PredictOptions, device: torch.device,
                 done: Any) -> dict[str, Any]:
    began = time.perf_counter()
    image = read_image(job.source)
    _check_fits(image, model, job.source)
    tile = tile_for(image, model, network, options, device)
    classes = len(model.legend)
    ids = np.empty(image.size, np.uint8)
    probabilities = np.empty((classes, *image.size), np.float32) if job.probabilities else None
    statistics = model.normalization.statistics(image.array)
    for window, logits in predict_tiles(network, image.array, tile, statistics=statistics, device=device, done=done):
        ids[window.write] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        if probabilities is not None:
            probabilities[(slice(None), *window.write)] = logits.float().softmax(dim=0).cpu().numpy()
    _write(job, image, ids, probabilities, model)
    return {"size": list(image.size), "tile": list(tile), "seconds": round(time.perf_counter() - began, 3),
            "class_pixels": {str(e.value): int((ids == i).sum()) for i, e in enumerate(model.legend)}}


def _write(job: _Job, image: Image, ids: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32] | None,
           model: Model) -> None:
    """The mask last: its presence says that the image is done."""
    legend = model.legend
    if probabilities is not None and job.probabilities is not None:
        write_probabilities(job.probabilities, probabilities, image.axes, image.spacing, tuple(e.name for e in legend))
    write_picture(job.outlines, draw_outlines(image, ids, legend))
    write_mask(job.mask, legend.values_of(ids), legend, image.spacing)


def _check_fits(image: Image, model: Model, source: Path) -> None:
    header = model.header
    if image.spatial_dims != header.spatial_dims:
        raise SizeError(f"is {image.spatial_dims}D with axes {image.axes}, the model was trained on {header.spatial_dims}D",
                        where=source)
    if image.channels != header.in_channels:
        raise SizeError(f"has {image.channels} channel(s), the model was trained on {header.in_channels}", where=source,
                        fix="save the image with the channels of the training images")


def tile_for(image: Image, model: Model, network: torch.nn.Module, options: PredictOptions,
             device: torch.device) -> tuple[int, ...]:
    """Pixels kept a tile along each axis of this image."""
    choice = options.tile if options.tile is not None else model.header.recipe.prediction.tile
    if isinstance(choice, int):
        return (choice,) * image.spatial_dims
    if choice == "whole":
        return image.size
    if options.memory is not None:
        return _tile_within(options.memory, image, len(model.legend), network, options)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return fit_tile(network, image.size, free * FREE_SHARE)


def _tile_within(memory: int, image: Image, classes: int, network: torch.nn.Module, options: PredictOptions) -> tuple[int, ...]:
    taken = psutil.Process().memory_info().rss + output_bytes(image, classes, options)
    try:
        return fit_tile(network, image.size, memory * (1 - RESERVE) - taken)
    except TooLittleMemory as error:
        enough = 1.03 * (taken + error.needed) / (1 - RESERVE)  # the program's own share differs a little from run to run
        raise InputError(f"{memory / 1e6:.0f} MB are too little for an image of {image.size}: {taken / 1e6:.0f} MB go to the "
                         f"program, the image and its results, and {error.what}", where="--memory",
                         fix=f"give at least --memory {enough / 1e6:.0f}MB") from error


def output_bytes(image: Image, classes: int, options: PredictOptions) -> int:
    """Bytes that an image's results take beside the image itself, at their peak."""
    pixels = int(np.prod(image.size))
    plane = pixels // (image.size[0] if image.spatial_dims == 3 else 1)
    mask, picture = 4 * pixels, 8 * plane  # class ids, values and their encoding; RGB twice and its PNG
    return mask + picture + (2 * 4 * classes * pixels if options.probabilities else 0)


def _named(error: BaseException, job: _Job) -> BiomaskError:
    if isinstance(error, BiomaskError):
        return error if error.where is not None else InputError(error.what, where=job.source, fix=error.fix)
    return InputError(f"needs more memory than there is ({error or type(error).__name__})", where=job.source,
                      fix="give --tile 256 or --memory 2GB")


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
        value = float(number) * units[unit]
    except (ValueError, KeyError) as error:
        raise UsageError(f"--memory {text!r} is not an amount of memory", fix="e.g. --memory 2GB") from error
    if value <= 0:
        raise UsageError(f"--memory {text!r} must be above 0", fix="e.g. --memory 2GB")
    return int(value)


def parse_tile(text: str) -> TileChoice:
    """`whole`, `auto` or a number of pixels >= 1."""
    if text in ("whole", "auto"):
        return text  # type: ignore[return-value]
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--tile {text!r} is not a number of pixels, whole or auto", fix="e.g. --tile 512")
    return int(text)


