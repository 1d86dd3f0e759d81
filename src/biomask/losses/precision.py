"""In what precision losses are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(logits: Tensor) -> Tensor:
    """float32 of half precision; float32 and float64 stay what they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
