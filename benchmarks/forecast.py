"""What 5, 10 and 20 images of dsb2018 say of more, and what more images then give.

    python benchmarks/real_data.py dsb2018 --images 5 --minutes 4       (and 10, 20; 200 with --minutes 10)
    python benchmarks/forecast.py

Reads the evaluations that these left in runs/. The forecast is the one that `biomask compare --images` makes.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from biomask.comparison.curve import forecast
from common import RESULTS, data_root, record

#: Numbers of training images that the forecast knows, and that it is asked for.
KNOWN, ASKED = (5, 10, 20), (200, 523)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where real_data.py worked")
    parser.add_argument("--score", default="ap50")
    options = parser.parse_args()
    rows = csv.DictReader((data_root() / "dsb2018" / "split.csv").open(encoding="utf-8"))
    groups = {r["image"]: r["group"] for r in rows if r["part"] == "test"}
    points = {n: scores_in(options.runs / f"dsb2018_{n}", options.score) for n in KNOWN}
    found = forecast(points, groups, ASKED)
    seen = {n: json.loads((RESULTS / f"dsb2018{'' if n == 523 else f'_{n}'}.json").read_text())["scores"]["mean"][options.score]
            for n in ASKED}
    if found is None:
        raise SystemExit("no image has a score in all of the runs")
    record("forecast", {
        "what": f"{options.score} of dsb2018's 59 test images, foretold from trainings on {', '.join(map(str, KNOWN))} images; "
                "each of a budget of its own (dsb2018_*.json), one seed", "known": {n: _mean(points[n]) for n in KNOWN},
        "limit": found["limit"],
        "forecast": [{**t, "seen": seen[t["images"]], "covered": t["low"] <= seen[t["images"]] <= t["high"]}
                     for t in found["targets"]]})


def scores_in(folder: Path, score: str) -> dict[str, float | None]:
    """Of each test image."""
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return {image["name"]: image[score] for image in found["per_image"]}


def _mean(points: dict[str, float | None]) -> float:
    values = [v for v in points.values() if v is not None]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
