"""biomask: thirty labelled biomedical images in, a segmentation you can trust out.

`biomask.api` mirrors the command line; `biomask.models`, `biomask.losses` and `biomask.metrics` stand on their own.
Importing this package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biomask.api import build as build
    from biomask.api import load as load

__version__ = "0.1.0"

__all__ = ["__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    if name in ("build", "load"):
        from biomask import api

        return getattr(api, name)
    raise AttributeError(f"module 'biomask' has no attribute {name!r}")
