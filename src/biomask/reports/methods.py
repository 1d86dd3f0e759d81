"""Methods paragraphs that can be pasted into a paper: of a training, a prediction and an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biomask.data.task import CUT
from biomask.labels import Legend
from biomask.reports import detectors, sentences
from biomask.reports.blocks import Block, Fold, Numbered, Paragraph, Quote, Section
from biomask.reports.parts import duration
from biomask.reports.run import PACKAGES, Run
from biomask.reports.sentences import listed
from biomask.reports.sources import Cited, cited, literal
from biomask.stored import GREY, RGB
from biomask.words import count

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader

_ADVICE = ("Filled from this run, to be pasted into a paper. Read it first: what biomask cannot know, such as how the images were "
           "made, is yours to add.")


def methods_section(text: Cited, advice: str = _ADVICE) -> Section:
    """The paragraph with its references."""
    blocks: tuple[Block, ...] = (Paragraph(advice), Quote(text.text))
    if text.references:
        blocks = (*blocks, Fold(count(len(text.references), "reference"), (Numbered(text.references),), opened=True))
    return Section("Methods, for a paper", blocks, "methods")


def training_methods(header: ModelHeader, run: Run) -> Cited:
    """How the model was trained."""
    s, recipe = sentences, header.recipe
    time = duration(run.seconds) if run.seconds is not None else ""
    return cited([
        data_said(header, run), held_out_said(header, run), s.normalization_said(header), s.network_said(header, run.parameters),
        s.begin_said(header), s.target_said(header), s.loss_said(header),
        s.augmentation_said(header), s.optimisation_said(recipe.training, run.steps, time, s.samples_said(header).lower()),
        s.selection_said(header), s.decision_said(header),
        s.score_said(header, header.scored or (len(run.held_out) if header.members == 1 else run.images)), software_said(run)])


def data_said(header: ModelHeader, run: Run) -> str:
    """What was trained on."""
    images = count(run.images, "image") if run.images else "images"
    facts = [run.size_text, count(header.in_channels, "channel"), header.dtype, spacing_text(header.spacing)]
    said = f"{images[:1].upper()}{images[1:]} ({', '.join(f for f in facts if f)}) with {sentences.labels_said(header)} were used."
    said += channels_said(header)
    if run.groups is not None:
        said += f" They belong to {count(run.groups, 'group')} ({literal(run.groups_by)}), none of which was split."
    return said


def channels_said(header: ModelHeader) -> str:
    """Which channels of the files were used, where they were chosen; empty where all were."""
    chosen = header.recipe.data.channels
    if chosen is None:
        return ""
    if chosen == (GREY,):
        return " Colour was turned into grey."
    if chosen == (RGB,):
        return " Of grey images red, green and blue are the same."
    return f" Of their channels {', '.join(map(literal, chosen))} {'were' if len(chosen) > 1 else 'was'} used."


def held_out_said(header: ModelHeader, run: Run) -> str:
    """What was held out."""
    if header.members > 1:
        return (f"In a {header.members}-fold cross-validation ({run.held_out_by.partition(', ')[2] or 'at random'}) as many "
                "networks "
                "were trained, each without the images of its fold, by which its weights were chosen; the model is their mean.")
    if not run.held_out:
        return "No image was held out." if run.images else ""
    return f"To choose the weights, {count(len(run.held_out), 'image')} took no part in training: {literal(run.held_out_by)}."


def spacing_text(spacing: Mapping[str, float] | None) -> str:
    """0.5 × 0.25 × 0.25 µm a pixel, along z, y and x; empty where unknown."""
    if not spacing:
        return ""
    sizes = [f"{spacing[a]:g}" for a in "zyx" if a in spacing]
    return f"{sizes[0] if len(set(sizes)) == 1 else ' × '.join(sizes)} µm a pixel"


def software_said(run: Run) -> str:
    """On what, and with what, it ran."""
    place = run.machine if run.machine and run.device.startswith("cpu") else run.device
    ran = f"Training ran on {literal(place)}{', convolutions in bfloat16' if run.bfloat16 else ''}." if place else ""
    return " ".join(filter(None, [ran, packages_said(run.versions)]))


def packages_said(versions: Mapping[str, str]) -> str:
    """Versions, each with its work."""
    keys = {"torch": "pytorch"}
    named = [f"{PACKAGES[n]} {versions[n]} [@{keys.get(n, n)}]" for n in PACKAGES if n in versions]
    own = [f"{name} {versions[name]}" for name in ("biomask", "Python") if name in versions]
    return f"Software: {listed([*own, *named])}." if own or named else ""


def prediction_methods(record: Mapping[str, Any], header: ModelHeader | None, versions: Mapping[str, str]) -> Cited:
    """How images were segmented. header: of the model, None where it is not at hand."""
    images = record.get("images") or {}
    done = count(len(images), "image")
    model = str(record.get("model_sha256") or "")[:12]
    said = [f"{done[:1].upper()}{done[1:]} {'was' if len(images) == 1 else 'were'} segmented with a trained model"
            f"{f' (SHA-256 {model}…)' if model else ''}{_network(header)}, each as a whole or {_tiles(header)}."]
    if header is not None:
        said += [sentences.normalization_said(header)]
    said += [_resampled(record), _copies(record), _decided(record, header), _left(record), packages_said(versions)]
    return cited(said)


def _tiles(header: ModelHeader | None) -> str:
    if header is not None and header.is_detector:
        return "in overlapping windows"
    return "in tiles with the context that the network depends on, so that tiles leave no seams"


def _network(header: ModelHeader | None) -> str:
    if header is None:
        return ""
    called, key = sentences.NETWORKS.get(header.recipe.network.name, (f"network '{literal(header.recipe.network.name)}'", ""))
    ensemble = f"the mean of {header.members} networks, each a " if header.members > 1 else "a "
    return f", {ensemble}{header.spatial_dims}D {called}{f' [@{key}]' if key else ''}"


def _resampled(record: Mapping[str, Any]) -> str:
    number = sum(bool(i.get("rescale")) for i in (record.get("images") or {}).values())
    return (f"{count(number, 'image')} {'was' if number == 1 else 'were'} resampled to the pixel size of the training images, and "
            "the probabilities resampled back.") if number else ""


def _copies(record: Mapping[str, Any]) -> str:
    how = {"mirrors": "mirrored", "symmetries": "mirrored and turned", "rotations": "turned"}.get(str(record.get("augment")))
    return f"Predictions are the mean over {how} copies of each image." if how else ""


def _decided(record: Mapping[str, Any], header: ModelHeader | None) -> str:
    kind, legend = str(record.get("kind") or "classes"), Legend.from_json(record["legend"])
    counted = any(i.get("objects") is not None for i in (record.get("images") or {}).values())
    said = []
    if kind == "multilabel":
        said.append("A pixel belongs to a structure where its probability is at least 0.5.")
    elif header is not None and header.is_detector:
        said.append(detectors.decision_said(header, record.get("score")))
    elif kind == "instances" and header is not None:
        said.append(sentences.decision_said(header.model_copy(update={"recipe": header.recipe.model_copy(
            update={"prediction": header.recipe.prediction.model_copy(update={"augment": "none"})})})))
    elif kind != "instances":
        cut = header.thresholds.get(CUT) if header is not None else None
        said.append(f"A pixel is {literal(list(legend)[-1].name)} where its probability is above {cut:g}." if cut is not None else
                    "Each pixel is of its most probable class.")
    if counted and kind != "instances":
        said.append(f"Objects are the connected pieces of each {'structure' if kind == 'multilabel' else 'class'}.")
    return " ".join(said)


def _left(record: Mapping[str, Any]) -> str:
    failed, warned = len(record.get("failed") or {}), sum(bool(i.get("warnings")) for i in (record.get("images") or {}).values())
    found = []
    if warned:
        found.append(f"{count(warned, 'image')} {'was' if warned == 1 else 'were'} unlike those of the training in some respect.")
    if failed:
        found.append(f"{count(failed, 'image')} could not be segmented.")
    return " ".join(found)


def evaluation_methods(evaluation: Mapping[str, Any], versions: Mapping[str, str]) -> Cited:
    """How predictions were scored, and what came out."""
    mean = evaluation["mean"]
    objects = evaluation.get("kind") == "instances"
    images = count(int(evaluation["n_images"]), "image")
    names = listed([literal(e.name) for e in list(Legend.from_json(evaluation["legend"]))[1:]])
    said = [f"Predictions for {images} were compared with the truth ({names}), of which each image counts alike."]
    if objects:
        said.append("Objects were matched one to one by their intersection over union (IoU); average precision (AP) at a threshold "
                    "is "
                    "TP / (TP + FP + FN) [@stardist, dsb], and its mean is over the thresholds 0.5, 0.55, … 0.95. PQ is the "
                    "panoptic quality [@panoptic].")
    said.append("Overlap of pixels was measured by the Dice coefficient [@dice] and IoU, background left out.")
    said += [_boundary(evaluation), _calibration(evaluation), _intervals(evaluation)]
    scored = [("ap50", "AP at 0.5"), ("ap", "AP"), ("f1", "F1 at 0.5"), ("pq", "PQ")] if objects else []
    scored += [("dice", "Dice"), ("iou", "IoU"), ("hd95", "HD95"), ("nsd", "NSD")]
    said.append(f"Results: {listed([_result(evaluation, key, name) for key, name in scored if mean.get(key) is not None])}."
                if any(mean.get(key) is not None for key, _ in scored) else "")
    said += [_agreement(evaluation), _paired(evaluation), _annotator(evaluation), packages_said(versions)]
    return cited(said)


def _result(evaluation: Mapping[str, Any], key: str, name: str) -> str:
    interval = (evaluation.get("intervals") or {}).get(key) or {}
    unit = f" {evaluation['boundary']['unit']}" if key == "hd95" and evaluation.get("boundary") else ""
    value = f"{name} {evaluation['mean'][key]:.3f}{unit}"
    if interval.get("low") is None or interval.get("high") is None:
        return value
    kind = "range" if str(interval["kind"]).startswith("range") else "95 % interval"
    return f"{value} ({kind} {interval['low']:.3f} to {interval['high']:.3f})"


def _boundary(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("boundary")
    if not found:
        return ""
    return ("Surfaces were compared by the 95th percentile of the Hausdorff distance (HD95) [@hausdorff], the average symmetric "
            f"surface distance (ASSD) [@assd] and the normalised surface Dice (NSD) at {found['tolerance']:g} {found['unit']} "
            "[@nsd].")


def _calibration(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("calibration")
    if not found or found.get("ece") is None:
        return ""
    return (f"The expected calibration error [@calibration] of the probabilities was {found['ece']:.3f}, over {len(found['bins'])} "
            "bins.")


def _intervals(evaluation: Mapping[str, Any]) -> str:
    kinds = [str(i.get("kind")) for i in (evaluation.get("intervals") or {}).values()]
    groups = evaluation.get("groups")
    units = f"{groups['n']} groups of images" if groups else "images"
    if any(k.startswith("bootstrap") for k in kinds):
        return f"Intervals are 95 % bootstrap intervals over {units} [@bootstrap, expanded]."
    return f"With so few {units} no intervals are given but the range of the {'groups' if groups else 'images'}." if kinds else ""


def _agreement(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("agreement")
    if not found or found.get("bias") is None:
        return ""
    limits = (f", with limits of agreement [@bland-altman] from {found['low']:+.1f} to {found['high']:+.1f}"
              if found.get("low") is not None else "")
    return f"Predicted counts differed from true ones by {found['bias']:+.2f} objects an image on average{limits}."


def _paired(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("paired")
    if not found:
        return ""
    key = found["metric"]
    one = found["difference"].get(key) or {}
    if one.get("mean") is None:
        return ""
    p = f", p = {one['p']:.2g} by a sign-flip test [@permutation]" if one.get("p") is not None else ""
    limits = f" ({one['low']:+.3f} to {one['high']:+.3f})" if one.get("low") is not None else ""
    name = "AP at 0.5" if key == "ap50" else "Dice"
    return f"Against other predictions of the same images the difference in {name} was {one['mean']:+.3f}{limits}{p}."


def _annotator(evaluation: Mapping[str, Any]) -> str:
    found = evaluation.get("annotator")
    if not found:
        return ""
    key = "ap50" if evaluation.get("kind") == "instances" else "dice"
    value = found["mean"].get(key)
    name = "an AP at 0.5" if key == "ap50" else "a Dice"
    return f"A second annotator reached {name} of {value:.3f} against the same truth." if value is not None else ""

