"""Time and peak memory of KA's affinity term: the m×m form against the exact form at linear cost.

    python benchmarks/affinity.py [--size 512 1024] [--channels 128] [--strides 32 16 8 4] [--device cpu]

Every figure is of one forward and one backward pass, in a process of its own. On a CPU, time is processor time on one
thread, which other programs on the machine disturb least; on a GPU it is elapsed time. Peak memory is what the process
(on a GPU, torch's allocator) needed on top of the two maps. A case whose matrices would not fit is not run, and says
so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from methods.ka import affinity

GIB = 2**30
NAIVE_MATRICES = 4
"""m×m matrices for which there must be room before the naive form is run; it was seen to hold 3.3 at its peak."""


def naive(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ_i ‖row_i‖₂ / m by way of the m×m matrices."""
    s, t = (torch.nn.functional.normalize(x.flatten(2), dim=1) for x in (student, teacher))
    return (s.mT @ s - t.mT @ t).norm(dim=2).sum(dim=1).mean() / s.shape[2]


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"m×m": naive, "linear": affinity}


def measure(form: str, height: int, width: int, channels: int, device: str, repeat: int) -> dict[str, float]:
    """Run one case in this process.

    Returns:
        value; seconds, the median of `repeat` passes after one that does not count; peak_gib.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher = torch.randn(1, channels, height, width, device=device)
    student = (teacher + 0.5 * torch.randn_like(teacher)).requires_grad_()
    cuda = device.startswith("cuda")
    before = torch.cuda.memory_allocated() if cuda else psutil.Process().memory_info().rss
    clock = time.perf_counter if cuda else time.process_time
    seconds, value = [], 0.0
    for _ in range(repeat + 1):
        student.grad = None
        start = clock()
        loss = FORMS[form](student, teacher)
        loss.backward()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(clock() - start)
        value = loss.item()
    # ru_maxrss is the highest resident size there ever was, in KiB on Linux.
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"value": value, "seconds": statistics.median(seconds[1:]), "peak_gib": max(peak - before, 0) / GIB}


def in_own_process(case: dict[str, object]) -> dict[str, float]:
    """Measure a case in a fresh process, so that no peak hides another."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def room(device: str) -> float:
    """GiB that a case may use: four fifths of what is free."""
    free = torch.cuda.mem_get_info()[0] if device.startswith("cuda") else psutil.virtual_memory().available
    return 0.8 * free / GIB


def row(stride: int, options: argparse.Namespace) -> str:
    """One line of the table."""
    height, width = (-(-side // stride) for side in options.size)
    positions = height * width
    case = {"height": height, "width": width, "channels": options.channels, "device": options.device}
    linear = in_own_process({"form": "linear", "repeat": options.repeat, **case})
    needed = NAIVE_MATRICES * positions**2 * 4 / GIB
    cells = [str(stride), f"{height}×{width}", f"{positions:,}"]
    if needed > room(options.device):
        cells += ["does not fit", f"{linear['seconds'] * 1e3:.1f}", "", f"about {needed:.0f} needed"]
        cells += [f"{linear['peak_gib']:.3f}", ""]
    else:
        full = in_own_process({"form": "m×m", "repeat": options.repeat, **case})
        difference = abs(full["value"] - linear["value"]) / full["value"]
        cells += [f"{full['seconds'] * 1e3:.1f}", f"{linear['seconds'] * 1e3:.1f}"]
        cells += [f"{full['seconds'] / linear['seconds']:.1f}", f"{full['peak_gib']:.3f}"]
        cells += [f"{linear['peak_gib']:.3f}", f"{difference:.0e}"]
    return "| " + " | ".join(cells) + " |"


def machine(device: str) -> str:
    """What it ran on."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, one thread, load {os.getloadavg()[0]:.1f} at the start"


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:  # noqa: PTH123
            return file.readlines()
    except OSError:
        return []


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[512, 1024], help="height and width of the image")
    parser.add_argument("--strides", type=int, nargs="+", default=[32, 16, 8, 4])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**json.loads(options.case))))
        return
    print(f"Image {options.size[0]}×{options.size[1]}, batch 1, {options.channels} channels, float32, row-norm form.")
    print(f"torch {torch.__version__}; {machine(options.device)}.\n")
    print("| stride | grid | m | m×m, ms | linear, ms | times faster | m×m, GiB | linear, GiB | relative difference |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for stride in options.strides:
        print(row(stride, options), flush=True)


if __name__ == "__main__":
    main()
