"""Changes of the grey values of a batch, as drawn for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from biomask.data.draws import Draw, Look
from biomask.transforms import brightness_contrast, gamma, gaussian_blur, gaussian_noise, stain_jitter


def change_looks(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Stains, brightness and contrast, gamma, blur and noise of normalised images (B, C, *S); one sample a draw."""
    changed = changed_looks(images.unbind(), draws)
    return torch.stack(changed) if len(changed) > 1 else changed[0][None]


def changed_looks(samples: Sequence[Tensor], draws: Sequence[Draw]) -> list[Tensor]:
    """`change_looks` of samples (C, *S) that are not stacked yet: those that nothing changes need not be copied."""
    samples = list(samples)

    def change(wanted: Callable[[Look], bool], how: Callable[[Tensor, list[Draw]], Tensor]) -> None:
        chosen = [i for i, draw in enumerate(draws) if wanted(draw.look)]
        if chosen:
            changed = how(torch.stack([samples[i] for i in chosen]), [draws[i] for i in chosen])
            for i, sample in zip(chosen, changed, strict=True):
                samples[i] = sample

    def values(some: list[Draw], name: str) -> Tensor:
        return torch.tensor([getattr(draw.look, name) for draw in some], device=samples[0].device)

    if len(samples[0]) == 3:
        change(lambda look: look.stain is not None, _stained)
    change(lambda look: look.gain != 1 or look.offset != 0,
           lambda part, some: brightness_contrast(part, values(some, "gain"), values(some, "offset")))
    change(lambda look: look.gamma != 1, lambda part, some: gamma(part, values(some, "gamma")))
    change(lambda look: look.blur > 0, lambda part, some: gaussian_blur(part, values(some, "blur")))
    # On the CPU: the same noise whatever the device.
    change(lambda look: look.noise > 0, lambda part, some: gaussian_noise(
        part, values(some, "noise"), [torch.Generator().manual_seed(draw.seed) for draw in some]))
    return samples


def _stained(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Black and white are taken as the patch's darkest and brightest value: normalised images no longer tell."""
    stains = [draw.look.stain for draw in draws if draw.look.stain is not None]
    gains, offsets = (torch.tensor([s[k] for s in stains], device=images.device) for k in (0, 1))
    return stain_jitter(images, gains, offsets, images.amin((1, 2, 3)), images.amax((1, 2, 3)))
