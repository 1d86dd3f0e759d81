"""Ten seconds of what biomask does: train, predict in tiles, write and read files, convolve."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biomask.doctor.facts import Check, Speed
from biomask.doctor.gather import private
from biomask.progress import Progress

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

#: Share of its first loss that a training must lose, and within how many steps.
GAIN, MOST_STEPS = 0.4, 40

#: Largest difference of tiled and untiled logits, relative to the largest.
TOLERANCE = 1e-5

#: A convolution of channels → channels, 3 x 3, on so many images of so many pixels a side: one of a usual U-Net.
BATCH, CHANNELS, SIDE = 4, 64, 128

#: Seconds a precision and device.
MEASURED = 0.7


def self_test(devices: Sequence[str], progress: Progress) -> tuple[tuple[Check, ...], tuple[Speed, ...]]:
    """(each part, on the CPU and each of the devices; speed of convolutions there). Nothing is raised."""
    work: list[tuple[str, Callable[[], str]]] = [("files", files)]
    for name in ("cpu", *devices):
        work += [(f"training on {name}", partial(training, name)), (f"tiles on {name}", partial(tiles, name))]
    checks, speeds = list[Check](), list[Speed]()
    with progress.bar("self-test") as bar:
        for n, (title, part) in enumerate(work):
            bar.update(n / (len(work) + 1), title)
            checks.append(attempt(title, part))
        bar.update(len(work) / (len(work) + 1), "speed")
        for name in ("cpu", *devices):
            checks.append(attempt(f"speed on {name}", partial(_noted, name, speeds)))
    return tuple(checks), tuple(speeds)


def attempt(name: str, part: Callable[[], str]) -> Check:
    """Run a part, which says what it found; whatever it raises is its failure."""
    from biomask.errors import BiomaskError

    began = time.perf_counter()
    try:
        found, passed, fix = part(), True, None
    except BiomaskError as error:
        found, passed, fix = error.what, False, error.fix
    except Exception as error:  # noqa: BLE001  a broken installation can raise anything
        found, passed, fix = f"{type(error).__name__}: {error}".partition("\n")[0], False, None
    return Check(name, passed, private(found), round(time.perf_counter() - began, 2), fix and private(fix))


def training(device: str) -> str:
    """A tiny U-Net learns synthetic cells: its loss must fall."""
    import numpy as np
    import torch

    from biomask.data.synthetic import phase_contrast_cells
    from biomask.data.targets import Targets
    from biomask.errors import BiomaskError
    from biomask.losses import CombinedLoss
    from biomask.models import UNet

    drawn = [phase_contrast_cells(0, n, (96, 96)) for n in range(4)]
    x = torch.from_numpy(np.stack([(i[None] - i.mean()) / i.std() for i, _ in drawn]).astype(np.float32)).to(device)
    targets = Targets(torch.from_numpy(np.stack([c > 0 for _, c in drawn])).long().to(device))
    with _seeded():
        network = UNet(1, 2, width=8, depth=2, norm="batch", bias=False).to(device).train()
    loss, optimizer = CombinedLoss(), torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = list[float]()
    while len(losses) <= MOST_STEPS and (not losses or losses[-1] > (1 - GAIN) * losses[0]):
        optimizer.zero_grad()
        value = loss(network(x), targets)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    found = f"loss {losses[0]:.2f} → {losses[-1]:.2f} in {len(losses) - 1} steps"
    if not losses[-1] <= (1 - GAIN) * losses[0]:
        raise BiomaskError(f"{found}: nothing was learnt", fix="install torch again")
    return found


def tiles(device: str) -> str:
    """A prediction in tiles must equal the untiled one."""
    import numpy as np

    from biomask.errors import BiomaskError
    from biomask.models import UNet
    from biomask.prediction import predict_array

    with _seeded():
        network = UNet(1, 2, width=4, depth=3).to(device).eval()
    image = np.random.default_rng(0).standard_normal((1, 181, 203)).astype(np.float32)
    whole, tiled = (predict_array(network, image, tile=tile, device=device) for tile in (None, 64))
    difference = float(np.abs(tiled - whole).max() / np.abs(whole).max())
    if not difference <= TOLERANCE:
        raise BiomaskError(f"tiled and untiled predictions differ by {difference:.1g}", fix="use --tile whole, and report it")
    return f"equal to the untiled image ({'exactly' if difference == 0 else f'within {difference:.0e}'})"


def files() -> str:
    """Pixels and spacing come back from files as they were."""
    import numpy as np

    from biomask.errors import BiomaskError
    from biomask.image import Image
    from biomask.io import read_image, write_image

    picture = np.random.default_rng(0).integers(0, 65536, (1, 40, 50)).astype(np.uint16)
    in_3d = {"z": 2.0, "y": 0.5, "x": 0.5}
    volume = np.random.default_rng(1).standard_normal((1, 5, 20, 30)).astype(np.float32)
    cases: list[tuple[str, npt.NDArray[Any], str, dict[str, float] | None]] = [
        ("a.png", picture, "cyx", None), ("b.tif", picture, "cyx", {"y": 0.5, "x": 0.25}),
        ("c.tif", volume, "czyx", in_3d), ("d.nii.gz", volume, "czyx", in_3d), ("e.npy", picture, "cyx", None)]
    with tempfile.TemporaryDirectory() as folder:
        for name, array, axes, spacing in cases:
            path = Path(folder) / name
            write_image(path, Image(array, axes, name, spacing))
            back = read_image(path)
            found = back.spacing or {}
            near = all(abs(found.get(a, 0.0) / size - 1) < 1e-4 for a, size in (spacing or {}).items())
            if not (np.array_equal(back.array, array) and near):
                raise BiomaskError(f"{path.suffix} is read back otherwise than it was written",
                                   fix="install tifffile, imagecodecs, pillow and nibabel again")
    return "PNG, TIFF, NIfTI and NumPy read back as they were written"


def _noted(device: str, speeds: list[Speed]) -> str:
    """Measure a device, keep its speed, and put it into words."""
    import torch

    from biomask.training.optimizer import use_bfloat16

    place = torch.device(device)
    found = Speed(device, convolutions(place, torch.float32), convolutions(place, torch.bfloat16),
                  use_bfloat16("auto", place, (256, 256)))
    speeds.append(found)
    rates = [f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in (("float32", found.float32), ("bfloat16", found.bfloat16))
             if rate is not None]
    return f"{', '.join(rates)}; training uses {'bfloat16' if found.uses_bfloat16 else 'float32'}"


def convolutions(device: torch.device, precision: torch.dtype) -> float | None:
    """Floating-point operations a second of a convolution, forward and backward, the fastest of some; None where the device
    cannot do it in this precision."""
    import torch
    from torch import nn

    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).to(device, precision)
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.ones((BATCH, CHANNELS, SIDE, SIDE), dtype=precision, device=device).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()

    def step() -> float:
        begin = time.perf_counter()
        convolution(x).sum().backward()
        _wait(device)
        return time.perf_counter() - begin

    try:
        step()  # chooses and compiles the algorithm
        _wait(device)
        seconds, until = [step()], time.perf_counter() + MEASURED
        while time.perf_counter() < until:
            seconds.append(step())
    except RuntimeError:
        if precision == torch.float32:
            raise
        return None
    return 3 * 2 * 9 * CHANNELS**2 * BATCH * SIDE**2 / min(seconds)  # backward is twice the forward pass


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _seeded() -> Iterator[None]:
    """The same weights every time, made on the CPU, and the caller's random numbers as they were."""
    import torch

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield
