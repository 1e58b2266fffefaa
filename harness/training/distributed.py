"""Several processes for one run, from the variables set by torchrun and submitit. Usually there is one process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from harness.training.batch_norm import share_batch_norms


@dataclass(frozen=True)
class Processes:
    """The group of processes that train one run together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrap(self, module: nn.Module, device: torch.device, ignored: Iterable[nn.Module] = ()) -> nn.Module | None:
        """The module with gradients averaged over processes; None for a single process.

        Args:
            ignored: submodules to exclude, which stay equal in all processes without synchronisation: discriminators,
                updated with `average_gradients`, and memories, which gather what they store.
        """
        if self.size == 1:
            return None
        if device.type == "cuda":
            # timm's conversion, because torch's drops the activations inside timm's batch norms.
            convert_sync_batchnorm(module)
        else:
            share_batch_norms(module)
        ids = [device.index] if device.type == "cuda" else None
        wrapped = nn.parallel.DistributedDataParallel
        wrapped._set_params_and_buffers_to_ignore_for_model(module, _names(module, set(ignored)))
        return wrapped(module, device_ids=ids, find_unused_parameters=True)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            torch.distributed.barrier()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is true in any process."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag), device=device)
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return bool(value.item())

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def process_count() -> int:
    """The number of processes that train this run together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def _names(module: nn.Module, parts: set[nn.Module]) -> list[str]:
    """Names of the parameters and buffers of submodules."""
    names = []
    for place, part in module.named_modules():
        if part in parts:
            names += [f"{place}.{name}" for name, _ in (*part.named_parameters(), *part.named_buffers())]
    return names


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes; does nothing for a single process."""
    processes = process_count()
    for parameter in parameters if processes > 1 else ():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= processes


def join(device: torch.device) -> Processes:
    """Join the group that WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe, if there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Processes()
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(rank, size, local)
