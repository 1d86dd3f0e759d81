"""Which device is used; never another than the one asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biomask.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda, cuda:N or mps. Raises InputError where it is not there."""
    import torch

    kind = name.partition(":")[0]
    if kind not in DEVICES or name.startswith("auto:"):
        raise UsageError(f"--device {name!r} is not one of {', '.join(DEVICES)}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not present:
        raise InputError(f"this machine, or this build of torch {torch.__version__}, has no {kind}",
                         where=f"--device {name}", fix="use --device auto or --device cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name!r} is no device", fix=f"one of {', '.join(DEVICES)}, cuda:0, cuda:1, …") from error
    if device.index is not None and device.type != "cuda":
        raise UsageError(f"--device {name!r}: only cuda has numbers", fix=f"--device {device.type}")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f"this machine has {torch.cuda.device_count()} GPU(s), numbered from 0", where=f"--device {name}",
                         fix="use --device cuda")
    return device


def describe_device(device: torch.device) -> str:
    """A few words for the user: the GPU's name, or the number of CPU threads."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)
