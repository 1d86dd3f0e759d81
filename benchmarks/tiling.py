"""What exact tiling costs and saves: untiled against tiles, one network, one image, in one run.

    python benchmarks/tiling.py
"""

from __future__ import annotations

import time

import numpy as np
import torch

from biomask.allocator import freed_memory_kept
from biomask.models import UNet
from biomask.prediction import geometry_of, predict_array
from biomask.prediction.memory import activation_bytes
from biomask.tiling import plan_tiles
from common import record

SIDE, REPEATS = 1536, 3


@freed_memory_kept()  # as in a prediction
def main() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, width=32, norm="batch", bias=False).eval().to(memory_format=torch.channels_last)
    image = np.random.default_rng(0).standard_normal((1, SIDE, SIDE)).astype(np.float32)
    whole = predict_array(network, image)
    rows = []
    for tile in (SIDE, 768, 512, 256, 96):
        seconds = min(timed(network, image, tile) for _ in range(REPEATS))
        tiles = plan_tiles((SIDE, SIDE), (tile, tile), geometry_of(network))
        largest = max((t.read_size for t in tiles), key=lambda s: s[0] * s[1])
        tiled = predict_array(network, image, tile=tile)
        rows.append({"tile": tile, "seconds": round(seconds, 2), "tiles": len(tiles),
                     "activation_megabytes": round(activation_bytes(network, largest) / 1e6),
                     "largest_relative_difference": float(np.abs(tiled - whole).max() / np.abs(whole).max()),
                     "pixels_with_another_class": int((tiled.argmax(0) != whole.argmax(0)).sum())})
    for row in rows:
        row["time_against_untiled"] = round(row["seconds"] / rows[0]["seconds"], 2)
        print(row)
    record("tiling", {"what": f"U-Net of width 32, depth 4, on {SIDE} x {SIDE} float32; best of {REPEATS}", "rows": rows})


def timed(network: torch.nn.Module, image: np.ndarray, tile: int) -> float:
    began = time.perf_counter()
    predict_array(network, image, tile=tile)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
