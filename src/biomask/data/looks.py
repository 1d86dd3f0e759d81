"""Changes of the grey values of a batch, as drawn for each sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biomask.data.draws import Draw
from biomask.transforms import brightness_contrast, gamma, gaussian_blur, gaussian_noise, stain_jitter


def change_looks(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Stains, brightness and contrast, gamma, blur and noise of normalised images (B, C, *S); one sample a draw."""
    looks = [d.look for d in draws]

    def values(name: str) -> Tensor:
        return torch.tensor([getattr(look, name) for look in looks], device=images.device)

    stained = [i for i, look in enumerate(looks) if look.stain is not None]
    if stained and images.shape[1] == 3:
        images = _stained(images, stained, draws)
    if any(look.gain != 1 or look.offset != 0 for look in looks):
        images = brightness_contrast(images, values("gain"), values("offset"))
    if any(look.gamma != 1 for look in looks):
        images = gamma(images, values("gamma"))
    if any(look.blur > 0 for look in looks):
        images = gaussian_blur(images, values("blur"))
    if any(look.noise > 0 for look in looks):
        # On the CPU: the same noise whatever the device.
        images = gaussian_noise(images, values("noise"), [torch.Generator().manual_seed(d.seed) for d in draws])
    return images


def _stained(images: Tensor, stained: Sequence[int], draws: Sequence[Draw]) -> Tensor:
    """Black and white are taken as the patch's darkest and brightest value: normalised images no longer tell."""
    chosen = torch.tensor(stained, device=images.device)
    part = images[chosen]
    stains = [s for i in stained if (s := draws[i].look.stain) is not None]
    gains, offsets = (torch.tensor([s[k] for s in stains], device=images.device) for k in (0, 1))
    return images.index_copy(0, chosen, stain_jitter(part, gains, offsets, part.amin((1, 2, 3)), part.amax((1, 2, 3))))
