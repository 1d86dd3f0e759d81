"""The state of a training between two steps: saved whole, read back bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biomask.errors import BiomaskError, InputError, ModelFileError
from biomask.io.tensors import save_tensors
from biomask.models.head_score import HeadScore

STATE_FILE = "state.safetensors"
STATE_VERSION = 3


@dataclass(frozen=True)
class LogRow:
    """One line of log.csv."""

    step: int
    seconds: float
    lr: float
    loss: float | None
    """Mean since the row before; None where only a validation is logged."""
    validation_score: float | None
    """As in `Score.value`; None between validations."""


@dataclass
class State:
    """What changes while training, but for the network and the optimiser."""

    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Time used in all runs."""
    validation_seconds: float = 0.0
    """Of which spent on the held-out images."""
    reserve: float = 0.0
    """Seconds kept back for what comes after the last step, when the budget is in minutes."""
    foreseen: float = 0.0
    """Seconds that the next validation is expected to take."""
    images: list[int] = field(default_factory=list)
    """How many of the held-out images are scored: at a validation, at the trials in the end; empty before the first step."""
    loss_sum: float = 0.0
    """Since the last row of the log."""
    loss_count: int = 0
    best_step: int | None = None
    best_score: float = -1.0
    best_parts: dict[str, float | None] = field(default_factory=dict)
    best_images: list[float | None] = field(default_factory=list)
    """Of each held-out image, in the order in which they are scored."""
    averaged: bool = False
    """Whether the best weights are the running average."""
    barren: int = 0
    """Validations in a row in which one and the same was predicted everywhere."""
    cooldown: list[float] = field(default_factory=list)
    """Start and end of the fall of the rate, as fractions of the budget, of a training that goes until the score is flat."""
    rate: float = 1.0
    """Factor of the learning rate: lowered where numbers became infinite."""
    float32: bool = False
    """Whether bfloat16 was given up."""
    before: dict[str, float | None] = field(default_factory=dict)
    """Scores of the weights that the training began with ("value" and parts), where it was given some."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Of objects, tuned on the held-out images."""
    augment: str = "none"
    """Copies that predictions are the mean of."""
    trials: dict[str, float] = field(default_factory=dict)
    """Scores of what was tried at the end, by name."""
    heads: list[HeadScore] = field(default_factory=list)
    """Of UNet++ with deep supervision: what each depth is worth and costs."""
    finished: list[float | None] = field(default_factory=list)
    """The budget that was used up, [steps, minutes]; empty while it is not."""
    history: list[LogRow] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights to keep so far, on the CPU: the latest that earlier ones are not clearly better than."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """The running average of the weights, on the device; empty where none is kept."""


def save_state(folder: Path, state: State, network: nn.Module, optimizer: torch.optim.Optimizer,
               identity: dict[str, Any]) -> None:
    """Write everything to `folder`, whole or not at all. identity: what must be the same when it is read again."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    tensors |= {f"average.{k}": v for k, v in state.average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    facts = {k: v for k, v in asdict(_without_tensors(state)).items() if k not in ("best", "average")}
    save_tensors(folder / STATE_FILE, tensors, {"version": str(STATE_VERSION), "state": json.dumps(facts),
                                                 "identity": json.dumps(identity)})


def _without_tensors(state: State) -> State:
    return State(**{**state.__dict__, "best": {}, "average": {}})


def load_state(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer,
               identity: dict[str, Any]) -> State | None:
    """Read back what `save_state` wrote, into the network and the optimiser; None where nothing was saved.

    Raises InputError when the run there has another identity, naming the differences.
    """
    from safetensors import SafetensorError, safe_open

    file = folder / STATE_FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("version") != str(STATE_VERSION):
                raise ModelFileError("was written by another version of biomask", where=file, fix="start again with --overwrite")
            facts, before = json.loads(metadata["state"]), json.loads(metadata["identity"])
            _require_same(before, json.loads(json.dumps(identity)), folder)
            # Copies: the file is replaced at the next save, which Windows refuses while it is mapped.
            tensors = {k: opened.get_tensor(k).clone() for k in opened.keys()}  # noqa: SIM118
        network.load_state_dict(_below("network.", tensors))
        _restore_optimizer(optimizer, _below("optimizer.", tensors))
        facts["heads"] = [HeadScore(**h) for h in facts.get("heads", ())]
        facts["history"] = [LogRow(**row) for row in facts["history"]]
        average = {k: v.to(next(network.parameters()).device) for k, v in _below("average.", tensors).items()}
        return State(**facts, best=_below("best.", tensors), average=average)
    except BiomaskError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelFileError(f"cannot be read ({error})", where=file, fix="start again with --overwrite") from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        values.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def _require_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    changed = _changes(before, now)
    if changed:
        raise InputError(f"holds a training with other settings or data ({'; '.join(changed[:5])})", where=folder.parent,
                         fix="choose another -o, or start again with --overwrite")


def _changes(before: dict[str, Any], now: dict[str, Any], above: str = "") -> list[str]:
    """What differs, by its own name where it lies deeper, e.g. network.options.width: 8 → 4."""
    changed = list[str]()
    for key in sorted(before.keys() | now.keys()):
        old, new, name = before.get(key), now.get(key), f"{above}{key}"
        if old == new:
            continue
        if name == "data":
            changed.append("the images or masks changed")
        elif isinstance(old, dict) and isinstance(new, dict):
            changed += _changes(old, new, f"{name}.")
        else:
            changed.append(f"{name}: {_short(old)} → {_short(new)}")
    return changed


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
