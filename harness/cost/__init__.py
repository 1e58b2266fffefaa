"""The costs of a model at one input size: multiply-adds, parameters, latency, peak memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch

from backbones.base import Network
from harness.cost.counting import HEADLINE, Macs, count_macs, parameters, shape_macs
from harness.cost.memory import peak_memory
from harness.cost.timing import measure_latency
from harness.specs.spec import Precision
from harness.system.memory import out_of_memory
from results.record import Cost

__all__ = [
    "HEADLINE",
    "Macs",
    "count_macs",
    "measure_cost",
    "measure_latency",
    "parameters",
    "peak_memory",
    "shape_macs",
]


def measure_cost(
    network: Network,
    size: tuple[int, int],
    device: torch.device,
    precision: Precision = "fp32",
    channels_last: bool = False,
    latency: bool = True,
    like: Cost | None = None,
) -> Cost:
    """Measure all costs for one image of `size` (height, width): one traced pass, and two seconds of timing.

    Multiply-adds are counted in float32 at any precision; the network is not modified. An image that does not
    fit into the device's memory is counted on the CPU, and has no latency and no peak memory.

    Args:
        like: costs of a network of the same architecture under the same conditions; only the latency is measured then.
    """
    timed = lambda: measure_latency(network, size, device, precision, channels_last)  # noqa: E731
    if like is not None:
        return like.model_copy(update={"latency": _if_it_fits(timed) if latency else None})
    macs = _if_it_fits(lambda: count_macs(network, size))
    if macs is None:
        macs = count_macs(copy.deepcopy(network).cpu(), size)
    return Cost(
        input_size=size,
        macs=macs.headline,
        macs_by_operator=macs.by_operator,
        uncounted=macs.uncounted,
        parameters=parameters(network),
        latency=_if_it_fits(timed) if latency else None,
        peak_memory_bytes=_if_it_fits(lambda: peak_memory(network, size, device, precision, channels_last)),
        dilation=network.backbone.dilation,
    )


T = TypeVar("T")


def _if_it_fits(measure: Callable[[], T]) -> T | None:
    """What was measured; None where memory does not suffice."""
    try:
        return measure()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    return None
