"""Whether Mask R-CNN can learn masks and key points at all: eight images of COCO by heart, from random weights.

    python benchmarks/coco_overfit.py --steps 1500

The first eight images of coco_mini's training part, by name, without a crowd, where every person is at least 40 px wide and high
and one has eight labelled key points; `mask-rcnn-small` with the images' shorter side at 288 px and nothing varied. Scores are
those of the images that were trained on: they say that targets, losses and decoding fit together, and nothing of other images.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import data_root, record
from real_data import biomask

#: Images; labelled key points that one person of each has at least, and sides of all its persons, px.
IMAGES, POINTS, SIDE = 8, 8, 40

SETTINGS = ("data.keypoints=true", "data.validation_share=0", "network.options.short_side=288", "network.options.long_side=512",
            "augmentation.flip=[]", "augmentation.warp=0", "augmentation.intensity=0", "training.batch=2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default="800")
    parser.add_argument("--work", type=Path, default=Path("runs/coco_overfit"), help="where everything is written")
    parser.add_argument("--set", nargs="*", default=[], help="further settings of the recipe, to try something")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    data, model, out, report = (options.work / n for n in ("data", "model", "out", "evaluation.json"))
    names = subset(data)
    began = time.monotonic()
    biomask("train", data, "-o", model, "--recipe", "mask-rcnn-small", "--labels", "instances", "--steps", options.steps,
            *(w for s in (*SETTINGS, *options.set) for w in ("--set", s)))
    trained = time.monotonic()
    biomask("predict", model, data / "images", "-o", out)
    biomask("evaluate", out, data, "--metrics", "coco", "--json", report, "--report", options.work / "evaluation.html")
    found = json.loads(report.read_text(encoding="utf-8"))["metrics"]
    record("coco_overfit", {"what": "AP of boxes, masks and key points on the eight images that were trained on",
                            "images": names, "steps": int(options.steps), "minutes_training": round((trained - began) / 60, 2),
                            "scores": {k: v["pooled"] for k, v in found.items() if k.startswith("coco")}})


def subset(folder: Path) -> list[str]:
    """The images and their entries of person_keypoints, as a data folder of its own; their names."""
    source = data_root() / "coco_mini"
    content = json.loads((source / "annotations" / "person_keypoints_train2017.json").read_text(encoding="utf-8"))
    persons = defaultdict[int, list[dict[str, Any]]](list)
    for person in content["annotations"]:
        persons[person["image_id"]].append(person)
    fitting = [i for i in content["images"] if (found := persons[i["id"]]) and not any(p["iscrowd"] for p in found)
               and max(p["num_keypoints"] for p in found) >= POINTS and min(n for p in found for n in p["bbox"][2:]) >= SIDE]
    chosen = sorted(fitting, key=lambda i: str(i["file_name"]))[:IMAGES]
    (folder / "images").mkdir(parents=True)
    for image in chosen:
        shutil.copy(source / "train2017" / image["file_name"], folder / "images")
    few = {**content, "images": chosen, "annotations": [p for i in chosen for p in persons[i["id"]]]}
    (folder / "person_keypoints.json").write_text(json.dumps(few), encoding="utf-8")
    return [i["file_name"] for i in chosen]


if __name__ == "__main__":
    main()
