"""Several processes for one run, from the variables that torchrun and submitit set. One process is the common case."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among those that train one run together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """The process that writes files."""
        return self.rank == 0

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module | None:
        """The module with gradients averaged over processes; None when there is one process."""
        if self.size == 1:
            return None
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(module)
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            torch.distributed.barrier()

    def any(self, flag: bool, device: torch.device) -> bool:
        """True in every process as soon as it is true in one."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag), device=device)
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return bool(value.item())

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def join(device: torch.device) -> Processes:
    """Join the group that WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe, if there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Processes()
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(rank, size, local)
