"""Devices: selection, names, and the environment that a record contains."""

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
        HarnessError: an unknown kind of device, or one that this machine does not have.
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
        raise HarnessError("device 'mps' is not available on this machine or in this torch", "use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise HarnessError(f"devices of kind '{device.type}' are not supported", "use auto, cpu, cuda, cuda:1 or mps")
    return device


def _cuda(device: torch.device) -> torch.device:
    """Check that a GPU exists, and complete its index."""
    import torch

    index, count = device.index or 0, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        raise HarnessError(f"device '{device}' is not available: {why}", "use --device cpu, and run `harness doctor`")
    if index >= count:
        raise HarnessError(
            f"device '{device}' is not available: there are {count} GPUs", f"use cuda:0 to cuda:{count - 1}"
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
        word: its value for `--device`.
        memory_bytes: its total memory; 0 if unknown.
    """

    word: str
    name: str
    memory_bytes: int


def usable_cores(sharing: int = 1) -> int:
    """The number of cores that this process may use: those of its SLURM task, or its share of the machine's.

    Args:
        sharing: number of processes that share the machine, this one included.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given):
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sharing)


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
    """The environment of a stage, for its record.

    Args:
        device: device of the stage.
        launcher, job: launcher, and job id of its scheduler.
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
