"""Sentences of a Methods paragraph on a trained network, each a pure function of its settings; `[@key]` cites `sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biomask.data.draws import STRETCH
from biomask.data.task import CUT
from biomask.instances import Thresholds
from biomask.labels import Legend
from biomask.reports import detectors
from biomask.reports.blocks import show
from biomask.reports.scores import copies_of_header, meaning_of
from biomask.reports.sources import literal

if TYPE_CHECKING:
    from biomask.checkpoint import ModelHeader
    from biomask.recipe import TrainingSettings

#: How networks are called, and by which works, by their names in `biomask.models.MODELS`.
NETWORKS: Mapping[str, tuple[str, str]] = {
    "unet": ("U-Net", "unet"), "unet-padded": ("U-Net", "unet"), "attention-unet": ("Attention U-Net", "attention"),
    "grid-attention-unet": ("Attention U-Net", "attention"), "unet++": ("UNet++", "unet++"),
    "fcn": ("fully convolutional network", "fcn"), "sliding-window": ("sliding-window classifier", "sliding-window"),
    "one-layer": ("single convolution", ""), "mask-rcnn": ("Mask R-CNN", "mask-rcnn"),
    "faster-rcnn": ("Faster R-CNN", "faster-rcnn"),
}


#: Losses of papers or of their code.
PUBLISHED: Mapping[str, str] = {
    "optic-disc": "half the binary cross-entropy plus half the soft Dice loss [@soft-dice]",
    "unet++": "half the binary cross-entropy less the soft Dice coefficient over the batch, as in the code of UNet++ [@unet++]",
    "unet++-printed": "the loss of the UNet++ paper, as printed [@unet++]",
    "attention": "the soft Dice loss of the code of the Attention U-Net [@attention]"}


def listed(parts: Sequence[str]) -> str:
    """a, b and c.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def foreground(header: ModelHeader) -> str:
    """Names of what is segmented."""
    return listed([literal(e.name) for e in list(Legend.from_json(header.legend))[1:]])


def percent(share: float) -> str:
    """A share that was set, as it was set.

    >>> percent(0.03), percent(0.125), percent(0.1)
    ('3 %', '12.5 %', '10 %')
    """
    return f"{100 * share:.4g} %"


def labels_said(header: ModelHeader) -> str:
    """What the labels were."""
    names = foreground(header)
    several = len(header.legend) > 2
    return {"classes": f"a class for every pixel ({names}, background)",
            "soft": f"the average of several experts for every pixel, of which at least half had to agree ({names})",
            "multilabel": f"a mask for each of the structures {names}, which may overlap",
            "instances": f"single objects ({names})" if several else "single objects"}[header.kind]


def normalization_said(header: ModelHeader) -> str:
    """How grey values become input."""
    n = header.recipe.normalization
    if n.method == "zscore":
        return "The grey values of each image were normalised, channel by channel, to a mean of 0 and a standard deviation of 1."
    if n.method == "percentile":
        return (f"The grey values of each image were scaled linearly, channel by channel, so that its percentiles {n.low:g} and "
                f"{n.high:g} became 0 and 1.")
    return "Grey values were used as they are."


def network_said(header: ModelHeader, parameters: int | None) -> str:
    """The architecture."""
    name, options = header.recipe.network.name, header.recipe.network.options
    called, key = NETWORKS.get(name, (f"network '{literal(name)}'", ""))
    volume = header.spatial_dims == 3
    works = ", ".join(filter(None, [key, "unet-3d" if volume and key == "unet" else ""]))
    called += f" [@{works}]" if works else ""
    size = f" with {parameters:,} trainable parameters" if parameters else ""
    parts = (detectors.built_said(options) if header.is_detector else _built(options) if name == "unet" else
             [f"{k.replace('_', ' ')} {_option(v)}" for k, v in options.items()])
    built = f": {listed(parts)}" if parts else ""
    text = f"The network was a {header.spatial_dims}D {called}{size}{built}."
    uneven = name == "unet" and ("scales" in options or "kernels" in options)
    flat = (" It pools along an axis, and convolves along it, only once its pixels are within a factor of two of the finest "
            "axis [@nnu-net].") if uneven else ""
    return text + flat


