"""Classes that logits have no channel for are refused, not taken for pixels that cost nothing."""

import pytest
import torch

from biomask.errors import LabelsError
from biomask.losses import cross_entropy, soft_dice_loss


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice_loss])
@pytest.mark.parametrize("wrong", [-1, 2, 255])
def test_a_class_without_a_channel_is_refused(loss, wrong):
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 1, 2] = wrong
    with pytest.raises(LabelsError, match="for 2 channels"):
        loss(torch.zeros(1, 2, 4, 4), target)


def test_so_is_another_shape():
    with pytest.raises(LabelsError, match="of the shape"):
        cross_entropy(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.int64))
