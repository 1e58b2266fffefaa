"""Reference convolutions and gradients in float64, computed from the definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.numerics.convolutions import ConvCase
from harness.numerics.modes import full_precision


def reference_convolution(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a case by definition, as a sum over the kernel's taps, without convolution kernels.

    y[o, p] = Σ_(tap t) Σ_c weight[o, c, t] · x[c, stride·p + dilation·t - padding], per group; a transposed convolution
    scatters instead of gathering.

    Args:
        x: (B, C, h, w), padded with zeros by the case's padding.
        weight: in torch's layout.
    """
    groups = case.groups
    pad_rows, pad_columns = case.padding
    if not case.transposed:
        x = F.pad(x, (pad_columns, pad_columns, pad_rows, pad_rows))
        taps = weight.reshape(groups, -1, *weight.shape[1:])  # (g, O/g, C/g, kh, kw)
        spans = [
            (n - d * (k - 1) - 1) // s * s + 1
            for n, d, k, s in zip(x.shape[-2:], case.dilation, case.kernel, case.stride)
        ]
        grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
        parts = [
            torch.einsum("bgchw,goc->bgohw", grouped[(..., *_window(case, i, j, spans))], taps[..., i, j])
            for i in range(case.kernel[0])
            for j in range(case.kernel[1])
        ]
        return torch.stack(parts).sum(0).flatten(1, 2)
    taps = weight.reshape(groups, -1, *weight.shape[1:])  # (g, C/g, O/g, kh, kw)
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    spans = [(n - 1) * s + 1 for n, s in zip(case.size, case.stride)]
    rows, columns = (
        span + d * (k - 1) + extra for span, d, k, extra in zip(spans, case.dilation, case.kernel, case.output_padding)
    )
    y = x.new_zeros(x.shape[0], groups, case.out_channels // groups, rows, columns)
    for i in range(case.kernel[0]):
        for j in range(case.kernel[1]):
            part = torch.einsum("bgchw,gco->bgohw", grouped, taps[..., i, j])
            y[(..., *_window(case, i, j, spans))] += part
    return y.flatten(1, 2)[..., pad_rows : rows - pad_rows, pad_columns : columns - pad_columns]


def _window(case: ConvCase, i: int, j: int, spans: Sequence[int]) -> tuple[slice, slice]:
    """The rows and columns that tap (i, j) reads."""
    starts = (i * case.dilation[0], j * case.dilation[1])
    rows, columns = (slice(at, at + span, step) for at, span, step in zip(starts, spans, case.stride))
    return rows, columns


@dataclass(frozen=True)
class ReferenceResult:
    """Input (B, C, h, w), weight and output gradient in float64, with the resulting output and gradients."""

    x: Tensor
    weight: Tensor
    gradient: Tensor
    values: tuple[Tensor, Tensor, Tensor]


def reference_result(case: ConvCase, device: torch.device) -> ReferenceResult:
    """Random inputs from a separate generator, with their reference results in float64."""
    generator = torch.Generator().manual_seed(0)
    # Some accelerators (Apple's) have no float64: there the reference is computed on the CPU.
    place = device if device.type in ("cpu", "cuda") else torch.device("cpu")

    def normal(*shape: int) -> Tensor:
        # Rounded to bf16, which the other precisions represent exactly, so that only the arithmetic is compared.
        return torch.randn(*shape, generator=generator).bfloat16().to(place, torch.float64)

    x = normal(case.batch, case.in_channels, *case.size).requires_grad_()
    ends = (case.in_channels, case.out_channels) if case.transposed else (case.out_channels, case.in_channels)
    weight = normal(ends[0], ends[1] // case.groups, *case.kernel).requires_grad_()
    with torch.enable_grad(), full_precision(place):
        y = reference_convolution(case, x, weight)
        gradient = normal(*y.shape)
        x_gradient, weight_gradient = torch.autograd.grad(y, (x, weight), gradient)
    return ReferenceResult(x.detach(), weight.detach(), gradient, (y.detach(), x_gradient, weight_gradient))


def relative_error(value: Tensor, truth: Tensor) -> float:
    """‖value - truth‖ / ‖truth‖ in float64; infinity or NaN if `value` contains such entries."""
    value = value.to(truth.device).double()
    return float((value - truth).norm() / truth.norm().clamp_min(torch.finfo(torch.float64).tiny))