def begin_said(header: ModelHeader) -> str:
    """Where the weights began."""
    if any(k.startswith("before.") for k in header.scores):
        return "Training began with the weights of another model."
    noise = header.recipe.network.name == "unet"
    return "Weights began as Gaussian noise with a variance of 2 / fan-in [@he]." if noise else ""


def _option(value: Any) -> str:
    """A JSON value for people: yes, 0.5, batch, 2 × 2."""
    if isinstance(value, list):
        return ", ".join(map(_option, value)) if any(isinstance(v, list) for v in value) else " × ".join(map(_option, value))
    return {True: "yes", False: "no", None: "none"}.get(value, literal(str(value))) if not isinstance(value, dict) else "as given"


def _built(options: Mapping[str, Any]) -> list[str]:
    """The options of a U-Net's constructor in words."""
    found = []
    if "depth" in options:
        found.append(f"{options['depth']} poolings")
    if "width" in options:
        found.append(f"{options['width']} feature maps at full resolution, doubled at each level")
    padding = options.get("padding", "same")
    found.append("convolutions padded with zeros" if padding == "same" else "convolutions without padding")
    if options.get("norm") == "batch":
        found.append("batch normalisation [@batch-norm]")
    if options.get("dropout"):
        found.append(f"dropout [@dropout] of {options['dropout']:g} at the end of the contracting path")
    up = options.get("up", "transposed")
    found.append({"transposed": "transposed convolutions for up-sampling"}.get(str(up), f"{up} up-sampling"))
    return found


def target_said(header: ModelHeader) -> str:
    """What the network learns of objects."""
    if header.task.kind != "instances" or header.is_detector:
        return ""
    s = header.recipe.instances
    if s.target == "distance":
        return ("Beside the class of each pixel it learnt two maps: the distance to the edge of its object, 1 at the centre, and "
                f"the border between touching objects, {s.border_width} px on either side.")
    if s.weights == "plug-in":
        return ("Lines of 1 to 2 px between touching objects were background. Background weighed more near objects and between "
                "them, by the formula of the U-Net plug-in [@plug-in].")
    return (f"Lines of 1 to 2 px between touching objects were background, and weighed up to {s.w0:g} more in the loss "
            f"(σ = {s.sigma:g} px) [@unet].")


def loss_said(header: ModelHeader) -> str:
    """What was minimised."""
    if header.is_detector:
        return detectors.loss_said(header)
    loss, task = header.recipe.loss, header.task
    parts = [PUBLISHED[loss.published]] if loss.published is not None else _terms_said(header)
    if task.maps:
        parts += [f"{_times(w)}balanced cross-entropy of the {what} map" for w, what in
                  ((loss.distance, "distance"), (loss.border, "border")) if w]
    said = f"The loss was the sum of {listed(parts)}." if len(parts) > 1 else f"The loss was {listed(parts)}."
    if loss.heads is None or header.recipe.network.name != "unet++":
        return said
    return said + f" It was averaged over the heads of the network with weights {listed([f'{w:g}' for w in loss.heads])}."


def _terms_said(header: ModelHeader) -> list[str]:
    """The parts of a loss that is a sum."""
    loss, multilabel = header.recipe.loss, header.task.kind == "multilabel"
    weights = ""
    if loss.class_weights is not None and not multilabel:
        names = [literal(e.name) for e in Legend.from_json(header.legend)]
        weights = f" (class weights {listed([f'{w:g} for {n}' for w, n in zip(loss.class_weights, names, strict=False)])})"
    parts = []
    if loss.cross_entropy:
        parts.append(f"{_times(loss.cross_entropy)}{'binary cross-entropy' if multilabel else 'cross-entropy'}{weights}")
    if loss.dice:
        parts.append(f"{_times(loss.dice)}soft Dice loss [@soft-dice]")
    if loss.tversky:
        parts.append(f"{_times(loss.tversky)}Tversky loss [@tversky] (α = {loss.tversky_alpha:g}, β = {loss.tversky_beta:g})")
    if loss.focal:
        parts.append(f"{_times(loss.focal)}focal loss [@focal] (γ = {loss.focal_gamma:g}){'' if loss.cross_entropy else weights}")
    return parts


