"""Peak memory of one inference.

On a GPU it is the peak of PyTorch's allocator: weights, image, maps and kernel workspaces. Elsewhere the resident set
of a process is not meaningful (allocators keep freed memory, threads and libraries add theirs), so live tensors are
tracked instead, on the meta device in float32: weights, image and maps that exist at the same time, without kernel
workspaces. That number depends only on the network and the size, not on the machine.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from backbones.base import Network
from backbones.probe import meta_copy
from harness.cost.timing import prepare_inference
from harness.numerics.modes import autocast
from harness.specs.spec import Precision


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the storages of tensors: bytes currently alive, and their peak.

    Attributes:
        now: bytes of live storages.
        peak: maximum of `now`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self.follow(value)
        return result

    def follow(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed; views share one. A tensor in oneDNN's layout counts itself."""
        if tensor.is_mkldnn:
            self._count(tensor, id(tensor), tensor.numel() * tensor.element_size())
            return
        storage = tensor.untyped_storage()
        self._count(storage, storage._cdata, storage.nbytes())

    def _count(self, holder: object, key: int, amount: int) -> None:
        if key in self._alive:
            return
        self._alive[key] = amount
        weakref.finalize(holder, self._gone, key).atexit = False
        self.now += amount
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)


def peak_memory(
    network: Network,
    size: tuple[int, int],
    device: torch.device,
    precision: Precision = "fp32",
    channels_last: bool = False,
) -> int:
    """Peak bytes of the inference of one image of `size` (height, width), weights included.

    On CUDA, measured in the given precision and layout; elsewhere, counted in float32 (see the module's docstring).
    """
    if device.type == "cuda":
        return _allocated(network, size, device, precision, channels_last)
    twin = meta_copy(network).eval()
    images = torch.empty(1, 3, *size, device="meta")
    live = LiveBytes()
    for tensor in (*twin.parameters(), *twin.buffers(), images):
        live.follow(tensor)
    with torch.no_grad(), live:
        twin(images)
    return live.peak


def _allocated(
    network: Network, size: tuple[int, int], device: torch.device, precision: Precision, channels_last: bool
) -> int:
    """The allocator's peak on a GPU, minus the memory in use before the network was copied."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    twin, images = prepare_inference(network, size, device, channels_last)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode(), autocast(device, precision):
        twin(images)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
