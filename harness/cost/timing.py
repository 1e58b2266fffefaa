"""Latency for one image: median and 95th percentile after warm-up, with device, precision and threads."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch

from backbones.base import Network
from harness.numerics.modes import autocast
from harness.specs.spec import Precision
from harness.system.devices import device_name
from results.record import Latency

RUNS = 50
"""Timed runs of a measurement, if its time budget suffices."""


def prepare_inference(
    network: Network, size: tuple[int, int], device: torch.device, channels_last: bool
) -> tuple[Network, torch.Tensor]:
    """A copy of a network in evaluation mode, and one image, on a device and in a memory layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    twin = copy.deepcopy(network).eval().to(device=device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.rand(1, 3, *size, device=device).contiguous(memory_format=layout)
    return twin, images


def measure_latency(
    network: Network,
    size: tuple[int, int],
    device: torch.device,
    precision: Precision = "fp32",
    channels_last: bool = False,
    runs: int = 0,
    warmup: int = 3,
    seconds: float = 2.0,
) -> Latency:
    """Inference time for one image of `size` (height, width); the network is not modified.

    Args:
        runs: maximum number of timed runs; 0 for `RUNS`.
        warmup: maximum number of warm-up runs.
        seconds: time budget of the whole measurement; a slow network gets fewer runs, but at least one warm-up and one
            timed run. The record contains the number of runs.
    """
    twin, images = prepare_inference(network, size, device, channels_last)
    with torch.inference_mode(), autocast(device, precision):
        times = _times(lambda: twin(images), device, runs or RUNS, warmup, seconds)
    return Latency(
        median_ms=1000 * statistics.median(times),
        p95_ms=1000 * _percentile(times, 0.95),
        runs=len(times),
        device=device_name(device),
        precision=precision,
        batch=1,
        threads=torch.get_num_threads() if device.type == "cpu" else 0,
    )


def _times(call: Callable[[], object], device: torch.device, runs: int, warmup: int, seconds: float) -> list[float]:
    """Seconds of each timed run."""
    start = time.perf_counter()
    # At most half of the budget goes into the warm-up.
    for done in range(max(1, warmup)):
        if done and time.perf_counter() - start > seconds / 2:
            break
        call()
    _synchronize(device)
    times: list[float] = []
    while not times or (len(times) < runs and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        call()
        _synchronize(device)
        times.append(time.perf_counter() - before)
    return times


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _percentile(values: list[float], fraction: float) -> float:
    """The smallest value that is >= at least `fraction` of the values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-fraction * len(ordered) // 1) - 1))]
