"""Where and with what a stage runs: versions, host, devices, code revision. Recorded beside a stage's key, never in it.

Versions are read from package metadata and nothing heavy is imported; only the functions about devices import torch.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from results.record import Environment

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "segmentation-distillation-harness"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "fvcore",
    "numpy",
    "scipy",
    "pandas",
    "sqlalchemy",
    "pydantic",
    "safetensors",
    "submitit",
    "streamlit",
)
"""Distributions whose versions are recorded."""

SOURCES = ("harness", "methods", "backbones")
"""Packages whose code decides what a stage computes."""

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages: a checkout, or site-packages."""


def package_version() -> str:
    """The version of this distribution; "unknown" where it is not installed."""
    return _version(DISTRIBUTION) or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Python and every package of `PACKAGES` that is installed -> version."""
    found = {"python": platform.python_version(), DISTRIBUTION: package_version()}
    return found | {name: number for name in PACKAGES if (number := _version(name))}


@dataclass(frozen=True)
class Revision:
    """The code that runs: a commit, and whether the tree differs from it; or "package VERSION" outside a checkout."""

    name: str
    dirty: bool = False

    def __str__(self) -> str:
        return f"{self.name}{' with changes' if self.dirty else ''}"


def revision(root: Path = ROOT) -> Revision:
    """The revision of the sources. Never fails: without git, or outside a checkout, it is the package's version."""
    packaged = Revision(f"package {package_version()}")
    top, commit = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    # An installation inside somebody else's repository (a virtual environment in it) is not a checkout of this one.
    if not commit or not top or Path(top).resolve() != root.resolve():
        return packaged
    tracked = [name for name in (*SOURCES, "results") if (root / name).is_dir()]
    status = _git(root, "status", "--porcelain", "--", *tracked)
    return Revision(commit, dirty=status is None or bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; None when it is missing, slow or refuses."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def tree_digest(root: Path = ROOT) -> str:
    """sha256 over the source files of `harness`, `methods` and `backbones`: names and contents, in order of name.

    It tells a worker whether the code changed between planning and running, in a checkout and in site-packages alike.
    Compiled files and anything but `.py` and `.yaml` do not count.
    """
    total = sha256()
    for package in SOURCES:
        files = (file for file in (root / package).rglob("*") if file.suffix in (".py", ".yaml"))
        for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
            total.update(f"{file.relative_to(root).as_posix()}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        HarnessError: no such kind of device, or this machine has none.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise HarnessError(f"'{name}' is not a device", "use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda":
        return _cuda(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise HarnessError("device 'mps' was asked for, but this machine or this torch has none", "use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise HarnessError(f"devices of kind '{device.type}' are not supported", "use auto, cpu, cuda, cuda:1 or mps")
    return device


def _cuda(device: torch.device) -> torch.device:
    """A GPU that is there, by number."""
    import torch

    index, count = device.index or 0, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        raise HarnessError(
            f"device '{device}' was asked for, but {why}", "use --device cpu, and look at what `harness doctor` says"
        )
    if index >= count:
        raise HarnessError(
            f"device '{device}' was asked for, but there are {count} GPUs here", f"cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


def device_name(device: torch.device) -> str:
    """The name of the hardware: "NVIDIA H100", or the processor's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"Apple GPU ({processor()})" if device.type == "mps" else processor()


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name with its core count: "Intel Xeon, 8 cores"."""
    name = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    cores = os.cpu_count() or 1
    return f"{name or platform.processor() or platform.machine()}, {cores} core{'s' if cores > 1 else ''}"


@dataclass(frozen=True)
class Device:
    """A device that this machine has.

    Attributes:
        word: what `--device` takes.
        memory_bytes: all the memory it has; 0 if unknown.
    """

    word: str
    name: str
    memory_bytes: int


def devices() -> list[Device]:
    """All devices, the CPU first."""
    import psutil
    import torch

    found = [Device("cpu", processor(), int(psutil.virtual_memory().total))]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(Device(f"cuda:{index}", properties.name, int(properties.total_memory)))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", 0))
    return found


def environment_record(device: torch.device, launcher: str = "local", job: str = "") -> Environment:
    """What a record says of where its stage ran.

    Args:
        device: the one it ran on.
        launcher, job: who started it, and the scheduler's name for it.
    """
    import torch

    code = revision()
    return Environment(
        revision=code.name,
        dirty=code.dirty,
        versions=versions(),
        host=socket.gethostname(),
        device=f"{device}: {device_name(device)}",
        threads=torch.get_num_threads(),
        launcher=launcher,
        job=job,
    )
