"""The numerics guard: no precision and no memory layout is trusted that has not been compared.

Some kernels are wrong without saying so. On CPUs with AVX-512 bf16, the weight gradient of a stride-1 depthwise
convolution with dilation 2 or more, under bf16 autocast in channels_last, is garbage (relative error 1.4 and more, now
and then NaN) as soon as its map is some 29 columns wide, while the forward pass and the input gradient are right. That
is what an output stride below 32 is made of, so a comparison of strides would be faked in silence.

Before a stage trains, every distinct convolution that its network executes is run forward and backward at the stage's
precision and layout and compared with the same convolution in float64 by its definition. Where it is wrong, the stage
is trained in the next combination that is right, and the log, the record and the board say so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from harness.environment import device_name
from harness.errors import StageFailed
from harness.spec import Precision
from harness.workspace import write_atomic

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What autocast runs convolutions in."""

TOLERANCE: dict[str, float] = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}
"""Largest relative error that counts as right.

Right kernels measure 1.7e-3 in bf16, 2e-4 in fp16 and at most 3e-6 in fp32, for every kind of convolution and for the
output and both gradients alike: it is the rounding of the result, since the operands are exact in all three, and does
not grow with the size. Wrong ones measure 1.3 and more. The tolerances leave 10 to 30 times the former, for kernels
that accumulate less carefully, and stay far below the latter.
"""

TF32_TOLERANCE = 5e-3
"""For fp32 where the GPU may use TF32: its mantissa is fp16's."""

_MAC_CAP = 12_000_000
"""Multiply-adds of one forward pass that a check may cost on a CPU; a GPU may use `_GPU_FACTOR` times as many."""
_GPU_FACTOR = 16
_GROUPED_FACTOR = 8
"""A multiply-add of a grouped convolution takes this much longer: it is bound by memory."""
_BATCH_CAP = 2
_WIDTH_CAP = 256
_DEPTHWISE_CAP = 128


