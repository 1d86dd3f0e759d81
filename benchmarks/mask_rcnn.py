"""Mask R-CNN's forward pass on an 800 x 1066 image: part by part, and beside torchvision on the same machine.

    python benchmarks/mask_rcnn.py
    python benchmarks/mask_rcnn.py --torchvision /usr/bin/python3   # a Python that has torchvision, if this one has not

Both build ResNet-50-FPN with 91 classes and 100 detections from the same random weights; they run in turn, each in a process of its
own, with as many threads. Written to benchmarks/results/mask_rcnn_forward.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
SIZE, CLASSES, REPEATS, WARM = (800, 1066), 91, 7, 2
#: Parts of the network by the names of its modules; each is timed as it is called. "paste" is a function.
PARTS = {"backbone.body": "backbone", "backbone.fpn": "FPN", "rpn": "RPN", "roi_heads.box_roi_pool": "box RoIAlign",
         "roi_heads.box_head": "box head", "roi_heads.box_predictor": "box head", "roi_heads.mask_roi_pool": "mask RoIAlign",
         "roi_heads.mask_head": "mask head", "roi_heads.mask_predictor": "mask head"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--torchvision", default="/usr/bin/python3", metavar="PYTHON", help="a Python that has torchvision")
    arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="of each (default: %(default)s, all cores)")
    arguments.add_argument("--repeats", type=int, default=REPEATS, help="times that each is timed (default: %(default)s)")
    arguments.add_argument("--serve", choices=("biomask", "torchvision"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve(given.serve, given.threads)
        return
    from common import record

    ours, theirs = (Server(python, name, given.threads) for name, python
                    in (("biomask", sys.executable), ("torchvision", given.torchvision)))
    rounds = [(ours.run(), theirs.run()) for _ in range(WARM + given.repeats)][WARM:]
    results = {server.name: summary([pair[n] for pair in rounds], server.about) for n, server in enumerate((ours, theirs))}
    for server in (ours, theirs):
        server.close()
    ratio = results["torchvision"]["seconds"] / results["biomask"]["seconds"]
    record("mask_rcnn_forward", {
        "what": f"maskrcnn_resnet50_fpn, {CLASSES} classes, random weights, an image of {SIZE[0]} x {SIZE[1]}; float32, "
                f"{given.threads} threads; median of {given.repeats}, in turn", **results, "times_faster": round(ratio, 2)})


class Server:
    """A process that runs the network once for each line it is sent."""

    def __init__(self, python: str, name: str, threads: int) -> None:
        self.name = name
        command = [python, __file__, "--serve", name, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        self.about = self._read()

    def run(self) -> dict[str, Any]:
        """Seconds of one forward pass: of the whole and of each part."""
        if self.process.stdin is None:
            sys.exit(f"{self.name} takes no input")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            sys.exit(f"{self.name} does not run there")
        return dict(json.loads(line))


def summary(runs: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """Medians, and the range of the whole."""
    whole = [run["whole"] for run in runs]
    parts = {part: round(median(run[part] for run in runs), 3) for part in runs[0] if part not in ("whole", "detections")}
    return {**about, "seconds": round(median(whole), 3), "range": [round(min(whole), 3), round(max(whole), 3)], "parts": parts,
            "detections": runs[0]["detections"]}


def serve(name: str, threads: int) -> None:
    """Build the network, then answer each line of the input with the seconds that one forward pass took."""
    import torch

    torch.set_num_threads(threads)
    network, paste = (ours if name == "biomask" else theirs)()
    network.eval()
    taken: dict[str, float] = defaultdict(float)
    for module, part in PARTS.items():
        clock(network.get_submodule(module), part, taken)
    owner, function = paste
    setattr(owner, function, clocked(getattr(owner, function), "paste", taken))
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    print(json.dumps({"torch": str(torch.__version__), "blas": blas[1] if blas else "unknown"}), flush=True)
    for _ in sys.stdin:
        taken.clear()
        began = time.perf_counter()
        with torch.inference_mode():
            (found,) = network([image])
        whole = time.perf_counter() - began
        rest = whole - sum(taken.values())
        print(json.dumps({"whole": whole, **taken, "rest": rest, "detections": len(found["scores"])}), flush=True)


def ours() -> tuple[Any, tuple[Any, str]]:
    import torch

    from biomask.models import load_torchvision
    from biomask.models.mask_rcnn import MaskRCNN, assembly

    shapes = {n: tuple(t.shape) for n, t in MaskRCNN(3, CLASSES).state_dict().items()}
    network, _ = load_torchvision("maskrcnn_resnet50_fpn", {n: torch.from_numpy(w) for n, w in drawn(shapes).items()})
    return network, (assembly, "paste_masks")


def theirs() -> tuple[Any, tuple[Any, str]]:
    import torch
    from torchvision.models import detection, resnet50
    from torchvision.models.detection import backbone_utils, transform
    from torchvision.ops.misc import FrozenBatchNorm2d

    body = backbone_utils._resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), 5)
    network = detection.MaskRCNN(body, CLASSES)
    shapes = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    network.load_state_dict({n: torch.from_numpy(w) for n, w in drawn(shapes).items()})
    return network, (transform, "paste_masks_in_image")


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """The weights of the parity test, with which there is something to detect."""
    sys.path.insert(0, str(HERE.parent / "tests" / "models" / "mask_rcnn"))
    from torchvision_reference import weights

    return dict(weights(shapes))


def clock(module: Any, part: str, taken: dict[str, float]) -> None:
    """Add up the seconds of a module's calls."""
    module.forward = clocked(module.forward, part, taken)


def clocked(function: Any, part: str, taken: dict[str, float]) -> Any:
    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        out = function(*arguments)
        taken[part] += time.perf_counter() - began
        return out

    return timed


if __name__ == "__main__":
    main()
