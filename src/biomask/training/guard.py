"""What can go wrong with the numbers of a training, and what to say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biomask.errors import InputError

if TYPE_CHECKING:
    from biomask.training.resume import LogRow

#: How often training goes back to what was saved, with a lower rate, before it gives up.
MOST_RETRIES = 3

#: Factor of the rate after going back.
LOWER = 0.3

#: Nothing learnt: at least this share of the budget and so many steps and validations in a row, and the loss fell by less.
SHARE, STEPS, VALIDATIONS, FALL = 0.3, 200, 3, 0.05


#: Gradients whose squares are summed at a time.
PIECE = 2**16


def gradient_norm(optimizer: torch.optim.Optimizer, largest: float | None) -> float:
    """Norm of all gradients; scales them down to `largest`. NaN or infinite where any gradient or the loss was."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    # In pieces: one sum of millions of float32 is off by 0.3 %.
    norm = float(torch.nn.utils.get_total_norm([piece for g in gradients for piece in g.split(PIECE)]))
    if largest is not None and not norm <= largest:  # scaling by 1 would cost as much
        for gradient in gradients:
            gradient.mul_(largest / norm)
    return norm


def diagnosis(images: Tensor, loss: float, norm: float, rate: float, step: int) -> str:
    """What is known when numbers are not finite even in float32."""
    finite = bool(torch.isfinite(images).all())
    biggest = float(images.abs().max()) if finite else math.inf
    cause = ("the grey values of the images are not finite" if not finite
             else f"grey values reach {biggest:.0f} times their spread" if biggest > 1e4
             else f"the rate {rate:.2g} is too high for these images")
    return f"at step {step} the loss became {loss:g} and the norm of its gradient {norm:g}: {cause}"


def gave_up(found: str) -> InputError:
    """The error after all retries."""
    return InputError(found, where="training",
                      fix="run again with a lower rate (--set training.lr=1e-4) and --overwrite; the best weights so far are kept")


def nothing_learnt(fraction: float, step: int, barren: int, history: Sequence[LogRow]) -> bool:
    """Whether it is time to say so: one class is predicted everywhere, again and again, and the loss hardly falls."""
    losses = [r.loss for r in history if r.loss is not None]
    if fraction < SHARE or step < STEPS or barren < VALIDATIONS or len(losses) < 2:
        return False
    return losses[-1] > losses[0] - FALL * abs(losses[0])  # some losses go below 0


def why_nothing(shares: dict[str, float], patch: Sequence[int], objects: float | None, rate: float,
                oversample: float) -> InputError:
    """The error that says why nothing may have been learnt. shares: of each class among the known pixels; objects: their usual
    extent in pixels."""
    rarest = min(shares, key=lambda k: shares[k]) if shares else ""
    reasons = []
    if shares and shares[rarest] < 0.01:
        reasons.append(f"{rarest} is {shares[rarest]:.2%} of the pixels" + (
            " (--set training.oversample=0.9)" if oversample < 0.9 else ""))
    if objects is not None and objects > min(patch):
        reasons.append(f"objects measure {objects:.0f} px, patches {min(patch)} (--set training.patch=…)")
    if rate > 3e-3:
        reasons.append(f"the rate {rate:g} is high (--set training.lr=1e-3)")
    reasons.append("masks may not belong to their images ('biomask check' looks for that)")
    return InputError("nothing was learnt: the same class is predicted everywhere on the images held out, and the loss hardly "
                      "fell. Possible reasons: " + "; ".join(reasons), where="training",
                      fix="mend the cause, or give more time, and run again with --overwrite")
