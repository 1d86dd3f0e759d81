"""Tensors in a file, with text beside them: safetensors, never a pickle."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from biomask.io.files import writing

if TYPE_CHECKING:
    from torch import Tensor


#: What systems call a full disk (Windows: 112), in Python's terms.
FULL = {errno.ENOSPC: errno.ENOSPC, errno.EDQUOT: errno.EDQUOT, 112: errno.ENOSPC}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors from any device, whole or not at all. Raises WriteError or DiskFullError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with writing(path) as temporary:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            for number, meaning in FULL.items():
                if f"os error {number})" in str(error):
                    raise OSError(meaning, str(error)) from error
            raise OSError(errno.EIO, str(error)) from error
