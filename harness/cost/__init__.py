"""What a model costs at one input size: multiply-adds, parameters, latency, peak memory."""

from __future__ import annotations

import torch

from backbones.base import Network
from harness.cost.counting import HEADLINE, Macs, count_macs, parameters, shape_macs
from harness.cost.memory import peak_memory
from harness.cost.timing import measure_latency
from harness.specs.spec import Precision
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
) -> Cost:
    """All costs of one image of `size` (height, width): one traced pass, and two seconds of timing.

    Multiply-adds are counted in float32 whatever the precision; the network is left as it was.
    """
    macs = count_macs(network, size)
    return Cost(
        input_size=size,
        macs=macs.headline,
        macs_by_operator=macs.by_operator,
        uncounted=macs.uncounted,
        parameters=parameters(network),
        latency=measure_latency(network, size, device, precision, channels_last) if latency else None,
        peak_memory_bytes=peak_memory(network, size, device, precision, channels_last),
        dilation=network.backbone.dilation,
    )
