"""What the scores of challenges cost: warping, Rand and V_info over a stack, SEG and DET over a movie.

    python benchmarks/metrics.py

The truth is real: slices of the ISBI 2012 training stack, and the silver labels of DIC-C2DH-HeLa. What is compared with it is the
truth blurred under noise, as unsure as a network after a short training, and the labels moved by three pixels. One core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from scipy import ndimage

from biomask.metrics import detections, isbi_scores, seg, warping_error
from biomask.metrics.isbi import LEVELS
from biomask.metrics.rand import region_scores, regions, thinned
from common import data_root, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=30, help="of the stack (default: 30)")
    parser.add_argument("--frames", type=int, default=84, help="of the movie (default: 84)")
    parser.add_argument("--dry", action="store_true", help="print, and write no file")
    options = parser.parse_args()
    truth = slices(options.slices)
    p = np.stack([unsure(plane, seed) for seed, plane in enumerate(truth)])
    movie = frames(options.frames)
    costs = {
        "warping_of_a_slice": {**{f"at {t:.1f}": seconds(lambda t=t: warping_error(truth[0], p[0], t)) for t in LEVELS},
                               "nothing found": seconds(lambda: warping_error(truth[0], np.zeros_like(p[0]))),
                               "noise": seconds(lambda: warping_error(truth[0], np.random.default_rng(0).random(truth[0].shape)))},
        "rand_and_information_of_the_stack": seconds(lambda: over_thresholds(truth, lambda t: regions(p > t))),
        "the_same_after_thinning": seconds(lambda: over_thresholds(truth, lambda t: thinned(p, t))),
        "all_of_isbi_of_a_slice": seconds(lambda: isbi_scores(truth[0], p[0])),
        "seg_of_the_movie": seconds(lambda: seg(movie)),
        "det_of_the_movie": seconds(lambda: [detections(*frame) for frame in movie]),
    }
    for name, cost in costs.items():
        print(f"{name}: {cost}")
    if not options.dry:
        record("metrics", {"slices": len(truth), "slice": list(truth.shape[1:]), "thresholds": list(LEVELS), "frames": len(movie),
                           "frame": list(movie[0][0].shape), "pixel_error_at_0.5": round(float(((p > 0.5) != truth).mean()), 4),
                           "seconds": costs})


def slices(count: int) -> npt.NDArray[np.bool_]:
    """(count, 512, 512), True = cell."""
    files = sorted((data_root() / "isbi2012" / "train" / "masks").glob("*.png"))[:count]
    return np.stack([np.asarray(Image.open(f)) > 0 for f in files])


def unsure(truth: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.float32]:
    """Probabilities of cell."""
    noise = np.random.default_rng(seed).normal(0, 1.2, truth.shape)
    return np.asarray(ndimage.gaussian_filter(truth + noise, 2.5).clip(0, 1), np.float32)


def frames(count: int) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """(silver labels, the same moved) of each frame."""
    files = sorted((data_root() / "ctc" / "DIC-C2DH-HeLa" / "01_ST" / "SEG").glob("*.tif"))[:count]
    return [(truth, np.roll(truth, 3, 1)) for truth in map(tifffile.imread, files)]


def over_thresholds(truth: npt.NDArray[np.bool_], found: Callable[[float], npt.NDArray[Any]]) -> None:
    """Both scores of a stack at each threshold; labelling of regions, or thinning, is part of the cost."""
    cells = regions(truth)
    for threshold in LEVELS:
        region_scores(cells, found(threshold))


def seconds(run: Callable[[], object]) -> float:
    """Of processor time: what other programs take does not count."""
    began = time.process_time()
    run()
    return round(time.process_time() - began, 3)


if __name__ == "__main__":
    main()
