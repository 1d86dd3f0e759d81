"""What a person must know of the images that were predicted: those unlike any in training, and classes that were never found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from biomask.checkpoint import Model, ModelHeader
from biomask.data.appearance import appearance_of
from biomask.data.input_range import DIFFERENCES, spacing_difference, spacing_text
from biomask.image import Image
from biomask.prediction.one_image import Predicted
from biomask.prediction.rescale import usual_spacing
from biomask.progress import Progress
from biomask.words import count

#: Names of images that a line shows.
SHOWN = 5

#: Classes of a smaller share of the training's pixels are rare, and a held-out Dice below it says that one was hardly learnt.
RARE, HARDLY = 0.01, 0.5


def differences_of(header: ModelHeader, image: Image, predicted: Predicted, *, resampled: bool) -> dict[str, str]:
    """In what an image differs from those in training: a key of DIFFERENCES: a sentence on it.

    resampled: whether it was asked for, so that the size of its pixels is no news. Of models that do not know their training
    images it is their spacing alone.
    """
    spacing = None if resampled else image.spacing
    found = spacing_difference(spacing, usual_spacing(header))
    if header.inputs is None:
        return found
    look = appearance_of(predicted.seen)
    if look is not None:
        look = replace(look, dtype=str(image.array.dtype))  # resampling makes floats
    return found | header.inputs.differences(look)


def conclude(content: dict[str, Any], model: Model, progress: Progress, *, new: Sequence[str]) -> None:
    """Say what is remarkable over all images, and note it in run.json: `trained_on`, `never_predicted` and `warnings`.

    content: of run.json. new: names of images that were done in this run.
    """
    images: Mapping[str, Mapping[str, Any]] = content["images"]
    warnings = list[str]()
    trained = set(model.header.data_hashes.values())
    content["trained_on"] = [name for name, entry in images.items() if entry.get("sha256") in trained]
    if content["trained_on"]:
        warnings.append(f"the model was trained on {len(content['trained_on'])} of these images: scores on them say nothing of new "
                        "ones")
    empty = [f"{name} ({entry['not_finite']})" for name, entry in images.items() if entry.get("not_finite")]
    if empty:
        warnings.append(f"values that are NaN or infinite were taken for the mean in {count(len(empty), 'image')}: {_some(empty)}")
    warnings += _tiled(images)
    warnings += _full(images, model)
    warnings += _outside(images)
    content["never_predicted"] = _never(images, model)
    warnings += [_why_never(name, images, model) for name in content["never_predicted"]]
    content["warnings"] = warnings
    for warning in warnings:
        progress.warn(warning)
    for said in _hidden(images, new):
        progress.say(said)
    _say_channels(images, new, progress.say)
    _say_unknown_spacing(images, model.header, progress.say)


def _outside(images: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each way in which images differ from those in training; of spacings one for each."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, entry in images.items():
        for kind, text in (entry.get("outside") or {}).items():
            groups.setdefault((kind, text if kind == "spacing" else ""), []).append(name)
    found = []
    for kind in DIFFERENCES:
        for (one, text), names in groups.items():
            if one == kind:
                more = f" ({text}, or --rescale auto)" if text else ""
                found.append(f"{len(names)} of {len(images)} images {DIFFERENCES[kind]}{more}: {_some(names)}")
    return found


def _tiled(images: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """That tiles of a network that cannot be tiled exactly are near only, and how near."""
    found = {name: entry["tiling_difference"] for name, entry in images.items() if entry.get("tiling_difference") is not None}
    if not found:
        return []
    return [f"this network cannot be tiled exactly, and tiles were needed for {count(len(found), 'image')}: probabilities "
            f"differ from those of a whole image by up to {max(found.values()):.2g}, measured on one tile of each (--tile whole, "
            f"where memory allows): {_some(list(found))}"]


def _full(images: Mapping[str, Mapping[str, Any]], model: Model) -> list[str]:
    """That a detector found as many objects as it gives at most, so that some may be missing.

    Smaller windows help where sizes stay; a network that resizes its windows would see other sizes than in training.
    """
    full = [name for name, entry in images.items() if entry.get("at_limit")]
    if not full:
        return []
    advice = f"smaller windows hold fewer, e.g. --tile {max(1, min(min(images[n]['tile']) for n in full) // 2)}"
    network: Any = model.network
    if network.short_side is not None:
        most = network.limits.detections
        advice = f"train with more, --set network.options.limits.detections={2 * most}, or see surer ones alone by a higher --score"
    return [f"{len(full)} of {len(images)} images have windows with as many objects as the detector gives at most, so that some "
            f"may be missing ({advice}): {_some(full)}"]


def _hidden(images: Mapping[str, Mapping[str, Any]], new: Sequence[str]) -> list[str]:
    """That objects of a detector have no id of their own."""
    found = {name: images[name]["hidden"] for name in new if images.get(name, {}).get("hidden")}
    if not found:
        return []
    return [f"{count(sum(found.values()), 'object')} in {count(len(found), 'image')} without a pixel of their own, mostly as "
            f"surer ones lie over them: in detections.json, not in labels/ and objects.csv: {_some(list(found))}"]


def _never(images: Mapping[str, Mapping[str, Any]], model: Model) -> list[str]:
    """Names of classes that no pixel of any image was given to; none where no image was done."""
    if not images:
        return []
    return [e.name for e in list(model.legend)[1:]
            if not any((entry.get("class_pixels") or {}).get(str(e.value)) for entry in images.values())]


def _why_never(name: str, images: Mapping[str, Mapping[str, Any]], model: Model) -> str:
    """That a class was never predicted, and the reasons that fit."""
    reasons, header = list[str](), model.header
    if model.is_detector:
        reasons.append("the detector was less sure of it than the score from which on objects count (a lower --score shows more)")
    share, dice = header.shares.get(name), header.scores.get(f"validation.{name}")
    if share is not None and share < RARE:
        reasons.append(f"it was rare in training ({share:.2g} of the pixels): label more of it")
    if dice is not None and dice < HARDLY:
        reasons.append(f"it was hardly learnt (Dice {dice:.2f} on the images held out): train longer, or label more of it")
    strange = sum(bool(entry.get("outside")) for entry in images.values())
    if strange:
        reasons.append(f"{strange} of {len(images)} images are unlike those in training (see above)")
    reasons.append("these images may hold none of it")
    return f"{name!r} was never predicted. What may be behind it: {'; '.join(reasons)}"


def _say_channels(images: Mapping[str, Mapping[str, Any]], new: Sequence[str], say: Callable[[str], None]) -> None:
    picked = [name for name in new if images.get(name, {}).get("channels")]
    if picked:
        say(f"{count(len(picked), 'image')} {'has' if len(picked) == 1 else 'have'} other channels than the training images, or "
            f"another order of them: {', '.join(images[picked[0]]['channels'])} were picked by name: {_some(picked)}")


def _say_unknown_spacing(images: Mapping[str, Mapping[str, Any]], header: ModelHeader, say: Callable[[str], None]) -> None:
    usual = usual_spacing(header)
    unknown = [name for name, entry in images.items() if "spacing" in entry and entry["spacing"] is None]
    if usual is not None and unknown:
        say(f"{len(unknown)} of {len(images)} images do not say how large their pixels are, so that nobody knows whether they are "
            f"{spacing_text(usual)} as in training: {_some(unknown)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
