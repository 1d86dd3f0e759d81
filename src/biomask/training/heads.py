"""What each depth of a UNet++ is worth and costs, measured when training ends with the weights that are kept (L1 to L4)."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from biomask.data.task import CUT
from biomask.instances import Thresholds
from biomask.models import UNetPlusPlus
from biomask.models.blocks import parameter_count
from biomask.models.head_score import HeadScore
from biomask.models.unet_plus_plus import Mode
from biomask.prediction.heads import with_heads
from biomask.prediction.overlap_tile import CHANNELS_LAST, geometry_of
from biomask.progress import Progress
from biomask.training.objective import Score
from biomask.training.selection import clearly_better
from biomask.training.trials import tune_cut
from biomask.training.validation import AS_IT_IS, Judge, score_name

#: Validations with the whole network that scoring all heads takes about as long as: those of few nodes are cheap.
HEADS_WORK = 6

#: Side of the window that is timed, and how often it is.
TIMED, TIMES = {2: 256, 3: 48}, 3


def has_heads(network: nn.Module) -> bool:
    """Whether there are several heads to choose among."""
    return isinstance(network, UNetPlusPlus) and len(network.depths) > 1


def score_heads(network: nn.Module, judge: Judge, thresholds: Thresholds, progress: Progress) -> list[HeadScore]:
    """Each head alone, the shallowest first, then the mean of all, on the held-out images; empty for networks without.

    The recommended one is the cheapest that none scores clearly better than (`clearly_better`: paired over images).
    """
    if not isinstance(network, UNetPlusPlus) or not has_heads(network):
        return []
    asked: list[tuple[int, Mode]] = [(depth, "fast") for depth in network.depths]
    asked.append((network.depth, "accurate"))
    scores = list[Score]()
    rows = list[dict[str, Any]]()
    for depth, mode in asked:
        pruned = with_heads(network, depth, mode).eval()
        # Heads are sure to different degrees: what is tuned for their mean does not fit one alone.
        cut = tune_cut(pruned, judge, list(AS_IT_IS))[0][CUT] if judge.task.kind == "classes" and judge.task.entries == 2 else None
        scores.append(judge.score(pruned, [thresholds], cut=0.5 if cut is None else cut))
        rows.append({"depth": depth, "mode": mode, "cut": cut, "score": scores[-1].value, "parameters": parameter_count(pruned),
                     "seconds": round(seconds_a_megapixel(pruned, judge.device), 4)})
    best = max(range(len(rows)), key=lambda n: scores[n].value)
    chosen = next(n for n in sorted(range(len(rows)), key=lambda n: rows[n]["seconds"])
                  if not clearly_better(scores[best].images, scores[n].images))
    found = [HeadScore(**row, recommended=n == chosen) for n, row in enumerate(rows)]
    for line in heads_table(found, score_name(judge.task)):
        progress.say(line)
    return found


def seconds_a_megapixel(network: nn.Module, device: torch.device) -> float:
    """To predict a million pixels (voxels), the fastest of a few windows."""
    geometry = geometry_of(network)
    size = [g.legal_size(TIMED[len(geometry)]) for g in geometry]
    x = torch.zeros((1, network.in_channels, *size), device=device)  # type: ignore[arg-type]
    x = x.contiguous(memory_format=CHANNELS_LAST[len(size)])
    found = list[float]()
    with torch.inference_mode():
        network(x)  # the first is slower
        for _ in range(TIMES):
            began = time.perf_counter()
            float(network(x).sum())  # waits for a GPU
            found.append(time.perf_counter() - began)
    return min(found) * 1e6 / x[0, 0].numel()


def heads_table(heads: list[HeadScore], score: str) -> list[str]:
    """Lines of text for people."""
    lines = [f"what each depth of this UNet++ is worth, {score} on the images held out:"]
    for h in heads:
        name = f"--depth {h.depth}" if h.mode == "fast" else "all heads, their mean"
        lines.append(f"  {name:22} {h.score:.4f} · {h.parameters:>10,} parameters · {h.seconds:7.3f} s a megapixel"
                     + ("  ← recommended: none is clearly better, and it is the fastest of those" if h.recommended else ""))
    return lines
