"""Objects of a data set in the figures that a detector's anchors and limits are chosen from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from biomask.data.keypoints import KeypointNames, keypoints_of
from biomask.data.objects import objects_of, reasons_of
from biomask.errors import LabelsError
from biomask.words import count

if TYPE_CHECKING:
    from biomask.data.dataset import Dataset

#: Images whose objects are looked at one by one, spread evenly over all.
MOST_IMAGES = 500

#: Boxes of which the sides are kept, spread evenly over all.
MOST_BOXES = 20_000

#: Percentiles of what is given as five figures.
PERCENTILES = (1, 5, 50, 95, 99)

Five = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class ObjectFacts:
    """The objects that a detector learns from, crowds apart. Lengths in pixels of the images."""

    images: int
    looked_at: int
    """Images that the objects were read of, spread evenly over all; what is counted was counted in these."""
    objects: int
    crowds: int
    """Regions that are ignored: crowds, unknown pixels, objects without a class."""
    boxes_alone: int
    """Objects of which a box is known and no outline."""
    with_keypoints: int
    """Objects of which at least one keypoint is labelled."""
    per_image: tuple[int, float, int]
    """Median, 95 % and most objects of an image; the most of all images."""
    sides: Five
    """Root of a box's area: 1, 5, 50, 95 and 99 %; 0 without objects."""
    aspects: Five
    """Height over width of a box."""
    smallest: float
    """Pixels: 1 % of the objects have fewer; 0 without objects. Of thin ones that lie aslant far fewer than their boxes have."""
    classes: dict[str, int]
    """Objects of each class, in the order of the legend."""
    boxes: npt.NDArray[np.float64] = field(repr=False)
    """(M, 2) height and width of some boxes, spread evenly over all."""
    dropped: dict[str, int]
    """What is in the files and not learnt, or not as it is there: reason and how often."""
    keypoints: KeypointNames | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know before a training, a sentence each."""
        where = "" if self.looked_at == self.images else f" (in {self.looked_at} of {self.images} images looked at)"
        notes = [f"{count(number, 'object')} not learnt, or not as given: {reason}{where}"
                 for reason, number in self.dropped.items()]
        if self.crowds:
            notes.append(f"{count(self.crowds, 'region')} ignored: crowds, pixels marked as unknown, objects without a class"
                         f"{where}")
        if self.boxes_alone:
            notes.append(f"{count(self.boxes_alone, 'object')} with a box and no outline{where}: ignored where masks are learnt")
        return (*notes, *([self.keypoints.said] if self.keypoints is not None else []))


def object_facts(dataset: Dataset) -> ObjectFacts:
    """One pass over at most MOST_IMAGES images; the same data give the same figures. Raises what `objects_of` does."""
    images = min(MOST_IMAGES, len(dataset))
    if not images:
        raise LabelsError("there are no labelled images to look at")
    chosen = sorted({(2 * k + 1) * len(dataset) // (2 * images) for k in range(images)})
    numbers, boxes, areas = list[int](), list[npt.NDArray[np.float64]](), list[float]()
    dropped, classes = list[str](), Counter[int]()
    crowds = alone = pointed = 0
    for i in chosen:
        found = objects_of(dataset, i)
        learnt = np.flatnonzero(~found.crowd)
        numbers.append(len(learnt))
        crowds += int(found.crowd.sum())
        alone += sum(found.masks[k] is None for k in learnt)
        pointed += 0 if found.keypoints is None else int((found.keypoints[learnt, :, 2] > 0).any(axis=1).sum())
        boxes.append(found.boxes[learnt][:, [3, 2]] - found.boxes[learnt][:, [1, 0]])
        areas += [float(box.prod() if mask is None else mask[0].sum())
                  for box, mask in zip(boxes[-1], (found.masks[k] for k in learnt), strict=True)]
        classes.update(found.classes[learnt].tolist())
        dropped += found.dropped
    together = np.concatenate(boxes)
    most = max([*numbers, *(f.objects for item in dataset.inspected for f in item.labels)])
    return ObjectFacts(
        len(dataset), len(chosen), sum(numbers), crowds, alone, pointed,
        (int(np.median(numbers)), float(np.percentile(numbers, 95)), most), _five(np.sqrt(together.prod(axis=1))),
        _five(together[:, 0] / together[:, 1]), _five(areas)[0], {e.name: classes[k] for k, e in enumerate(dataset.legend) if k},
        together[:: max(1, -(-len(together) // MOST_BOXES))], reasons_of(dropped), keypoints_of(dataset))


def _five(values: npt.NDArray[np.float64] | list[float]) -> Five:
    found = np.percentile(values, PERCENTILES).tolist() if len(values) else [0.0] * 5
    return found[0], found[1], found[2], found[3], found[4]
