"""`datasets`: what others offer, fetched when asked."""

from __future__ import annotations

from pathlib import Path

from biomask.progress import Progress
from biomask.public import OFFERS, Got, Offer
from biomask.public import get as _get


def datasets() -> tuple[Offer, ...]:
    """Everything that `get_dataset` can fetch: weights first, then data sets.

    >>> offers = {offer.name: offer for offer in datasets()}
    >>> offers["resnet18"].files[0].name
    'resnet18-f37072fd.pth'
    """
    return tuple(OFFERS.values())


def get_dataset(name: str, out: str | Path, *, progress: Progress | None = None) -> Got:
    """Fetch weights or a data set into the folder `out`; see `biomask.public.get.get`."""
    return _get(name, out, progress=progress)
