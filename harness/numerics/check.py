"""The numerics guard: compare convolutions at a precision and memory layout with a float64 reference before training.

Some kernels are silently wrong. On CPUs with AVX-512 bf16, the weight gradient of a stride-1 depthwise convolution with
dilation 2 or more, under bf16 autocast in channels_last, is garbage (relative error 1.4 and more, sometimes NaN) for
maps of about 29 columns and more, while the forward pass and the input gradient are right. Output strides below 32 use
exactly this kind of convolution, so a comparison of strides would be silently invalid.

Before a stage trains, every distinct convolution that its network executes is run forward and backward at the stage's
precision and layout and compared with the same convolution in float64 by its definition. On CPUs the harness has its
own gradients of dilated depthwise convolutions and its own choice of kernel for 1x1 convolutions
(`harness.numerics.kernels`), compared like torch's. If a convolution is wrong, the stage is trained in the next
combination that is right, and the log, the record and the board say so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.numerics.convolutions import ConvCase, Convolve, reduced_case, torch_convolve
from harness.numerics.kernels import kernel_name, own_convolve
from harness.numerics.modes import autocast
from harness.numerics.reference import ReferenceResult, reference_result, relative_error
from harness.specs.spec import Precision
from harness.system.devices import device_name
from harness.workspace.files import write_atomic

TOLERANCE: dict[str, float] = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}
"""Largest acceptable relative error.

Right kernels measure 1.7e-3 in bf16, 2e-4 in fp16 and at most 3e-6 in fp32, for every kind of convolution and for the
output and both gradients alike: this is the rounding of the result, since the operands are exact in all three, and does
not grow with the size. Wrong ones measure 1.3 and more. The tolerances are 10 to 30 times the former, for kernels that
accumulate less carefully, and far below the latter.
"""

TF32_TOLERANCE = 5e-3
"""Tolerance of fp32 where the GPU may use TF32, which has fp16's mantissa."""


@dataclass(frozen=True)
class Finding:
    """Errors of one convolution relative to float64, at a precision and a layout.

    Attributes:
        forward, input_gradient, weight_gradient: norm of the difference over norm of the reference; NaN or infinity for
            a result that contains them, or for a convolution that cannot run.
        tolerance: the largest acceptable error.
        error: why the convolution cannot run; empty if it can.
        own: computed by the harness's own kernel, if it has one, instead of torch's choice.
    """

    case: ConvCase
    precision: Precision
    channels_last: bool
    forward: float
    input_gradient: float
    weight_gradient: float
    tolerance: float
    error: str = ""
    own: bool = False

    @property
    def errors(self) -> dict[str, float]:
        """Compared quantity -> relative error."""
        return {
            "output": self.forward,
            "input gradient": self.input_gradient,
            "weight gradient": self.weight_gradient,
        }

    @property
    def what(self) -> str:
        """A description of the convolution and its kernel."""
        return f"{self.case}, {kernel_name(self.case)}" if self.own else str(self.case)

    @property
    def wrong(self) -> list[str]:
        """The wrong quantities: of "output", "input gradient", "weight gradient". NaN is wrong."""
        return [name for name, error in self.errors.items() if not error <= self.tolerance]

    @property
    def right(self) -> bool:
        """Whether all three are within the tolerance."""
        return not self.error and not self.wrong

    def __str__(self) -> str:
        if self.error:
            return f"{self.what}: cannot run in {combination(self.precision, self.channels_last)}: {self.error}"
        worst = ", ".join(f"{name} off by {self.errors[name]:.1e}" for name in self.wrong or self.errors)
        return f"{self.what}, {combination(self.precision, self.channels_last)}: {worst}"


def combination(precision: str, channels_last: bool) -> str:
    """A description of a combination: "bf16 channels_last"."""
    return f"{precision} {'channels_last' if channels_last else 'contiguous'}"


def tolerance(precision: str, device: torch.device) -> float:
    """The largest acceptable relative error at a precision on a device."""
    if precision == "fp32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return TF32_TOLERANCE
    return TOLERANCE[precision]


