"""Time and peak memory of KA's affinity term: the m×m form against the exact form at linear cost.

    python benchmarks/affinity.py [--grids 16x32 32x64 65x65 64x128] [--channels 128 256] [--most-gib 4] [--device cpu]

Every figure is of one forward and one backward pass. Times are taken in one process, the two forms in turn, so that
what else the machine does falls on both. On a CPU, time is processor time on one thread, which other programs disturb
least; on a GPU it is elapsed time. Peak memory is what a process of its own (on a GPU, torch's allocator) needed on top
of the two maps. A case whose matrices would not fit is run in the linear form alone, and says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

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


def maps(height: int, width: int, channels: int, device: str) -> tuple[Tensor, Tensor]:
    """A student's map, which wants a gradient, and a teacher's: (1, C, h, w) each."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher = torch.randn(1, channels, height, width, device=device)
    return (teacher + 0.5 * torch.randn_like(teacher)).requires_grad_(), teacher


def times(forms: Sequence[str], repeat: int, **case: Any) -> dict[str, dict[str, float]]:
    """Time some forms in turn, in this process.

    Returns:
        of every form: value; seconds, the median of `repeat` passes after one that does not count.
    """
    student, teacher = maps(**case)
    cuda = case["device"].startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    values = {}
    for _ in range(repeat + 1):
        for form in forms:
            student.grad = None
            start = clock()
            loss = FORMS[form](student, teacher)
            loss.backward()
            if cuda:
                torch.cuda.synchronize()
            seconds[form].append(clock() - start)
            values[form] = loss.item()
    return {form: {"value": values[form], "seconds": statistics.median(seconds[form][1:])} for form in forms}


def memory(form: str, **case: Any) -> float:
    """GiB that this process needs at its peak on top of the maps."""
    student, teacher = maps(**case)
    cuda = case["device"].startswith("cuda")
    before = torch.cuda.memory_allocated() if cuda else psutil.Process().memory_info().rss
    for _ in range(2):
        student.grad = None
        FORMS[form](student, teacher).backward()
    # ru_maxrss is the highest resident size there ever was, in KiB on Linux.
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(peak - before, 0) / GIB


def in_own_process(what: str, **case: Any) -> Any:
    """Measure a case in a fresh process, so that no peak hides another."""
    command = [sys.executable, __file__, "--case", json.dumps({"what": what, **case})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def room(options: argparse.Namespace) -> float:
    """GiB that a case may use: four fifths of what is free, and no more than was allowed."""
    cuda = options.device.startswith("cuda")
    free = torch.cuda.mem_get_info()[0] if cuda else psutil.virtual_memory().available
    return min(0.8 * free / GIB, options.most_gib)


def row(grid: tuple[int, int], channels: int, options: argparse.Namespace) -> str:
    """One line of the table."""
    height, width = grid
    positions = height * width
    case = {"height": height, "width": width, "channels": channels, "device": options.device}
    needed = NAIVE_MATRICES * positions**2 * 4 / GIB
    forms = list(FORMS) if needed <= room(options) else ["linear"]
    timed = in_own_process("times", forms=forms, repeat=options.repeat, **case)
    peaks = {form: in_own_process("memory", form=form, **case) for form in forms}
    cells = [str(channels), f"{height}×{width}", f"{positions:,}"]
    linear = timed["linear"]
    if len(forms) == 1:
        cells += ["not run", f"{linear['seconds'] * 1e3:.1f}", "", f"about {needed:.0f} needed"]
        cells += [f"{peaks['linear']:.3f}", "", ""]
    else:
        full = timed["m×m"]
        cells += [f"{full['seconds'] * 1e3:.1f}", f"{linear['seconds'] * 1e3:.1f}"]
        cells += [f"{linear['seconds'] / full['seconds']:.2f}", f"{peaks['m×m']:.3f}", f"{peaks['linear']:.3f}"]
        cells += [f"{peaks['linear'] / peaks['m×m']:.2f}", f"{abs(full['value'] / linear['value'] - 1):.0e}"]
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


def grid(text: str) -> tuple[int, int]:
    """ "64x128" -> (64, 128)."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=grid, nargs="+", default=[(16, 32), (32, 64), (65, 65), (64, 128), (128, 256)])
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--most-gib", type=float, default=math.inf, help="memory that the m×m form may need")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = json.loads(options.case)
        print(json.dumps({"times": times, "memory": memory}[case.pop("what")](**case)))
        return
    print(f"Batch 1, float32, row-norm form. torch {torch.__version__}; {machine(options.device)}.\n")
    print("| C | grid | m | m×m, ms | linear, ms | of m×m | m×m, GiB | linear, GiB | of m×m | relative difference |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for channels in options.channels:
        for size in options.grids:
            print(row(size, channels, options), flush=True)


if __name__ == "__main__":
    main()
