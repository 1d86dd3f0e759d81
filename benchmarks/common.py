"""What every benchmark records: command, commit, machine, versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def data_root() -> Path:
    """The real data: BIOMASK_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("BIOMASK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no real data in {folder}: set BIOMASK_DATA")
    return folder


def record(name: str, content: dict[str, Any]) -> Path:
    """Write results/NAME.json with all that is needed to repeat it."""
    import numpy
    import torch

    import biomask

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    facts = {
        "command": "python " + " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]), "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version(), "biomask": biomask.__version__, "torch": torch.__version__,
                     "numpy": numpy.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**facts, **content}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return path


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")
