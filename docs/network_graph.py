"""What a network does, read off one run of it: the maps that it makes, and how they follow from each other.

Nothing is computed: the network lies on torch's meta device, where tensors have shapes and no memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from biomask.recipes.describe import OUTPUTS

#: Operations that go on with the map before them, and what they are called; None for those that are not worth a word.
FOLLOWING = {"native_batch_norm": "batch norm", "relu": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh", "mul": None}
PADDING = ("constant_pad_nd", "replication_pad2d", "replication_pad3d")


@dataclass(frozen=True)
class Step:
    """One operation of a run, with the normalisation and activation that follow it."""

    kind: str
    words: tuple[str, ...]
    """What is done, in order: "3×3 convolution", "ReLU"."""
    sources: tuple[int, ...]
    """Numbers of the steps whose maps it takes."""
    channels: int
    size: tuple[int, ...]
    """Pixels along each spatial axis."""
    level: int
    """A pixel is 2^level pixels of the image wide."""
    module: str
    """Innermost module that did it; "" is the network itself."""


@dataclass(frozen=True)
class Box:
    """A map, or several steps drawn as one, with the last map of them."""

    channels: int
    size: tuple[int, ...]
    level: int
    parts: tuple[int, ...] = ()
    """Channels of what was concatenated, in order."""
    words: tuple[str, ...] = ()
    """What is done inside, of several steps."""
    attention: tuple[int, ...] = ()
    """Size of the map of attention, of a gate."""


@dataclass(frozen=True)
class Arrow:
    """How a box follows from another."""

    source: str
    target: str
    words: tuple[str, ...]
    """What is done on the way, in order; nothing: it is copied."""
    kind: str
    """One of gate, pooling, up, 1×1, convolution, sum, mean, copy."""


@dataclass(frozen=True)
class Graph:
    """The boxes by name, in the order in which they are made, and the arrows between them."""

    boxes: dict[str, Box]
    arrows: tuple[Arrow, ...]

    def into(self, name: str) -> list[Arrow]:
        """The arrows that end at a box."""
        return [a for a in self.arrows if a.target == name]


def record(network: nn.Module, size: Sequence[int]) -> list[Step]:
    """The steps of one run, the image first.

    network: on the meta device. size: pixels of the image along each spatial axis. Raises NotImplementedError for what would be
    drawn wrongly: an operation that has no name here, or a map that is used both without and with its activation.
    """
    image = torch.empty((1, network.in_channels, *size), device="meta")  # type: ignore[arg-type]
    recorder = _Recorder(image)
    hooks = []
    for name, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: recorder.modules.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: recorder.leave()))
    with torch.no_grad(), recorder:
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return recorder.steps


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what is done to an image and to all that follows from it."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.modules: list[str] = []
        self.steps = [Step("image", (), (), image.shape[1], tuple(image.shape[2:]), 0, "")]
        self._made = {id(image): (0, 0)}
        """Of every map: the number of its step, and how many words that had then."""
        self._alive = [image]  # so that no other tensor gets the same id

    def leave(self) -> None:
        self.modules.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = OUTPUTS.get(func, func)(*args, **(kwargs or {}))
        maps = [self._made[id(t)] for t in tree_leaves(args) if isinstance(t, Tensor) and id(t) in self._made]
        if maps:
            if any(words < len(self.steps[n].words) for n, words in maps):
                raise NotImplementedError(f"{func} takes a map as it was before the activation that was already counted to it")
            made = out[0] if isinstance(out, tuple) else out
            number = self._step(func._overloadpacket.__name__.removesuffix("_"), args, [n for n, _ in maps], made)
            self._made[id(made)] = number, len(self.steps[number].words)
            self._alive.append(made)
        return out

    def _step(self, name: str, args: Any, given: list[int], made: Tensor) -> int:
        """The number of the step that made a tensor."""
        before = self.steps[given[0]]
        size = tuple(made.shape[-len(before.size):])
        if name in ("slice", *PADDING) and size == before.size:
            return given[0]
        if name in FOLLOWING and len(given) == 1 and not any(given[0] in s.sources for s in self.steps):
            word = FOLLOWING[name]
            self.steps[given[0]] = replace(before, words=before.words if word is None else (*before.words, word))
            return given[0]
        kind, words, coarser = _named(name, args, before.size, size)
        level = before.level + round(log2(coarser))
        self.steps.append(Step(kind, words, tuple(given), made.shape[-len(size) - 1], size, level, self.modules[-1]))
        return len(self.steps) - 1


def _named(name: str, args: Any, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[str, tuple[str, ...], float]:
    """Kind of an operation, its words, and by how much its pixels are wider than those before it."""
    if name == "convolution":
        kernel, stride, transposed = by(args[1].shape[2:]), args[3][-1], args[6]
        return (("up-convolution", (f"{kernel} up-convolution",), 1 / stride) if transposed else
                ("convolution", (f"{kernel} convolution",), stride))
    if name in ("max_pool2d_with_indices", "max_pool3d_with_indices"):
        return "max-pooling", (f"{by(args[1])} max-pooling",), (args[2] if len(args) > 2 else args[1])[-1]
    if name.startswith("upsample_"):
        factor, how = after[-1] // before[-1], name.removeprefix("upsample_")[:-2]
        corners = " with aligned corners" if how != "nearest" and args[2] else ""
        return "up-sampling", (f"{how} up-sampling ×{factor}{corners}",), 1 / factor
    if name in PADDING:
        return "padding", (f"padding by {after[-1] - before[-1]}",), 1
    known = {"cat": ("concatenation", ()), "slice": ("crop", ("crop",)), "add": ("sum", ("sum",)), "mul": ("product", ()),
             "stack": ("stack", ()), "mean": ("mean", ("mean",)), **{n: (n, (w,)) for n, w in FOLLOWING.items() if w is not None}}
    if name not in known:
        raise NotImplementedError(f"a network does {name!r}: say in docs/network_graph.py what it is called")
    return (*known[name], 1)


def by(sides: Sequence[int]) -> str:
    """3×3."""
    return "×".join(map(str, sides))


def graph(steps: Sequence[Step], name_of: Callable[[int, Sequence[Step]], str | None]) -> Graph:
    """Boxes and arrows of a run.

    name_of: (number of a step, all steps) → the box that it belongs to, or None where it lies on the way between boxes. A box of
    one step is its map, and the arrow to it says how it is made; a box of several says so itself.
    """
    names = [name_of(n, steps) for n in range(len(steps))]
    inside: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        if name is not None:
            inside.setdefault(name, []).append(number)

    def ways(number: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(box, what is done to it) of all boxes from which a step follows."""
        name = names[number]
        if name is not None:
            yield name, ()
            return
        for source in steps[number].sources:
            yield from ((box, (*words, *steps[number].words)) for box, words in ways(source))

    boxes, arrows = {}, []
    for name, numbers in sorted(inside.items(), key=lambda item: item[1][-1]):
        last, several = steps[numbers[-1]], len(numbers) > 1
        seen = next((steps[n].size for n in numbers if several and "sigmoid" in steps[n].words), ())
        parts = tuple(steps[s].channels for s in last.sources) if last.kind == "concatenation" else ()
        done = tuple(word for n in numbers for word in steps[n].words) if several else ()
        boxes[name] = Box(last.channels, last.size, last.level, parts, done, seen)
        found = [(box, (*words, *(() if several else steps[n].words))) for n in numbers for s in steps[n].sources
                 for box, words in ways(s) if box != name]
        arrows += [(box, name, _once(words)) for box, words in found]
    gates = {name for name, box in boxes.items() if box.attention}
    return Graph(boxes, tuple(Arrow(a, b, words, "gate" if gates & {a, b} else kind_of(words))
                              for a, b, words in dict.fromkeys(arrows)))


def _once(words: Sequence[str]) -> tuple[str, ...]:
    """Without what is said twice in a row, such as a crop of each axis."""
    return tuple(word for n, word in enumerate(words) if n == 0 or word != words[n - 1])


def kind_of(words: Sequence[str]) -> str:
    """What an arrow is in short.

    >>> kind_of(("11×11 convolution", "ReLU")), kind_of(("1×1 convolution",)), kind_of(("crop",))
    ('convolution', '1×1', 'copy')
    """
    text = ", ".join(words)
    if "max-pooling" in text:
        return "pooling"
    if "up-" in text:
        return "up"
    kernels = re.findall(r"([\d×]+) convolution", text)
    if kernels:
        return "1×1" if all(set(kernel.split("×")) == {"1"} for kernel in kernels) else "convolution"
    return next((word for word in ("sum", "mean") if word in words), "copy")
