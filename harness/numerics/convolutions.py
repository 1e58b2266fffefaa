"""The distinct convolutions that a network executes, and reduced cases that represent them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from harness.numerics.modes import evaluation_mode

_MAC_CAP = 12_000_000
"""Maximum multiply-adds of a check's forward pass on a CPU; a GPU may use `_GPU_FACTOR` times as many."""


_GPU_FACTOR = 16


_GROUPED_FACTOR = 8
"""Relative time of a multiply-add in a grouped convolution, which is memory-bound."""


_BATCH_CAP = 2


_WIDTH_CAP = 256


_DEPTHWISE_CAP = 128


@dataclass(frozen=True, order=True)
class ConvCase:
    """One convolution as a network executes it.

    Attributes:
        kernel, stride, padding, dilation: (rows, columns).
        groups: equal to `in_channels` for a depthwise convolution.
        in_channels, out_channels: channels of the whole convolution.
        size: (h, w) of the input.
        batch: number of images.
        transposed: a transposed convolution, with its `output_padding`.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    in_channels: int
    out_channels: int
    size: tuple[int, int]
    batch: int
    transposed: bool = False
    output_padding: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> str:
        """A description: "depthwise 3x3, dilation 2"."""
        words = f"{self.kernel[0]}x{self.kernel[1]}"
        if self.groups > 1:
            words = f"depthwise {words}" if self.groups == self.in_channels else f"{words}, {self.groups} groups"
        if self.transposed:
            words = f"transposed {words}"
        if max(self.stride) > 1:
            words += f", stride {max(self.stride)}"
        if max(self.dilation) > 1:
            words += f", dilation {max(self.dilation)}"
        return words

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward pass."""
        rows, columns = self.size
        if not self.transposed:
            rows, columns = (
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip(self.size, self.padding, self.dilation, self.kernel, self.stride)
            )
        weights = self.in_channels * self.out_channels // self.groups * self.kernel[0] * self.kernel[1]
        return self.batch * rows * columns * weights

    def __str__(self) -> str:
        rows, columns = self.size
        return f"{self.kind}, {self.in_channels} to {self.out_channels} channels on {rows}x{columns}"


Convolve = Callable[[ConvCase, Tensor, Tensor], Tensor]
"""A convolution of a case: (input (B, C, h, w), weight) -> output."""


class _Recorder(TorchDispatchMode):
    """Records every convolution that runs, including functional ones and those in third-party modules."""

    def __init__(self, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = batch
        self.cases: Counter[ConvCase] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[0].dim() == 4:
            self._note(*args)
        return func(*args, **(kwargs or {}))

    def _note(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> None:
        case = ConvCase(
            kernel=_pair(weight.shape[2:]),
            stride=_pair(stride),
            padding=_pair(padding),
            dilation=_pair(dilation),
            groups=groups,
            in_channels=x.shape[1],
            out_channels=weight.shape[1] * groups if transposed else weight.shape[0],
            size=_pair(x.shape[2:]),
            batch=self.batch,
            transposed=transposed,
            output_padding=_pair(output_padding),
        )
        self.cases[case] += 1


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (int(values[0]), int(values[-1]))


def count_convolutions(
    network: nn.Module,
    size: tuple[int, int],
    batch: int,
    run: Callable[[], object] | None = None,
) -> Counter[ConvCase]:
    """The distinct convolutions of a network and how often each runs, recorded in a forward pass of one image.

    Convolutions are equal regardless of their place and bias. They are recorded at execution, so dynamic padding,
    weight standardisation and transposed convolutions are seen as they run. Weights, batch-norm statistics, training
    modes and the global random state are unchanged.

    Args:
        network: module that takes (1, 3, H, W) images, on any device.
        size: (H, W) of the images.
        batch: number of images of a training step.
        run: another forward pass, for modules that do not take images (a translator reads a teacher's maps).
    """
    parameter = next(network.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    recorder = _Recorder(batch)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(network), recorder:
        if run is not None:
            run()
        else:
            network(torch.zeros(1, 3, *size, device=device))
    return recorder.cases


def reduced_case(case: ConvCase, device: torch.device) -> ConvCase:
    """The case at a size that is quick to check: fewer images, rows and, for depthwise convolutions, channels.

    Columns are kept up to 256, because kernels choose their blocks by them: the fault that this module detects occurs
    from 29 columns on. Rows stay at least twice the kernel's extent, which the fault also requires. Depthwise channels
    are independent of each other: 128, with the same remainder modulo 64, represent more.
    """
    budget = _MAC_CAP * (_GPU_FACTOR if device.type == "cuda" else 1)
    case = replace(case, batch=min(case.batch, _BATCH_CAP), size=(case.size[0], min(case.size[1], _WIDTH_CAP)))
    if case.groups == case.in_channels > _DEPTHWISE_CAP:
        channels = _DEPTHWISE_CAP + case.in_channels % 64
        multiplier = case.out_channels // case.in_channels
        case = replace(case, groups=channels, in_channels=channels, out_channels=channels * multiplier)
    if case.groups > 1:
        budget //= _GROUPED_FACTOR
    if case.macs > budget:
        case = replace(case, batch=1)
    if case.macs > budget:
        reach = case.dilation[0] * (case.kernel[0] - 1) + 1
        rows = max(int(case.size[0] * budget / case.macs), 2 * reach, 8)
        case = replace(case, size=(min(case.size[0], rows), case.size[1]))
    return case


def torch_convolve(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a case by torch's kernels."""
    if case.transposed:
        return F.conv_transpose2d(
            x, weight, None, case.stride, case.padding, case.output_padding, case.groups, case.dilation
        )
    return F.conv2d(x, weight, None, case.stride, case.padding, case.dilation, case.groups)