def _run(
    case: ConvCase,
    truth: ReferenceResult,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    convolve: Convolve,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients as in a training step: fp32 leaves, autocast, the given layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, weight = (
        t.to(device, torch.float32).contiguous(memory_format=layout).requires_grad_() for t in (truth.x, truth.weight)
    )
    with torch.enable_grad():
        with autocast(device, precision):
            y = convolve(case, x, weight)
        # In a network, the gradient arrives in the output's layout, from a layer that works in it.
        gradient = truth.gradient.to(device, y.dtype).contiguous(memory_format=layout)
        x_gradient, weight_gradient = torch.autograd.grad(y, (x, weight), gradient)
    return y.detach(), x_gradient, weight_gradient


def _measure(
    case: ConvCase,
    truth: ReferenceResult,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    convolve: Convolve,
) -> Finding:
    """Compare one case at one combination."""
    limit = tolerance(precision, device)
    try:
        values = _run(case, truth, device, precision, channels_last, convolve)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        nan = math.nan
        return Finding(case, precision, channels_last, nan, nan, nan, limit, reason)
    errors = [relative_error(value, right) for value, right in zip(values, truth.values)]
    return Finding(case, precision, channels_last, errors[0], errors[1], errors[2], limit)


class Cache:
    """Cache of findings, in this process and optionally in a JSON file.

    A finding holds for one torch version, device, number of threads and set of backend switches, all of which are part
    of its key. An unreadable or unwritable file is ignored.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = _read(path) if path else {}
        self._fresh = False
        self._truths: dict[tuple[ConvCase, torch.device], ReferenceResult] = {}

    def truth(self, case: ConvCase, device: torch.device) -> ReferenceResult:
        """Inputs and reference results of a case; kept for the next combination."""
        if (case, device) not in self._truths:
            self._truths[case, device] = reference_result(case, device)
        return self._truths[case, device]

    def get(self, name: str) -> dict[str, Any] | None:
        """The finding under a name, or None."""
        return _PROCESS.get(name) or self._known.get(name)

    def put(self, name: str, finding: dict[str, Any]) -> None:
        """Store a finding, for the process and for the next `save`."""
        _PROCESS[name] = self._known[name] = finding
        self._fresh = True

    def save(self) -> None:
        """Write the file atomically, merged with entries of other processes. Does nothing without changes or a path."""
        if self.path is None or not self._fresh:
            return
        with suppress(OSError):
            write_atomic(self.path, json.dumps({**_read(self.path), **self._known}, sort_keys=True, indent=0))
            self._fresh = False


_PROCESS: dict[str, dict[str, Any]] = {}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The content of a cache file; empty if it is missing or damaged."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _machine(device: torch.device) -> str:
    """Everything except the case that the result may depend on, as text."""
    parts = [f"torch {torch.__version__}", device_name(device), f"{torch.get_num_threads()} threads"]
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        number = cudnn.version()  # type: ignore[no-untyped-call]
        parts.append(f"cudnn {number}, tf32 {cudnn.allow_tf32}, deterministic {cudnn.deterministic}")
    elif device.type == "cpu":
        parts.append(f"{torch.backends.cpu.get_cpu_capability()}, onednn {torch.backends.mkldnn.enabled}")
    return " | ".join(parts)


def check(
    cases: Iterable[ConvCase],
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    cache: Cache | None = None,
    convolve: Convolve = torch_convolve,
) -> list[Finding]:
    """Run each convolution forward and backward at a precision and a layout, and compare with float64.

    Large ones are reduced by `reduced_case`. Inputs come from a separate generator: the global random state is
    preserved.

    Args:
        cases: the convolutions to compare.
        device, precision, channels_last: the conditions of training.
        cache: source of known findings and store of new ones; by default the cache of the process.
        convolve: the implementation to compare, in place of torch's kernels; findings of implementations other than
            `own_convolve` are not cached.
    """
    cache = cache if cache is not None else Cache()
    kept = convolve in (torch_convolve, own_convolve)
    own = convolve is own_convolve
    machine = _machine(device)
    findings = []
    for case in dict.fromkeys(reduced_case(case, device) for case in cases):
        name = f"{machine} | {combination(precision, channels_last)} | {json.dumps(asdict(case), sort_keys=True)}"
        name += f" | {kernel_name(case)}" if own else ""
        known = cache.get(name) if kept else None
        if known is None or known.get("tolerance") != tolerance(precision, device):
            found = _measure(case, cache.truth(case, device), device, precision, channels_last, convolve)
            found = replace(found, own=own)
            if kept:
                cache.put(name, _stored(found))
        else:
            found = Finding(case, precision, channels_last, own=own, **known)
        findings.append(found)
    if kept:
        cache.save()
    return findings


def _stored(finding: Finding) -> dict[str, Any]:
    """The part of a finding that is not in its cache key."""
    names = ("forward", "input_gradient", "weight_gradient", "tolerance", "error")
    return {name: getattr(finding, name) for name in names}


def _case(kernel: int, groups: int = 1, stride: int = 1, dilation: int = 1, transposed: bool = False) -> ConvCase:
    """A case of the table: 64 channels on 36x36, "same" padding."""
    padding = dilation * (kernel // 2)
    return ConvCase(
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding, padding),
        dilation=(dilation, dilation),
        groups=groups,
        in_channels=64,
        out_channels=64,
        size=(36, 36),
        batch=2,
        transposed=transposed,
    )


TABLE: tuple[ConvCase, ...] = (
    _case(1),
    _case(3),
    _case(3, stride=2),
    _case(3, dilation=2),
    _case(3, dilation=12),
    _case(3, groups=4),
    _case(3, groups=4, dilation=2),
    _case(3, groups=64),
    _case(3, groups=64, stride=2),
    _case(3, groups=64, dilation=2),
    _case(3, groups=64, dilation=4),
    _case(5, groups=64, dilation=2),
    _case(3, stride=2, transposed=True),
)
"""Kinds of convolution used in segmentation networks."""


def table(
    device: torch.device,
    precisions: Sequence[Precision] = ("fp32", "bf16", "fp16"),
    layouts: Sequence[bool] = (False, True),
    cases: Sequence[ConvCase] = TABLE,
    cache: Path | None = None,
) -> list[Finding]:
    """Findings of every kind of convolution at every precision and layout, for `harness doctor --numerics`.

    Ordered by case, then precision, then layout (contiguous, channels_last). Convolutions for which the
    harness has a kernel of its own on the device are listed a second time, with that.
    """
    store = Cache(cache)
    return [
        finding
        for case in cases
        for convolve in ((torch_convolve, own_convolve) if _has_own(case, device) else (torch_convolve,))
        for precision in precisions
        for channels_last in layouts
        for finding in check([case], device, precision, channels_last, store, convolve)
    ]


def _has_own(case: ConvCase, device: torch.device) -> bool:
    return device.type == "cpu" and bool(kernel_name(case))
