"""torchvision as a peer, in this Python or in the system's own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

MISSING = 77
BEFORE = """
import sys
try:
    import numpy as np
    import torch, torchvision
except ImportError:
    sys.exit({missing})
torch.set_num_threads(1)
given = {{name: torch.from_numpy(array) for name, array in np.load("given.npz").items()}}
out = {{}}
"""
AFTER = """
np.savez("out.npz", **{name: np.asarray(value.detach() if torch.is_tensor(value) else value) for name, value in out.items()})
"""


@pytest.fixture
def torchvision_peer(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """run(code, name=array, …): `code` finds tensors in the dict `given` and leaves tensors or arrays in the dict `out`.

    Runs with torch, torchvision and numpy as np, in an interpreter of its own; skips where no torchvision can be imported.
    """

    def run(code: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        python = sys.executable if importlib.util.find_spec("torchvision") else "/usr/bin/python3"
        if not Path(python).exists():
            pytest.skip("no torchvision: neither in this Python nor in one of the system's own")
        np.savez(tmp_path / "given.npz", **arrays)
        (tmp_path / "peer.py").write_text(BEFORE.format(missing=MISSING) + code + AFTER)
        done = subprocess.run([python, "-I", "peer.py"], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
                              capture_output=True, text=True, check=False)
        if done.returncode == MISSING:
            pytest.skip("no torchvision: Debian and Ubuntu have it as python3-torchvision")
        if done.returncode:
            pytest.fail(f"torchvision's side failed:\n{done.stderr}")
        with np.load(tmp_path / "out.npz") as out:
            return dict(out)

    return run
