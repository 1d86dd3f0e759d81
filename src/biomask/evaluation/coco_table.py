"""COCO's table: titles, rules, and the scores of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomask.metrics import CocoKind, CocoScores, MatchedImage, coco_summary

#: Name of the measure: what it compares.
COCO_NAMES: Mapping[str, CocoKind] = {"coco_boxes": "boxes", "coco_masks": "masks", "coco_keypoints": "keypoints"}

COCO_SAYS = (
    "In each image and class the found objects, the surest first, each take the true object of the largest IoU that is left. AP is "
    "the precision, made to fall with recall, at the recalls 0, 0.01, … 1, a mean over the IoU 0.5, 0.55, … 0.95 and over the "
    "classes that the truth has; AR is the recall that is reached, its mean over the same. Objects count by their scores over all "
    "images together, and so AP is no mean over images; the column of means has the AP of each image alone. As pycocotools "
    "computes them (Lin et al., ECCV 2014).",
    "Small: up to 32² pixels; medium: up to 96²; large: above. True objects of other sizes, crowds and unknown regions neither "
    "count nor cost: what is found there is ignored. The most objects of an image and class that count are 100 (1 and 10 for the "
    "first AR), of key points 20. A class without a true object of the size is undefined (–) and does not count.",
)

KEYPOINTS_SAY = (
    "In the place of the IoU stands OKS: the mean over the labelled points of exp(−d² / (2 s² k²)), with d the distance, s² the "
    "area of the object and k twice how far people disagree about the point: COCO's for 17 points, else 0.07. Objects without a "
    "labelled point are not judged, nor are small ones apart.")

_TITLES = {
    "ap": "AP", "ap50": "AP at 0.5", "ap75": "AP at 0.75", "ap_small": "AP, small", "ap_medium": "AP, medium",
    "ap_large": "AP, large", "ar_1": "AR, 1 an image", "ar_10": "AR, 10 an image", "ar_100": "AR, 100 an image", "ar": "AR",
    "ar50": "AR at 0.5", "ar75": "AR at 0.75", "ar_small": "AR, small", "ar_medium": "AR, medium", "ar_large": "AR, large"}


def coco_titles(kind: CocoKind) -> dict[str, str]:
    """Title of each score, in COCO's order."""
    return {key: _TITLES[key] for key in coco_summary([], kind, []).summary()}


def pooled_scores(images: Sequence[MatchedImage], kind: CocoKind) -> CocoScores:
    """Of all images together, each class that their truth has."""
    return coco_summary(images, kind, {int(c) for i in images for c in i.true_categories})


def coco_classes(images: Sequence[MatchedImage], kind: CocoKind, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By the number of the class: its name, its true objects that are judged, and its scores. names: of classes, from 1."""
    found = coco_summary(images, kind, range(1, len(names) + 1))
    return {str(n): {"name": name, "true": int(found.true[n - 1, 0]), **found.summary(n)} for n, name in enumerate(names, start=1)}
