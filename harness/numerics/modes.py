"""Contexts for running a network: evaluation mode, and autocast at a precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from harness.specs.spec import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Data type of convolutions under autocast."""


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Switch to eval mode; afterwards restore each module's mode, including those of frozen batch norms."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Autocast at a precision; autocast is disabled for fp32."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast: operators run in the data types of their inputs."""
    return autocast(device, "fp32")
