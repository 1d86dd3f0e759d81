"""Stain jitter: histology slides as another laboratory would have stained them."""

from __future__ import annotations

import torch
from torch import Tensor

from biomask.errors import SizeError

#: Optical density of red, green and blue for one unit of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001, table 1).
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))

#: Darker than this share of white counts as this: the density of black would be infinite.
DARKEST = 1 / 255


def stain_jitter(images: Tensor, gains: Tensor, offsets: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Change how strongly each stain shows: float32 (B, 3, *S) → the same shape and scale.

    Light is absorbed: density = -ln(share of white) = amounts of the stains · STAINS. The amounts become gain · amount + offset
    (Tellez et al. 2018), which is one 3 x 3 matrix and a shift of the densities for each sample.

    images: red, green, blue, normalised in any linear way. low, high: (B,) or (B, 3), the normalised values of black (no light) and
    of white (an empty slide).
    gains, offsets: (B, 3), of haematoxylin, eosin and DAB; 1 and 0 leave the image as it is. offsets in units of density.
    What lies below 1/255 of white keeps its difference to that value. Results may lie above white where amounts fall below 0.
    Raises SizeError for other than 3 channels.
    """
    if images.shape[1] != 3:
        raise SizeError(f"{images.shape[1]} channels", where="stain_jitter", fix="stains need red, green and blue")
    stains = torch.tensor(STAINS, device=images.device, dtype=torch.float64)
    gains, offsets = gains.to(images.device, torch.float64), offsets.to(images.device, torch.float64)
    # ln(light') = ln(light) · (STAINS⁻¹ · diag(gain) · STAINS) - offset · STAINS, for row vectors; channels are columns here.
    matrix = (torch.linalg.inv(stains) @ (gains[:, :, None] * stains)).mT.float()
    shift = -(offsets @ stains).float()[:, :, None]
    low, high = (t.to(images.device, torch.float32).reshape(len(t), -1, 1) for t in (low, high))
    span = (high - low).clamp_(min=1e-12)  # a constant patch stays what it is
    light = (images.flatten(2) - low) / span
    seen = light.clamp(min=DARKEST)
    light -= seen
    light += torch.baddbmm(shift, matrix, seen.log_()).exp_()
    return light.mul_(span).add_(low).reshape(images.shape)
