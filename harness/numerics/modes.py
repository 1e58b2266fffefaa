"""How a network is run: in evaluation mode, and under autocast at a precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from harness.specs.spec import Precision

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast runs convolutions in."""


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module gets its own mode back afterwards, frozen batch norms too."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Autocast at a precision; for fp32 a context in which autocast is off."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
