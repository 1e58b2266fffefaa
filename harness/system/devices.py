"""Devices: which there are, which one a stage gets, and what is recorded of them."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from results.record import Environment

if TYPE_CHECKING:
    import torch
from harness.system.code import revision, versions


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


def usable_cores(beside: int = 1) -> int:
    """Cores that this process may use: what SLURM gave its task, or its share of the machine's.

    Args:
        beside: processes that share the machine's, this one included.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given):
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // beside)


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
