"""Metrics: small numpy functions on arrays of class ids or ids of objects; no files, no networks."""

from biomask.metrics.agreement import Agreement, agreement
from biomask.metrics.article import ArticleScores, article_scores
from biomask.metrics.average_precision import (
    THRESHOLDS,
    InstanceScores,
    average_precision,
    instance_scores,
    pooled,
    precision_at,
)
from biomask.metrics.boundary import SurfaceDistances, surface, surface_distances
from biomask.metrics.calibration import Reliability, class_reliability, structure_reliability
from biomask.metrics.coco import CocoScores, coco_scores, coco_summary
from biomask.metrics.coco_match import CocoKind, FoundObjects, MatchedImage, TrueObjects, match_image
from biomask.metrics.ctc import Detections, det, detections, seg, seg_of_objects
from biomask.metrics.fcn import FcnScores, fcn_scores
from biomask.metrics.isbi import IsbiLevel, IsbiScores, isbi_scores
from biomask.metrics.keypoints import oks, usual_sigmas
from biomask.metrics.matching import Matching, Overlaps, count_overlaps, match_instances, match_overlaps
from biomask.metrics.overlap import Overlap, confusion_matrix, mean, overlap
from biomask.metrics.rand import (
    RandScore,
    information_after_thinning,
    isbi_information_f,
    isbi_rand,
    isbi_rand_f,
    rand_after_thinning,
)
from biomask.metrics.warping import Mistakes, Warping, warp, warping_error

__all__ = [
    "THRESHOLDS",
    "Agreement",
    "ArticleScores",
    "CocoKind",
    "CocoScores",
    "Detections",
    "FcnScores",
    "FoundObjects",
    "InstanceScores",
    "IsbiLevel",
    "IsbiScores",
    "MatchedImage",
    "Matching",
    "Mistakes",
    "Overlap",
    "Overlaps",
    "RandScore",
    "Reliability",
    "SurfaceDistances",
    "TrueObjects",
    "Warping",
    "agreement",
    "article_scores",
    "average_precision",
    "class_reliability",
    "coco_scores",
    "coco_summary",
    "confusion_matrix",
    "count_overlaps",
    "det",
    "detections",
    "fcn_scores",
    "information_after_thinning",
    "instance_scores",
    "isbi_information_f",
    "isbi_rand",
    "isbi_rand_f",
    "isbi_scores",
    "match_image",
    "match_instances",
    "match_overlaps",
    "mean",
    "oks",
    "overlap",
    "pooled",
    "precision_at",
    "rand_after_thinning",
    "seg",
    "seg_of_objects",
    "structure_reliability",
    "surface",
    "surface_distances",
    "usual_sigmas",
    "warp",
    "warping_error",
]
