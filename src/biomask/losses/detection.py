"""Losses of Mask R-CNN (He et al. 2017, section 3; Ren et al. 2015): of anchors and regions that a step has sampled.

In float32 at least. Each is over all samples of the batch together, so unlike the other losses the loss of a batch is not the mean
of the losses of its parts. Without samples a loss is 0, and gradients of 0 reach what it was computed from.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from biomask.losses.precision import at_least_float32

#: Where the smooth L1 loss turns from a parabola into a line; torchvision's, in deltas.
BETA = 1 / 9


def proposal_loss(logits: Tensor, deltas: Tensor, positive: Tensor, negative: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """Region proposal network: (whether anchors hold an object, how far their edges are off), both scalars.

    logits (A,), deltas (A, 4); positive (P,) and negative (N,): positions of sampled anchors; goals (P, 4): deltas of the positive.
    The mean of binary cross-entropies over all sampled; smooth L1 summed over the positive, divided by all sampled.
    """
    sampled = torch.cat((positive, negative))
    chosen = at_least_float32(logits[sampled])
    truth = torch.zeros_like(chosen)
    truth[:len(positive)] = 1
    objectness = F.binary_cross_entropy_with_logits(chosen, truth) if len(sampled) else chosen.sum()
    return objectness, _edges(deltas[positive], goals, len(sampled))


def box_head_loss(logits: Tensor, deltas: Tensor, labels: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """Box head: (class, edges), both scalars.

    logits (R, K) and deltas (R, 4K) of sampled regions; labels (R,) int64, 0 is background; goals (P, 4): deltas of those that are
    not, in their order. Cross-entropy's mean over all; smooth L1 of the deltas of the true class, divided by all.
    """
    logits = at_least_float32(logits)
    classification = F.cross_entropy(logits, labels) if len(labels) else logits.sum()
    positive = torch.nonzero(labels > 0).flatten()
    own = deltas.view(len(deltas), logits.shape[1], 4)[positive, labels[positive]]
    return classification, _edges(own, goals, len(labels))


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mask head: binary cross-entropy, the mean over regions and pixels.

    logits (P, M, M): of positive regions, the mask of the true class alone, so that classes don't compete; targets (P, M, M), 0..1.
    """
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, targets) if len(logits) else logits.sum()


def keypoint_loss(logits: Tensor, cells: Tensor) -> Tensor:
    """Keypoint head: cross-entropy over the positions of each map, the mean over keypoints that have one.

    logits (P, K, m, m) of positive regions; cells (P, K) int64: position of the truth in the flat map, negative = not learnt.
    """
    learnt = cells.flatten() >= 0
    chosen = at_least_float32(logits).flatten(2).flatten(0, 1)[learnt]
    return F.cross_entropy(chosen, cells.flatten()[learnt]) if len(chosen) else chosen.sum()


def _edges(deltas: Tensor, goals: Tensor, sampled: int) -> Tensor:
    """Smooth L1, summed and divided by how many were sampled."""
    return F.smooth_l1_loss(at_least_float32(deltas), goals, beta=BETA, reduction="sum") / max(1, sampled)
