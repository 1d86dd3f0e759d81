"""How long `biomask check` takes beside merely reading the same files, in one run.

    python benchmarks/checking.py --images 5000

Copies of the demo's synthetic cells (256 x 256, 8 bits, PNG with a mask each), every one with noise and cells of its own.
Reading: every image and mask opened and decoded by `biomask.io` on as many threads as cores, and nothing done with them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from biomask.data.synthetic import phase_contrast_cells
from biomask.io import list_images, read_image
from biomask.io.files import write_picture
from common import record


def make(folder: Path, count: int) -> None:
    """Images and masks; every 50th picture is drawn anew, the others are it with rolled axes and noise."""
    rng = np.random.default_rng(0)
    for index in range(count):
        if index % 50 == 0:
            image, cells = phase_contrast_cells(0, index, (256, 256))
        shift = tuple(int(s) for s in rng.integers(0, 256, 2))
        noisy = np.roll(image, shift, (-2, -1)).astype(int) + rng.integers(-20, 21, image.shape)
        write_picture(folder / "images" / f"{index:05d}.png", np.clip(noisy, 0, 255).astype(np.uint8))
        write_picture(folder / "masks" / f"{index:05d}.png", np.where(np.roll(cells, shift, (-2, -1)) > 0, 255, 0).astype(np.uint8))


def read_all(folder: Path) -> float:
    began = time.perf_counter()
    files = list_images(folder)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        total = sum(pool.map(lambda p: int(read_image(p).array[0, 0, 0]), files))
    print(f"reading {len(files)} files: {time.perf_counter() - began:.1f} s (checksum {total})")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="keep the images here, and use those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "data"
        if not folder.is_dir():
            make(folder, arguments.images)
        reading = [read_all(folder)]
        report = Path(temporary) / "check.html"
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "biomask", "check", str(folder), "--report", str(report)], check=False)
        checking = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        reading.append(read_all(folder))
        size = report.stat().st_size
    best = min(reading)
    record("checking", {
        "images": arguments.images, "seconds_reading": round(best, 2), "seconds_checking": round(checking, 2),
        "ratio": round(checking / best, 2), "images_a_second": round(arguments.images / checking, 1),
        "peak_bytes": peak, "report_bytes": size})


if __name__ == "__main__":
    main()
