"""Changes of grey values of normalised images (B, C, *S), float32. Nothing here draws random numbers, but for the noise itself.

Settings are tensors with one entry a sample, (B,), or a channel of a sample, (B, C), on any device. Samples whose setting means
"unchanged" come out bit for bit and cost nothing where the work is more than one multiplication.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from biomask.errors import SizeError
from biomask.transforms.elastic import spread

#: A Gaussian is cut off at this many standard deviations.
CUT = 4.0


def brightness_contrast(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """contrast · x + brightness. Both (B,) or (B, C); brightness in the unit of the normalised values.

    0 is what contrast turns about: after a z-score the mean of the whole image, so dark patches of it stay dark ones.
    """
    return torch.addcmul(_wide(brightness, images), images, _wide(contrast, images))


def gamma(images: Tensor, exponents: Tensor, *, invert: Tensor | None = None) -> Tensor:
    """x^exponent on values scaled to 0..1 by each channel's lowest and highest, and scaled back: (B, C, *S).

    So values of any sign work, and the range stays. exponents: (B,), above 0; 1 leaves a sample as it is. invert: bool (B,), True
    for 1 - (1 - x)^exponent, which changes bright values as the other changes dark ones.
    """
    def change(part: Tensor, chosen: Tensor) -> Tensor:
        flat = part.flatten(2)
        low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
        span = (high - low).clamp_(min=torch.finfo(torch.float32).tiny)
        turn = torch.zeros(len(part), dtype=torch.bool) if invert is None else invert.to(chosen.device)[chosen]
        start = torch.where(turn.to(part.device)[:, None, None], high, low)
        scaled = ((flat - start) / span).abs_()  # of an inverted sample this is 1 - x
        sign = torch.where(turn, -1.0, 1.0).to(part.device)[:, None, None]
        power = scaled.pow_(exponents.to(part.device, torch.float32)[chosen.to(part.device)][:, None, None])
        return torch.addcmul(start, power, span * sign).reshape(part.shape)

    return _of_some(images, exponents != 1, change)


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur, mirrored at the border without repeating the border pixel: (B, C, *S).

    sigmas: standard deviations in px, (B,), or (B, D) for each axis; 0 leaves a sample, or an axis, as it is. Cut off at 4 sigma.
    """
    each = sigmas[:, None].expand(-1, images.ndim - 2) if sigmas.ndim == 1 else sigmas

    def change(part: Tensor, chosen: Tensor) -> Tensor:
        for axis, sigma in enumerate(each.to(chosen.device)[chosen].unbind(1), start=2):
            # One matrix for each sample: its rows hold the kernel with the mirrored part folded in. Quicker than convolving.
            matrix = _blur_matrix(part.shape[axis], sigma).to(part.device)
            rows = part.movedim(axis, 1)
            part = torch.bmm(matrix, rows.flatten(2)).reshape(rows.shape).movedim(1, axis)
        return part

    return _of_some(images, (each > 0).any(1), change)


def gaussian_noise(images: Tensor, sigmas: Tensor, generators: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    """x + noise of the standard deviation sigmas (B,), in the unit of the normalised values; 0 leaves a sample as it is.

    generators: one for all samples, which draw from it in turn, or one for each, which makes a sample independent of its batch. The
    noise is drawn on the generator's device.
    """
    each = [generators] * len(images) if isinstance(generators, torch.Generator) else list(generators)
    if len(each) != len(images):
        raise SizeError(f"{len(each)} generators for {len(images)} samples", where="gaussian_noise", fix="give one or as many")
    out = images.clone()
    for sample, sigma, generator in zip(out, sigmas.tolist(), each, strict=True):
        if sigma > 0:
            drawn = torch.randn(sample.shape, generator=generator, device=generator.device)
            sample.add_(drawn.to(sample.device), alpha=sigma)
    return out


def low_resolution(images: Tensor, factors: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """As if taken with pixels `factors` times as large: averaged down, then interpolated linearly up to the same size.

    factors: (B,), at least 1; 1 leaves a sample as it is. axes: the spatial axes concerned, counted from the end; None: all.
    """
    size = images.shape[2:]
    concerned = [True] * len(size) if axes is None else [i - len(size) in axes for i in range(len(size))]
    out = images.clone()
    for index, factor in enumerate(factors.tolist()):
        if factor > 1:
            small = [max(1, round(n / factor)) if yes else n for n, yes in zip(size, concerned, strict=True)]
            up = "bilinear" if len(size) == 2 else "trilinear"
            out[index:index + 1] = interpolate(interpolate(images[index:index + 1], small, mode="area"), list(size), mode=up)
    return out


def grey_field(images: Tensor, knots: Tensor) -> Tensor:
    """x + a smooth field, such as uneven light: knots (B, C or 1, *grid), spread as in `elastic.spread`."""
    return images + spread(knots, images.shape[2:])


def _wide(setting: Tensor, images: Tensor) -> Tensor:
    """(B,) or (B, C) → (B, C or 1, 1, …), on the images' device."""
    setting = setting.to(images.device, images.dtype)
    return setting.reshape(len(setting), -1, *[1] * (images.ndim - 2))


def _of_some(images: Tensor, wanted: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change the samples that are wanted (B,), copy the others. `change` gets them and their numbers, int64 on the CPU."""
    chosen = wanted.nonzero().flatten().cpu()
    if not len(chosen):
        return images
    if len(chosen) == len(images):
        return change(images, chosen)
    where = chosen.to(images.device)
    return images.index_copy(0, where, change(images[where], chosen))


def _blur_matrix(n: int, sigmas: Tensor) -> Tensor:
    """float32 (B, n, n): each row the share of every pixel in one blurred pixel."""
    out = torch.eye(n).repeat(len(sigmas), 1, 1)
    for matrix, sigma in zip(out, sigmas.tolist(), strict=True):
        if sigma <= 0:
            continue
        radius = int(CUT * sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1)
        kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
        period = max(1, 2 * (n - 1))
        index = (torch.arange(n)[:, None] + offsets) % period
        index = torch.where(index < n, index, period - index)
        matrix.zero_().scatter_add_(1, index, (kernel / kernel.sum()).float().expand(n, -1))
    return out