def _times(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} × "


def augmentation_said(header: ModelHeader) -> str:
    """How patches were varied."""
    a, dims = header.recipe.augmentation, header.spatial_dims
    axes = [axis for axis in "xyz"[:dims] if axis in a.flip]
    found = []
    if axes:
        found.append(f"mirrored along {listed(axes)}")
    if a.rotate90:
        found.append("turned by multiples of 90°")
    if header.is_detector:
        found += detectors.scaled_said(header)
    elif a.warp:
        parts = [f"rotated by up to {a.rotate:g}°" if a.rotate else "",
                 f"scaled by up to {percent(a.scale)}, stretched by up to {percent(STRETCH)} along each axis" if a.scale else "",
                 f"deformed elastically (displacements with a standard deviation of {a.elastic:g} px on a coarse grid of 3 points "
                 "along each axis [@unet])" if a.elastic else ""]
        found.append(f"with a probability of {a.warp:g} " + listed([p for p in parts if p]))
    changes = [(a.intensity, "changed in brightness and contrast, and in gamma"), (a.blur, "blurred"),
               (a.noise, "overlaid with noise"),
               (a.stain * (header.in_channels == 3), "changed in their stains [@stain]")]
    found += [f"with a probability of {chance:g} {what}" for chance, what in changes if chance]
    what = samples_said(header)
    return f"{what} were at random {'; '.join(found)}." if found else f"{what} were not augmented."


def samples_said(header: ModelHeader) -> str:
    """What is learnt from at a time."""
    return "Images" if header.is_detector and header.recipe.training.patch is None else "Patches"


def optimisation_said(t: TrainingSettings, steps: int | None, time: str, what: str = "patches") -> str:
    """Optimiser, rate, budget. what: a batch is of."""
    optimizer = {"adamw": f"AdamW [@adamw] (weight decay {t.weight_decay:g})",
                 "adam": f"Adam [@adam] (weight decay {t.weight_decay:g})",
                 "sgd": f"stochastic gradient descent [@momentum] (momentum {t.momentum:g}, weight decay {t.weight_decay:g})",
                 }[t.optimizer]
    patch = " × ".join(map(str, t.patch)) + " px" if t.patch else ""
    batch = f" on batches of {t.batch} {what}{f' of {patch}' if patch else ''}" if t.batch else ""
    rate = f"a learning rate of up to {t.lr:g}"
    if t.until_flat:
        rate += ", constant until the validation score no longer rose, then lowered linearly to 0"
    elif t.schedule == "cosine":
        rate += " that followed a half cosine to 0 [@cosine]"
    elif t.schedule == "step":
        when = f"after {listed([percent(at) for at in t.drop_at])}" if t.drop_at else f"after each {percent(t.drop_every)}"
        rate += f" that was multiplied by {t.drop_factor:g} {when} of the training"
    if t.warmup:
        rate += f" after a linear rise over the first {percent(t.warmup)} of the training"
    lasted = listed([f"{steps:,} steps"] if steps and not time else [f"{steps:,} steps ({time})"] if steps else [])
    found = [f"It was trained with {optimizer}{batch}{f' for {lasted}' if lasted else ''}, with {rate}."]
    if t.oversample:
        found.append(f"{percent(t.oversample)} of the patches were laid on an object or a rare class.")
    if t.clip is not None:
        found.append(f"Gradients were clipped to a norm of {t.clip:g} [@clip].")
    if t.average is not None:
        found.append(f"A running average of the weights (over {percent(t.average)} of the steps) [@averaging] was kept where it "
                     "scored better.")
    return " ".join(found)


def selection_said(header: ModelHeader) -> str:
    """By what the weights were chosen."""
    if header.scores.get("validation.score") is None:
        return "The weights are those of the last step: none were scored on held-out images."
    meaning = meaning_of(header)
    each = "of each fold " if header.members > 1 else ""
    return (f"The latest weights {each}were kept, unless earlier ones had a higher {meaning.name} on the held-out images by more "
            "than chance explains (paired t-test, one-sided, p < 0.05).")


def decision_said(header: ModelHeader) -> str:
    """From the network's output to masks and objects."""
    if header.is_detector:
        return detectors.decision_said(header)
    found = []
    if header.recipe.prediction.augment not in (None, "none"):
        copies = copies_of_header(header)
        found.append(f"Predictions are the mean over {copies} mirrored or turned copies of each image.")
    if header.task.kind == "classes":
        found += _refined_said(header)
    if CUT in header.thresholds:
        name = literal(list(Legend.from_json(header.legend))[-1].name)
        found.append(f"A pixel is {name} where its probability is above {header.thresholds[CUT]:g}, a threshold tuned on the "
                     "held-out images.")
    elif header.task.kind == "multilabel":
        found.append("A pixel belongs to a structure where its probability is at least 0.5.")
    if header.task.kind == "instances":
        found.append(_objects_said(header))
    return " ".join(found)


def _refined_said(header: ModelHeader) -> list[str]:
    """What follows the network, of classes."""
    wanted = header.recipe.prediction
    calibrated = wanted.calibrate and header.task.entries == 2
    return (["Probabilities were brought to how often they were right on the held-out images, by a monotone cubic "
             "[@sliding-window]."] if calibrated else []) + (
        [f"They were filtered by the median over a disk of {wanted.median} px."] if wanted.median else [])


def _objects_said(header: ModelHeader) -> str:
    t = Thresholds.from_dict({k: v for k, v in header.thresholds.items() if k != CUT})
    smooth = f", smoothed with a Gaussian of {t.sigma:g} px," if t.sigma else ""
    interior = "distance map less the border map" if header.task.maps else "probability of the foreground"
    tuned = ", with thresholds tuned on the held-out images" if header.thresholds else ""
    return (f"Objects were found by a watershed [@watershed]{tuned}: seeds are the maxima of the {interior}{smooth} with a "
            f"dynamics of at least {t.valley:.3g}, the flood fills the foreground (probability above {t.foreground:.3g}), objects "
            f"below {t.min_size} px are merged or dropped, and holes of up to {percent(t.hole)} of their object are filled.")


def tuned_score(scores: Mapping[str, float | None]) -> float | None:
    """The score as the model predicts, with thresholds and copies that were chosen on the held-out images; None where none were."""
    return next((v for k in ("trial.thresholds tuned", "trial.cut tuned") if (v := scores.get(k)) is not None), None)


def score_said(header: ModelHeader, held_out: int) -> str:
    """The scores of the weights that were kept, and what they are worth."""
    score = header.scores.get("validation.score")
    if score is None:
        return ""
    over = f"{held_out} held-out image{'s' * (held_out != 1)}" if held_out else "held-out images"
    meaning, half = meaning_of(header), header.scores.get("validation.ap50")
    more = f" ({show(half)} at an IoU of 0.5)" if half is not None and header.task.kind == "instances" else ""
    tuned = tuned_score(header.scores)
    after = f", and {show(tuned)} with what was then tuned on held-out images" if tuned is not None else ""
    return (f"On {over}, the {meaning.name} ({meaning.over}) was {show(score)}{more}{after}; as these images chose the weights"
            f"{' and thresholds' if header.thresholds else ''}, this is no independent test.")
