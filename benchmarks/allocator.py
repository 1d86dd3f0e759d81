"""What keeping freed memory brings (biomask.allocator), and what it costs: time, page faults and memory.

    python benchmarks/allocator.py

Each way in a process of its own, in turn; the figures are medians over the rounds. Prediction: a U-Net of width 16 on one image, as
`api.predict_array` runs it, the second time. Training: steps of the recipe `default` on real data.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from statistics import median
from typing import Any

import numpy as np
import torch

from biomask import allocator
from biomask.models import UNet
from biomask.prediction import predict_array
from common import record

WAYS = ("usual", "kept", "returned")
WORKS = ("predict", "isbi2012", "dsb2018", "hippocampus")
SIDE, ROUNDS, STEPS = 1024, 3, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, help="what and how, for a process of its own")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one)))
        return
    rows = []
    for work in WORKS:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                run = subprocess.run([sys.executable, __file__, "--one", work, way], capture_output=True, text=True, check=True)
                found[way].append(json.loads(run.stdout.splitlines()[-1]))
        row = {"what": work, **{way: {k: round(median(f[k] for f in runs), 4) for k in runs[0]} for way, runs in found.items()}}
        row["usual_against_kept"] = round(row["usual"]["seconds"] / row["kept"]["seconds"], 2)
        row["returned_against_kept"] = round(row["returned"]["seconds"] / row["kept"]["seconds"], 2)
        rows.append(row)
        print(row)
    what = f"seconds of one image of {SIDE} x {SIDE}, or of one training step; page faults in it; largest resident set in MB"
    record("allocator", {"what": what, "rounds": ROUNDS, "libc": " ".join(platform.libc_ver()), "rows": rows})


def measured(work: str, way: str) -> dict[str, float]:
    if way == "returned":
        allocator.return_freed_memory()
    with allocator.freed_memory_kept() if way == "kept" else nullcontext():
        seconds, faults = predicted() if work == "predict" else trained(work)
    return {"seconds": seconds, "faults": faults, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def predicted() -> tuple[float, float]:
    torch.manual_seed(0)
    network = UNet(1, 2, width=16, norm="batch", bias=False).eval().to(memory_format=torch.channels_last)
    image = np.random.default_rng(0).standard_normal((1, SIDE, SIDE)).astype(np.float32)
    predict_array(network, image)
    return counted(lambda: predict_array(network, image))


def trained(name: str) -> tuple[float, float]:
    from step_profile import prepared

    with prepared(name) as trainer:
        for _ in range(5):
            trainer._step(0.5)
        spent = [counted(lambda: trainer._step(0.5)) for _ in range(STEPS)]
    return median(s for s, _ in spent), float(np.mean([f for _, f in spent]))


def counted(run: Any) -> tuple[float, float]:
    """Seconds, and pages that the kernel had to give."""
    began, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults


if __name__ == "__main__":
    main()
