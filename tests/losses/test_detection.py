"""Losses of detectors against sums written out."""

from math import exp, log

import pytest
import torch

from biomask.losses.detection import box_head_loss, keypoint_loss, mask_loss, proposal_loss


def smooth(difference: float) -> float:
    """Smooth L1 with beta = 1/9."""
    size = abs(difference)
    return 0.5 * size**2 * 9 if size < 1 / 9 else size - 0.5 / 9


def cross_entropy(logit: float, truth: float) -> float:
    """Of a probability given as logit."""
    chance = 1 / (1 + exp(-logit))
    return -truth * log(chance) - (1 - truth) * log(1 - chance)


def test_proposals() -> None:
    logits, deltas = torch.tensor([0.3, -2.0, 1.0, 4.0, 0.1]), torch.linspace(-1, 1, 20).view(5, 4)
    goals = deltas[[3, 0]] + torch.tensor([[0.05, -0.3, 2.0, 0.0]])
    objectness, edges = proposal_loss(logits, deltas, torch.tensor([3, 0]), torch.tensor([1]), goals)
    assert float(objectness) == pytest.approx((cross_entropy(4, 1) + cross_entropy(0.3, 1) + cross_entropy(-2, 0)) / 3, rel=1e-6)
    assert float(edges) == pytest.approx(2 * (smooth(0.05) + smooth(0.3) + smooth(2)) / 3, rel=1e-6)


def test_box_head() -> None:
    logits = torch.tensor([[0.0, 1, 2], [2, 0, 1], [1, 1, 0]])
    deltas = torch.arange(36.0).view(3, 12)
    labels = torch.tensor([0, 2, 1])
    goals = torch.stack((deltas[1, 8:12], deltas[2, 4:8])) + 0.5
    classification, edges = box_head_loss(logits, deltas, labels, goals)
    by_hand = [log(sum(exp(v) for v in row)) - row[label] for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert float(classification) == pytest.approx(sum(by_hand) / 3, rel=1e-6)
    assert float(edges) == pytest.approx(8 * smooth(0.5) / 3, rel=1e-6)


def test_masks() -> None:
    logits, targets = torch.tensor([[[1.0, -2], [0, 3]]]), torch.tensor([[[1.0, 0], [0.25, 1]]])
    by_hand = [cross_entropy(a, b) for a, b in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)]
    assert float(mask_loss(logits, targets)) == pytest.approx(sum(by_hand) / 4, rel=1e-6)


def test_keypoints() -> None:
    logits = torch.arange(16.0).view(2, 2, 2, 2) / 4
    cells = torch.tensor([[3, -1], [-1, 0]])
    flat = logits.flatten(2).tolist()
    by_hand = [log(sum(exp(v) for v in flat[n][k])) - flat[n][k][c] for n, k, c in ((0, 0, 3), (1, 1, 0))]
    assert float(keypoint_loss(logits, cells)) == pytest.approx(sum(by_hand) / 2, rel=1e-6)


def test_without_samples_losses_are_zero_and_gradients_too() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    x = torch.ones(3, 12, requires_grad=True)
    empty = x[:0]
    losses = [*proposal_loss(x.flatten(), x.view(9, 4), none, none, torch.zeros(0, 4)),
              *box_head_loss(empty[:, :3], empty, none, torch.zeros(0, 4)), mask_loss(empty.view(0, 3, 4), torch.zeros(0, 3, 4)),
              keypoint_loss(x.view(3, 3, 2, 2), torch.full((3, 3), -1))]
    total = sum(losses)
    assert isinstance(total, torch.Tensor)
    assert float(total.detach()) == 0
    total.backward()
    assert x.grad is not None
    assert not x.grad.any()
