"""Checkpoints: the complete state of a run, so that a resumed run equals an uninterrupted one; written atomically."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import nn

from harness.errors import HarnessError
from harness.workspace.files import write_atomic


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to a file, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint on the CPU; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many types for a damaged file; the run then starts from the beginning
        return None


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's state as safetensors, atomically."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    write_atomic(path, save_tensors(state))


def load_weights(path: Path, module: nn.Module) -> None:
    """Read a module's state from safetensors.

    Raises:
        HarnessError: the file does not fit the module.
    """
    try:
        module.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, OSError) as error:
        raise HarnessError(f"{path} does not fit its network: {' '.join(str(error).split())[:300]}") from error
