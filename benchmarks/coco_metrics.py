"""COCO's AP and AR of boxes, masks and key points, ours beside pycocotools: the same objects, one core, in turn in one process.

    python benchmarks/coco_metrics.py

The truth is coco_mini, repeated under new ids; what is compared with it is the truth as a poor detector finds it: moved, doubled,
missed, of other classes. Two costs each: of scoring alone, from boxes, run lengths and key points in memory; and from the two JSON
files to the tables (of masks those of their boxes too; ours also of each image and class, with intervals). Seconds are of the
processor, so that other programs on the machine count little. The largest difference of all precisions and recalls is recorded
beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from biomask.evaluation.coco_files import score_results
from biomask.evaluation.coco_truth import found_by_detector, true_in_coco
from biomask.evaluation.options import EvaluateOptions
from biomask.io.coco import read_coco
from biomask.io.detections import DetectedImage, read_detections
from biomask.metrics import CocoKind, FoundObjects, TrueObjects, coco_scores
from biomask.progress import Silent
from common import data_root, record

TYPES: dict[CocoKind, str] = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="times that the images are taken (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="of each side, the fastest counts (default: 3)")
    parser.add_argument("--dry", action="store_true", help="print, and write no file")
    options = parser.parse_args()
    rows = {}
    for kind in TYPES:
        name = "person_keypoints" if kind == "keypoints" else "instances"
        truth = repeated([data_root() / "coco_mini" / "annotations" / f"{name}_{part}2017.json" for part in ("train", "val")],
                         options.repeat)
        rows[kind] = compared(truth, results(truth, kind), kind, options.runs)
        print(kind, rows[kind])
    if not options.dry:
        record("coco_metrics", {"repeat": options.repeat, "runs": options.runs, "kinds": rows})


def repeated(files: list[Path], times: int) -> dict[str, Any]:
    """The images of several files, so many times, under ids of their own."""
    whole: dict[str, Any] = {"images": [], "annotations": []}
    for content in [json.loads(f.read_text()) for _ in range(times) for f in files]:
        ids = {i["id"]: len(whole["images"]) + n for n, i in enumerate(content["images"], start=1)}
        whole["images"] += [{**i, "id": ids[i["id"]], "file_name": f"{ids[i['id']]}.jpg"} for i in content["images"]]
        start = len(whole["annotations"]) + 1
        whole["annotations"] += [{**a, "id": n, "image_id": ids[a["image_id"]]}
                                 for n, a in enumerate(content["annotations"], start=start)]
        whole["categories"] = content["categories"]
    return whole


def results(truth: dict[str, Any], kind: CocoKind) -> list[dict[str, Any]]:
    """What a poor detector finds, with the keys of one kind."""
    rng = np.random.default_rng(0)
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    ids = [c["id"] for c in truth["categories"]]
    found = []
    for a in truth["annotations"]:
        for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
            row: dict[str, Any] = {"image_id": a["image_id"], "score": round(float(rng.random()), 3),
                                   "category_id": int(rng.choice(ids)) if rng.random() < 0.1 else a["category_id"]}
            if kind == "boxes":
                box = np.array(a["bbox"]) + rng.normal(0, 0.05, 4) * np.tile(a["bbox"][2:], 2)
                row["bbox"] = [*box[:2].tolist(), *np.maximum(box[2:], 0).tolist()]
            elif kind == "masks":
                row["segmentation"] = moved(a["segmentation"], sizes[a["image_id"]], rng.integers(0, 6, 2))
            else:
                points = np.array(a["keypoints"], float).reshape(-1, 3)
                points[:, :2] += rng.normal(0, 3, (len(points), 2))
                row["keypoints"] = points.reshape(-1).tolist()
            found.append(row)
    return found


def moved(said: Any, size: tuple[int, int], shift: Any) -> dict[str, Any]:
    """A mask so many pixels further on, as packed run lengths."""
    rle = mask.frPyObjects(said, *size)
    pixels = mask.decode(mask.merge(rle) if isinstance(rle, list) else rle)
    packed = mask.encode(np.asfortranarray(np.roll(pixels, shift, (0, 1))))
    return {"size": list(size), "counts": packed["counts"].decode()}


def compared(truth: dict[str, Any], found: list[dict[str, Any]], kind: CocoKind, runs: int) -> dict[str, Any]:
    """Seconds of both sides, and how far apart their tables are."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "truth.json"), Path(folder, "found.json")
        for file, content in zip(files, (truth, found), strict=True):
            file.write_text(json.dumps(content))
        sides, categories = loaded(*files)
        theirs, reference = fastest(runs, lambda: tables(peer(*files), kind)[-1])
        ours, scores = fastest(runs, lambda: coco_scores(*sides, kind, categories))
        pairs = [peer(*files) for _ in range(runs)]  # each serves once: scoring writes into it
        alone, _ = fastest(runs, lambda: judged(*pairs.pop(), kind))
        whole, _ = fastest(runs, lambda: score_results(files[1], files[0], EvaluateOptions(), Silent()))
    apart = max(float(np.abs(np.nan_to_num(mine, nan=-1) - other).max()) for mine, other in (
        (scores.precision, reference.eval["precision"][..., -1]), (scores.recall, reference.eval["recall"])))
    return {"images": len(truth["images"]), "true": len(truth["annotations"]), "found": len(found), "largest_difference": apart,
            "ap": round(float(reference.stats[0]), 4),
            "seconds_of_scoring": {"biomask": round(ours, 3), "pycocotools": round(alone, 3)},
            "seconds_from_files": {"biomask": round(whole, 3), "pycocotools": round(theirs, 3)}}


def loaded(truth: Path, found: Path) -> tuple[tuple[list[TrueObjects], list[FoundObjects]], list[int]]:
    """Both sides in memory, in order of the ids of the images."""
    content = read_coco(truth)
    numbers = {c.name: c.id or 0 for c in content.described}
    points = max(len(c.keypoints) for c in content.described)
    sizes = {i.id or 0: i.size for i in content}
    detected = {i.id: i for i in read_detections(found, sizes=sizes).images}
    true, other = [], []
    for image in sorted(content, key=lambda i: i.id or 0):
        size = image.size or (0, 0)
        true.append(true_in_coco(image, numbers, size, points))
        other.append(found_by_detector(detected.get(image.id) or DetectedImage.none(size), {n: n for n in numbers.values()}, size,
                                       points))
    return (true, other), list(numbers.values())


def peer(truth: Path, found: Path) -> tuple[Any, Any]:
    """The same in pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        own = COCO(str(truth))
        return own, own.loadRes(str(found))


def tables(pair: tuple[Any, Any], kind: CocoKind) -> list[Any]:
    """All that our command scores of such a file: of masks their boxes too."""
    return [judged(*pair, each) for each in (("boxes", "masks") if kind == "masks" else (kind,))]


def judged(own: Any, found: Any, kind: CocoKind) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(own, found, TYPES[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def fastest(runs: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of the fastest of several runs."""
    return min((timed(call) for _ in range(runs)), key=lambda found: found[0])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