@dataclass(frozen=True, order=True)
class ConvCase:
    """One convolution as a network executes it.

    Attributes:
        kernel, stride, padding, dilation: (rows, columns).
        groups: equal to `in_channels` for a depthwise one.
        in_channels, out_channels: of the whole convolution.
        size: (h, w) of its input, in positions.
        batch: images.
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
        """In words: "depthwise 3x3, dilation 2"."""
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


@dataclass(frozen=True)
class Finding:
    """How far one convolution is from float64 at a precision and a layout.

    Attributes:
        forward, input_gradient, weight_gradient: norm of the difference over norm of the truth; NaN and infinity stand
            for a result that has some, or for a convolution that cannot be run at all.
        tolerance: the largest error that is right.
        error: why it cannot be run; empty when it can.
    """

    case: ConvCase
    precision: Precision
    channels_last: bool
    forward: float
    input_gradient: float
    weight_gradient: float
    tolerance: float
    error: str = ""

    @property
    def errors(self) -> dict[str, float]:
        """What was compared -> relative error."""
        return {
            "output": self.forward,
            "input gradient": self.input_gradient,
            "weight gradient": self.weight_gradient,
        }

    @property
    def wrong(self) -> list[str]:
        """What is wrong: of "output", "input gradient", "weight gradient". NaN is wrong."""
        return [name for name, error in self.errors.items() if not error <= self.tolerance]

    @property
    def right(self) -> bool:
        """All three within the tolerance."""
        return not self.error and not self.wrong

    def __str__(self) -> str:
        if self.error:
            return f"{self.case}: cannot run in {combination(self.precision, self.channels_last)}: {self.error}"
        worst = ", ".join(f"{name} off by {self.errors[name]:.1e}" for name in self.wrong or self.errors)
        return f"{self.case}, {combination(self.precision, self.channels_last)}: {worst}"


@dataclass(frozen=True)
class Decision:
    """What a stage is trained in.

    Attributes:
        precision, channels_last: the combination to use; every convolution of the network is right in it.
        note: a sentence that says why it is not the one that was asked for; empty when it is.
        findings: all that were made on the way, asked combination first.
    """

    precision: Precision
    channels_last: bool
    note: str
    findings: tuple[Finding, ...]


def combination(precision: str, channels_last: bool) -> str:
    """In words: "bf16 channels_last"."""
    return f"{precision} {'channels_last' if channels_last else 'contiguous'}"


class _Recorder(TorchDispatchMode):
    """Notes every convolution that runs, functional ones and those of third parties' modules included."""

    def __init__(self, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = batch
        self.cases: dict[ConvCase, None] = {}

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
        self.cases[case] = None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (int(values[0]), int(values[-1]))


@contextmanager
def _evaluating(module: nn.Module) -> Any:
    """Eval mode inside, each submodule's own mode afterwards: batch-norm statistics are left alone."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def distinct_convolutions(
    network: nn.Module,
    size: tuple[int, int],
    batch: int,
    run: Callable[[], object] | None = None,
) -> list[ConvCase]:
    """The distinct convolutions of a network, found by a dry forward pass of one image.

    Equal ones count once, whatever their place and bias. They are taken where they are executed, so padding computed
    on the fly, weights standardised on the fly and transposed convolutions are seen as they run. Neither weights,
    batch-norm statistics, training modes nor the global random state change.

    Args:
        network: takes (1, 3, H, W) images, on any device.
        size: (H, W) of the images.
        batch: images in a training step.
        run: another dry forward, for modules that do not take images (a translator reads a teacher's maps).
    """
    parameter = next(network.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    recorder = _Recorder(batch)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), _evaluating(network), recorder:
        if run is not None:
            run()
        else:
            network(torch.zeros(1, 3, *size, device=device))
    return sorted(recorder.cases)


def capped(case: ConvCase, device: torch.device) -> ConvCase:
    """The case at a size that is quick to check: fewer images, fewer rows and, of depthwise ones, fewer channels.

    Columns are kept up to 256, because kernels choose their blocks by them: the fault that this module was written for
    is there from 29 columns on and not before. Rows never fall below twice the kernel's reach: it needs so many, too.
    Depthwise channels are independent of each other: 128 and the same remainder by 64 stand for more.
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
    """The convolution of a case by torch's own kernels."""
    if case.transposed:
        return F.conv_transpose2d(
            x, weight, None, case.stride, case.padding, case.output_padding, case.groups, case.dilation
        )
    return F.conv2d(x, weight, None, case.stride, case.padding, case.dilation, case.groups)


def tolerance(precision: str, device: torch.device) -> float:
    """The largest relative error that is right at a precision on a device."""
    if precision == "fp32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return TF32_TOLERANCE
    return TOLERANCE[precision]


def definition(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a case by its definition, as a sum over the kernel's taps: no convolution kernel is involved.

    y[o, p] = Σ_(tap t) Σ_c weight[o, c, t] · x[c, stride·p + dilation·t - padding], per group; transposed ones scatter
    where these gather.

    Args:
        x: (B, C, h, w), padded with zeros by the case's padding.
        weight: as torch lays it out.
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
    """The rows and columns that tap (i, j) touches."""
    starts = (i * case.dilation[0], j * case.dilation[1])
    rows, columns = (slice(at, at + span, step) for at, span, step in zip(starts, spans, case.stride))
    return rows, columns


@dataclass(frozen=True)
class _Truth:
    """Float64 input (B, C, h, w), weight, and gradient of the output, with the output and gradients they give."""

    x: Tensor
    weight: Tensor
    gradient: Tensor
    values: tuple[Tensor, Tensor, Tensor]


def _truth(case: ConvCase, device: torch.device) -> _Truth:
    """Inputs from a generator of their own, and what is right in float64 by the definition."""
    generator = torch.Generator().manual_seed(0)
    # float64 is missing on some accelerators (Apple's): there the truth is computed on the CPU.
    place = device if device.type in ("cpu", "cuda") else torch.device("cpu")

    def normal(*shape: int) -> Tensor:
        # Rounded to bf16, which the other precisions hold exactly: what is compared is then arithmetic alone.
        return torch.randn(*shape, generator=generator).bfloat16().to(place, torch.float64)

    x = normal(case.batch, case.in_channels, *case.size).requires_grad_()
    ends = (case.in_channels, case.out_channels) if case.transposed else (case.out_channels, case.in_channels)
    weight = normal(ends[0], ends[1] // case.groups, *case.kernel).requires_grad_()
    with torch.enable_grad(), torch.autocast(place.type, enabled=False):
        y = definition(case, x, weight)
        gradient = normal(*y.shape)
        x_gradient, weight_gradient = torch.autograd.grad(y, (x, weight), gradient)
    return _Truth(x.detach(), weight.detach(), gradient, (y.detach(), x_gradient, weight_gradient))


def _run(
    case: ConvCase, truth: _Truth, device: torch.device, precision: str, channels_last: bool, convolve: Convolve
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients as a training step computes them: fp32 leaves, autocast, the layout asked for."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, weight = (
        t.to(device, torch.float32).contiguous(memory_format=layout).requires_grad_() for t in (truth.x, truth.weight)
    )
    dtype = DTYPES[precision]
    with torch.enable_grad():
        with torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32"):
            y = convolve(case, x, weight)
        # In a network the gradient comes back in the output's layout, from a neighbour that works in it.
        gradient = truth.gradient.to(device, y.dtype).contiguous(memory_format=layout)
        x_gradient, weight_gradient = torch.autograd.grad(y, (x, weight), gradient)
    return y.detach(), x_gradient, weight_gradient


def relative_error(value: Tensor, truth: Tensor) -> float:
    """‖value - truth‖ / ‖truth‖ in float64; infinity or NaN if the value has such entries."""
    value = value.to(truth.device).double()
    return float((value - truth).norm() / truth.norm().clamp_min(torch.finfo(torch.float64).tiny))


def _measure(
    case: ConvCase, truth: _Truth, device: torch.device, precision: Precision, channels_last: bool, convolve: Convolve
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
    """Findings that need not be made twice: in this process, and in a JSON file where one is given.

    What was found holds for one torch, device, number of threads and set of switches; all are part of the name under
    which it is kept. A file that cannot be read or written is as good as none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = _read(path) if path else {}
        self._fresh = False
        self._truths: dict[tuple[ConvCase, torch.device], _Truth] = {}

    def truth(self, case: ConvCase, device: torch.device) -> _Truth:
        """Inputs of a case and what is right for them; kept for the next combination."""
        if (case, device) not in self._truths:
            self._truths[case, device] = _truth(case, device)
        return self._truths[case, device]

    def get(self, name: str) -> dict[str, Any] | None:
        """What is known under a name, here or in the process."""
        return _PROCESS.get(name) or self._known.get(name)

    def put(self, name: str, finding: dict[str, Any]) -> None:
        """Keep a finding, in the process and for the next `save`."""
        _PROCESS[name] = self._known[name] = finding
        self._fresh = True

    def save(self) -> None:
        """Write the file atomically, with what others have written meanwhile. Does nothing without news or a path."""
        if self.path is None or not self._fresh:
            return
        with suppress(OSError):
            write_atomic(self.path, json.dumps({**_read(self.path), **self._known}, sort_keys=True, indent=0))
            self._fresh = False


_PROCESS: dict[str, dict[str, Any]] = {}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The file of a cache; nothing if it is missing or damaged."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _machine(device: torch.device) -> str:
    """All besides the case that the result may depend on, in one text."""
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

    Large ones are compared at the size given by `capped`. The inputs come from a generator of their own: the global
    random state is left alone.

    Args:
        cases: what to compare.
        device, precision, channels_last: where and how it would be trained.
        cache: known findings are taken from it and new ones put into it; the process's own by default.
        convolve: what to compare, in place of torch's own kernels; its findings are never cached.
    """
    cache = cache if cache is not None else Cache()
    own = convolve is torch_convolve
    machine = _machine(device)
    findings = []
    for case in dict.fromkeys(capped(case, device) for case in cases):
        name = f"{machine} | {combination(precision, channels_last)} | {json.dumps(asdict(case), sort_keys=True)}"
        known = cache.get(name) if own else None
        if known is None or known.get("tolerance") != tolerance(precision, device):
            found = _measure(case, cache.truth(case, device), device, precision, channels_last, convolve)
            if own:
                cache.put(name, _stored(found))
        else:
            found = Finding(case, precision, channels_last, **known)
        findings.append(found)
    if own:
        cache.save()
    return findings


def _stored(finding: Finding) -> dict[str, Any]:
    """The part of a finding that is not in its name."""
    names = ("forward", "input_gradient", "weight_gradient", "tolerance", "error")
    return {name: getattr(finding, name) for name in names}


def choose(
    network: nn.Module,
    size: tuple[int, int],
    batch: int,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    cache: Path | None = None,
    run: Callable[[], object] | None = None,
    convolve: Convolve = torch_convolve,
) -> Decision:
    """The combination to train in: the one asked for, or the next in which every convolution is right.

    The next ones are, in this order: the same precision in the other layout, fp32 in the layout asked for, fp32 in the
    other.

    Args:
        network: what is to be trained, on any device; it is left as it is.
        size: (H, W) of the images of a training step.
        batch: how many there are.
        device, precision, channels_last: what is asked for.
        cache: JSON file in which findings are kept, so that a sweep makes them once.
        run, convolve: see `distinct_convolutions` and `check`.

    Raises:
        StageFailed: no combination is right.
    """
    cases = distinct_convolutions(network, size, batch, run)
    store = Cache(cache)
    order: list[tuple[Precision, bool]] = [
        (precision, channels_last),
        (precision, not channels_last),
        ("fp32", channels_last),
        ("fp32", not channels_last),
    ]
    findings: list[Finding] = []
    faults: list[list[Finding]] = []
    for kind, last in dict.fromkeys(order):
        found = check(cases, device, kind, last, store, convolve)
        findings += found
        wrong = [finding for finding in found if not finding.right]
        if not wrong:
            return Decision(kind, last, _note(faults, kind, last, device), tuple(findings))
        faults.append(wrong)
    raise StageFailed(
        f"no precision and memory layout gives right convolutions on {device_name(device)}: {faults[-1][0]}",
        "`harness doctor --numerics` prints all that was compared; another version of torch may help",
    )


def _note(faults: list[list[Finding]], precision: str, channels_last: bool, device: torch.device) -> str:
    """One sentence on what was wrong and what is used instead; empty if nothing was."""
    if not faults:
        return ""
    asked = faults[0]
    finding = max(asked, key=lambda f: math.inf if f.error or not math.isfinite(_worst(f)) else _worst(f))
    what = f"cannot run ({finding.error})" if finding.error else f"gives a wrong {' and '.join(finding.wrong)}"
    size = "" if finding.error else f" (relative error {_worst(finding):.1e})"
    more = f", and {len(asked) - 1} more convolutions" if len(asked) > 1 else ""
    also = "".join(f"; {combination(w[0].precision, w[0].channels_last)} is wrong too" for w in faults[1:])
    first = combination(asked[0].precision, asked[0].channels_last)
    return (
        f"trained in {combination(precision, channels_last)}, because {first} {what}{size} for {finding.case}{more}"
        f" on {device_name(device)}{also}"
    )


def _worst(finding: Finding) -> float:
    """The largest error; NaN if any is."""
    errors = list(finding.errors.values())
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)


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
"""Kinds of convolution that segmentation networks are made of."""


def table(
    device: torch.device,
    precisions: Sequence[Precision] = ("fp32", "bf16", "fp16"),
    layouts: Sequence[bool] = (False, True),
    cases: Sequence[ConvCase] = TABLE,
    cache: Path | None = None,
) -> list[Finding]:
    """Every kind of convolution at every precision and layout: what `harness doctor --numerics` prints.

    Findings come case by case, precisions within, layouts (contiguous, channels_last) innermost.
    """
    store = Cache(cache)
    return [
        finding
        for case in cases
        for precision in precisions
        for channels_last in layouts
        for finding in check([case], device, precision, channels_last, store)
    ]
