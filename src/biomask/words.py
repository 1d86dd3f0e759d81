"""Numbers in sentences."""

from __future__ import annotations


def count(n: int, what: str) -> str:
    """A number with its noun.

    >>> count(1, "image"), count(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"
