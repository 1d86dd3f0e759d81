"""Weights from other people's files: nothing is unpickled but tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biomask.errors import MissingPathError, ModelFileError

#: Where repositories keep the state dict within what they save.
SECTIONS = ("state_dict", "model", "model_state_dict")
#: Element types of .safetensors files.
SAFETENSORS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
               "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt or .safetensors file by name; what else it holds (e.g. `mask_values`) is left out.

    Raises MissingPathError, or ModelFileError for what holds no tensors or would need unpickling.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingPathError("no such file of weights", where=file)
    try:
        content: Any = (read_safetensors(file) if file.suffix == ".safetensors"
                        else torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        raise ModelFileError(f"holds no tensors that can be read safely ({type(error).__name__})", where=file,
                             fix="give a state dict saved by torch.save") from error
    for key in SECTIONS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    found = {str(k).removeprefix("module."): v for k, v in items if isinstance(v, Tensor)}
    if not found:
        raise ModelFileError("holds no tensors by name", where=file, fix="give a state dict")
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """A .safetensors file: the header's length in 8 bytes, the header (JSON), then the tensors one after the other.

    Raises ValueError, KeyError or RuntimeError for what is no such file.
    """
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            data = bytearray(content[start + first:start + last])
            dtype = SAFETENSORS[entry["dtype"]]
            found[name] = (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(entry["shape"])
    return found


def fitting(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What fits the network, by name and shape.

    The matrix of a linear layer fits a convolution over all that the layer sees, such as fc6 of VGG-16, whose rows are
    (channels, y, x).
    """
    found = {}
    for name, own in network.state_dict().items():
        given = tensors.get(name)
        if given is None:
            continue
        if given.shape == own.shape:
            found[name] = given
        elif given.ndim == 2 and given.shape[0] == own.shape[0] and given.numel() == own.numel():
            found[name] = given.reshape(own.shape)
    return found


def load_weights(network: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Load from a file what fits; returns the names of the network's tensors that the file has not, or in another shape.

    Fits checkpoints of milesial/Pytorch-UNet (`PaddedUNet`) and torchvision's VGG-16 (`FCN`). Raises ModelFileError where nothing
    fits, and errors as `read_weights`.
    """
    tensors = read_weights(path)
    fits, own = fitting(network, tensors), network.state_dict()
    if not any(v.is_floating_point() for v in fits.values()):
        raise ModelFileError(f"none of its {len(tensors)} tensors fits the network ({', '.join(list(tensors)[:3])}, …; the network "
                             f"has {', '.join(list(own)[:3])}, …)", where=path,
                             fix="build the network that it was saved from, with as many channels and classes")
    network.load_state_dict({**own, **fits})
    return tuple(sorted(set(own) - set(fits)))
