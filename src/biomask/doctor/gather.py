"""Look at the machine and at what is installed. Whatever is missing or broken is found, never raised."""

from __future__ import annotations

import ctypes.util
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import biomask
from biomask.doctor.facts import Accelerators, Device, Disk, Extra, Package, Processor, Software
from biomask.machine import usable_cores

#: Modules of packages that are called otherwise.
MODULES = {"scikit-image": "skimage", "pillow": "PIL", "pyyaml": "yaml", "openslide-python": "openslide"}

#: Extras that users need not have.
FOR_DEVELOPERS = ("dev", "docs", "all")

#: Instruction sets: the usual name → the names of torch, of Linux and of macOS. Some is there where one of them is.
FEATURES: Mapping[str, tuple[str, ...]] = {
    "AVX2": ("avx2",), "AVX-512": ("avx512_f", "avx512f"), "VNNI": ("avx512_vnni", "avx_vnni"),
    "bfloat16": ("avx512_bf16", "bf16", "FEAT_BF16"), "AMX": ("amx_tile",),
    "NEON": ("neon", "asimd", "AdvSIMD"), "dot product": ("dot", "asimddp", "FEAT_DotProd"), "SVE": ("sve",),
    "int8 products": ("i8mm", "FEAT_I8MM"),
}
ARM = ("NEON", "dot product", "bfloat16", "int8 products", "SVE")
X86 = ("AVX2", "AVX-512", "VNNI", "bfloat16", "AMX")

#: Environment variables that hold torch back.
LIMITING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
            "DNNL_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES")

#: Seconds over which it is seen how busy the processor is.
LOOK = 0.4


def software() -> Software:
    """Versions of everything; each package is imported, since many fail only then."""
    needed, extras = _requirements()
    return Software(biomask.__version__, platform.python_version(), _system(), tuple(map(package, needed)),
                    tuple(Extra(name, tuple(map(package, names))) for name, names in extras.items()), sys.getfilesystemencoding())


def package(name: str) -> Package:
    """Its version, and whether it can be imported."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # noqa: BLE001  a broken package can raise anything
        return Package(name, version, private(f"{type(error).__name__}: {error}".partition("\n")[0]))
    return Package(name, version)


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """(packages that biomask needs, the extras for users with theirs), as its own metadata say."""
    needed, extras = list[str](), dict[str, list[str]]()
    try:
        lines = metadata.requires("biomask") or []
    except metadata.PackageNotFoundError:  # run from a folder of sources
        lines = ["torch", "numpy"]
    for line in lines:
        requirement, _, condition = line.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", condition)
        if name is None or name[0] == "biomask":
            continue
        if extra is None:
            needed.append(name[0])
        elif extra[1] not in FOR_DEVELOPERS:
            extras.setdefault(extra[1], []).append(name[0])
    return needed, extras


def _system() -> str:
    kind = platform.system()
    if kind == "Darwin":
        return f"macOS {platform.mac_ver()[0]}, {platform.machine()}"
    if kind != "Linux":
        return f"{kind} {platform.release()}, {platform.machine()}"
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        name = "Linux"
    return f"{name}, Linux {platform.release()}, {platform.machine()}"


def processor() -> Processor:
    """The CPU, from torch where it is there, from the system where not."""
    torch = _torch()
    told: Mapping[str, Any] = {}
    if torch is not None and hasattr(torch.cpu, "get_capabilities"):
        told = torch.cpu.get_capabilities()
    there = {k for k, v in told.items() if v} | _flags()
    kinds = ARM if platform.machine().lower() in ("arm64", "aarch64") else X86
    features = {kind: any(n in there for n in FEATURES[kind]) for kind in kinds}
    name = str(told.get("cpu_name") or _processor_name())
    limits = {k: v for k in LIMITING if (v := os.environ.get(k)) is not None}
    if torch is None:
        return Processor(name, os.cpu_count() or 1, usable_cores(), features, busy=_busy(), limits=limits)
    return Processor(name, os.cpu_count() or 1, usable_cores(), features, torch.get_num_threads(),
                     torch.backends.cpu.get_cpu_capability(), torch.backends.mkldnn.is_available(), _busy(), limits)


def _torch() -> Any:
    """torch; None where it is missing or broken."""
    return sys.modules.get("torch") if package("torch").usable else None


def _flags() -> set[str]:
    """Names of instruction sets, as the system has them."""
    if sys.platform == "darwin":
        lines = _output("sysctl", "hw.optional").splitlines()
        return {line.split(":")[0].rpartition(".")[2] for line in lines if line.endswith(": 1")}
    for line in _cpuinfo().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def _processor_name() -> str:
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string").strip() or platform.machine()
    names = (line.partition(":")[2].strip() for line in _cpuinfo().splitlines() if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    """What a small program of the system prints; nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _busy() -> float:
    """Share of all cores that is taken while this process waits."""
    try:
        import psutil

        return float(psutil.cpu_percent(interval=LOOK)) / 100
    except (ImportError, OSError):
        return 0.0


def disks() -> tuple[Disk, ...]:
    """Where results go by default, and where temporary files go."""
    places: list[tuple[str, Callable[[], str]]] = [("this folder", os.getcwd), ("temporary files", tempfile.gettempdir)]
    return tuple(_disk(purpose, place) for purpose, place in places)


def _disk(purpose: str, place: Callable[[], str]) -> Disk:
    try:
        folder = place()
        free = shutil.disk_usage(folder).free
    except OSError:  # a folder that was removed, a disk that went away
        return Disk(purpose, None, False)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Disk(purpose, free, True)
    except OSError:
        return Disk(purpose, free, False)


def accelerators() -> Accelerators | None:
    """GPUs that torch can use, and what speaks for one that it cannot."""
    torch = _torch()
    if torch is None:
        return None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = _devices(torch)
        except Exception as error:  # noqa: BLE001  drivers can fail in any way
            found, heard = (), [*heard, warnings.WarningMessage(f"{type(error).__name__}: {error}", UserWarning, "", 0)]
    said = private(str(heard[0].message).partition("\n")[0]) if heard and not found else None
    return Accelerators(found, _built_for(torch), _nvidia_driver(), said)


def _devices(torch: Any) -> tuple[Device, ...]:
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        with torch.cuda.device(index):
            found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index),
                                int(torch.cuda.get_device_properties(index).total_memory),
                                bool(torch.cuda.is_bf16_supported(including_emulation=False))))
    if torch.backends.mps.is_available():
        found.append(Device("mps", _processor_name(), None, False))
    return tuple(found)


def _built_for(torch: Any) -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return "MPS" if torch.backends.mps.is_built() else "the CPU alone"


def _nvidia_driver() -> str | None:
    """Its version, "there" where that cannot be told, None where there is none."""
    lines = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    if lines and lines[0][0].isdigit():
        return lines[0]
    if Path("/proc/driver/nvidia/version").is_file() or ctypes.util.find_library("nvcuda"):
        return "there"
    return None


def private(text: str) -> str:
    """Without the name of the user's folder."""
    home = str(Path.home()) if "HOME" in os.environ or os.name == "nt" else ""
    return text.replace(home, "~") if len(home) > 1 else text
