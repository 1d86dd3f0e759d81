"""Whether the probabilities of a data set are what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biomask.data.encoding import Encoding
from biomask.errors import LabelsError
from biomask.evaluation.meaning import class_ids
from biomask.evaluation.scored import ScoredImage
from biomask.io import read_image
from biomask.labels import Labels
from biomask.metrics import Reliability, class_reliability, structure_reliability
from biomask.metrics.calibration import BINS, CLIP

#: (value in masks, or None for a map of no class, name) of a channel of probabilities.
Channel = tuple[int | None, str]

#: Kind of labels: what is judged, in words.
JUDGED = {
    "classes": "The confidence of a pixel is the probability of its most probable class, right if that is the true one. Brier: "
               "half the sum over classes of the squared differences of probability and truth",
    "multilabel": "The confidence is the probability of a structure, right if the pixel belongs to it; every pixel counts once a "
                  "structure. Brier: the squared difference of probability and truth",
    "instances": "The confidence is the probability of any object (1 less that of the background), right if the pixel belongs to "
                 "one. Brier: the squared difference of probability and truth",
}


def reliability_of(path: Path | None, labels: Labels, encoding: Encoding, channels: Sequence[Channel]) -> Reliability | None:
    """Of the probabilities of an image; None where it has none. channels: what they are; empty = as the truth has its classes.

    Raises LabelsError for maps of another size or number.
    """
    if path is None:
        return None
    maps = np.asarray(read_image(path).array)
    if maps.shape[1:] != labels.size:
        raise LabelsError(f"has size {maps.shape[1:]}, the truth {labels.size}", where=path, fix="predict the image again")
    try:
        return _reliability(maps, labels, encoding, channels)
    except LabelsError as error:
        raise LabelsError(error.what, where=path, fix=error.fix) from error


def _reliability(maps: npt.NDArray[Any], labels: Labels, encoding: Encoding, channels: Sequence[Channel]) -> Reliability:
    legend = encoding.legend
    if encoding.kind == "multilabel":
        names = [e.name for e in list(legend)[1:]]
        places = _places([n for _, n in channels], names) if channels else dict(enumerate(range(len(names))))
        _check(maps, len(channels) or len(names), bool(channels) and len(places) < len(names))
        found = Reliability.none()
        for k, true in enumerate(labels.array):
            found += structure_reliability(maps[places[k]], true, labels.ignore)
        return found
    values = [v for v, _ in channels] or list(legend.values)
    true = class_ids(labels, encoding)
    if len(maps) == 1 and len(legend) == 2 and not channels:  # the probability of the second class alone
        return structure_reliability(maps[0], true > 0, labels.ignore)
    places = _places(values, legend.values)
    if encoding.kind == "instances":
        background = places.get(0, 0)
        _check(maps, len(channels) or len(maps), False)
        return structure_reliability(1 - maps[background], labels.array > 0, labels.ignore)
    _check(maps, len(values), False)
    kept = [k for k, v in enumerate(values) if v is not None]
    table = np.array([kept.index(places[k]) if k in places else -1 for k in range(len(legend))], np.int16)
    return class_reliability(maps if len(kept) == len(maps) else maps[kept], table[true], labels.ignore)


def _places(there: Sequence[Any], wanted: Sequence[Any]) -> dict[int, int]:
    """{position of what is wanted: its position among what is there}."""
    return {k: list(there).index(w) for k, w in enumerate(wanted) if w in there}


def _check(maps: npt.NDArray[Any], expected: int, strangers: bool) -> None:
    if len(maps) != expected or strangers:
        raise LabelsError(f"has {len(maps)} channels of probabilities, which are not those of the truth ({expected} expected)",
                          fix="predict again with --probabilities, or move the folder probabilities elsewhere")


def calibration(images: Sequence[ScoredImage], kind: str) -> dict[str, Any] | None:
    """bce, brier, ece, bins, pixels, images and what they are, from all images that have probabilities; None without one."""
    own = [i.reliability for i in images if i.reliability is not None]
    if not own:
        return None
    whole = sum(own, Reliability.none())
    bins = [{"low": k / BINS, "high": (k + 1) / BINS, "confidence": float(c / n) if n else None,
             "accuracy": float(r / n) if n else None, "pixels": int(n)}
            for k, (n, c, r) in enumerate(zip(whole.pixels, whole.confidence, whole.correct, strict=True))]
    over = f"{len(own)} image{'s' * (len(own) != 1)}" + (f" of {len(images)}, the others have no probabilities"
                                                         if len(own) < len(images) else "")
    says = (f"Calibration, over all known pixels of {over}. {JUDGED[kind]}. BCE: the mean of −ln of the probability of what is "
            f"true, in nats, where probabilities below {CLIP:g} count as that. ECE: the mean difference of confidence and share of "
            f"right pixels over {BINS} bins of confidence, weighed by their pixels.")
    return {"bce": whole.bce, "brier": whole.brier, "ece": whole.ece, "bins": bins, "pixels": whole.answers, "images": len(own),
            "says": says}
