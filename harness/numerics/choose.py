"""Choose the precision and memory layout in which a network is trained: the requested one if it is right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.errors import StageFailed
from harness.numerics.check import Cache, Finding, check, combination
from harness.numerics.convolutions import ConvCase, Convolve, count_convolutions, torch_convolve
from harness.numerics.dense import has_large_weight
from harness.numerics.kernels import counting_own, has_own_gradients, own_convolve, use_own_kernels
from harness.numerics.pointwise import is_pointwise
from harness.specs.spec import Precision
from harness.system.devices import device_name


@dataclass(frozen=True)
class Decision:
    """The precision, layout and kernels with which a stage is trained.

    Attributes:
        precision, channels_last: the combination to use, in which every convolution of the network is right.
        note: why it differs from the requested combination; empty if it does not.
        findings: all findings, those of the requested combination first.
        kernels: which convolutions use the harness's own kernels, and whether torch's are wrong; empty if none does.
            `apply` installs them.
    """

    precision: Precision
    channels_last: bool
    note: str
    findings: tuple[Finding, ...]
    kernels: str = ""

    def apply(self, module: nn.Module) -> None:
        """Install the chosen kernels in what is to be trained: a network, or an objective with its adapters."""
        if self.kernels:
            use_own_kernels(module)


def choose_numerics(
    network: nn.Module,
    size: tuple[int, int],
    batch: int,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    cache: Path | None = None,
    run: Callable[[], object] | None = None,
    convolve: Convolve | None = None,
) -> Decision:
    """Choose the combination to train in: the requested one, or the next in which every convolution is right.

    The order is: the same precision in the other layout, fp32 in the requested layout, fp32 in the other. On a CPU,
    convolutions use the harness's own kernels in each (`harness.numerics.kernels`), or torch's where those are wrong.

    Args:
        network: the network to train, on any device; it is not modified.
        size: (H, W) of the images of a training step.
        batch: number of images of a training step.
        device, precision, channels_last: the requested combination.
        cache: JSON file of findings, so that a sweep makes each once.
        run: see `count_convolutions`.
        convolve: implementation of all convolutions, instead of those described above.

    Raises:
        StageFailed: no combination is right.
    """
    with counting_own(network, batch) as own:
        counts = count_convolutions(network, size, batch, run)
    cases = sorted(counts)
    # A convolution that also runs outside a replaceable module uses torch's gradients there, so those are checked too.
    others = [case for case in cases if counts[case] > own[case]]
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
        if own and convolve is None and device.type == "cpu":
            found = check(others, device, kind, last, store) + check(own, device, kind, last, store, own_convolve)
            findings += found
            wrong = [finding for finding in found if not finding.right]
            if not wrong:
                torchs = check(filter(has_own_gradients, own), device, kind, last, store)
                kernels = "; ".join(filter(None, (_gradients(torchs, own), *_in_fp32(own, kind, last))))
                return Decision(kind, last, _note(faults, kind, last, device), tuple(findings), kernels)
        found = check(cases, device, kind, last, store, convolve or torch_convolve)
        findings += found
        wrong = [finding for finding in found if not finding.right]
        if not wrong:
            return Decision(kind, last, _note(faults, kind, last, device), tuple(findings))
        faults.append(wrong)
    raise StageFailed(
        f"no precision and memory layout gives right convolutions on {device_name(device)}: {faults[-1][0]}",
        "`harness doctor --numerics` prints all comparisons; another version of torch may help",
    )


def _count(own: Counter[ConvCase], kind: Callable[[ConvCase], bool], what: str) -> str:
    """A number of convolutions, in words; empty if there are none."""
    count = sum(number for case, number in own.items() if kind(case))
    return f"{count} {what}{'' if count == 1 else 's'}" if count else ""


def _in_fp32(own: Counter[ConvCase], precision: str, channels_last: bool) -> list[str]:
    """Messages on kernels that differ from torch's in fp32 only: 1x1 convolutions, weight gradients of large ones."""
    points = _count(own, is_pointwise, "1x1 convolution")
    large = _count(own, has_large_weight, "large dense convolution")
    found = [f"oneDNN for {points}"] if points else []
    found += [f"own weight gradients of {large}"] if large and channels_last else []
    return found if precision == "fp32" else []


def _gradients(torchs: Sequence[Finding], own: Counter[ConvCase]) -> str:
    """A message on how many convolutions use the harness's own gradients, and on torch's for them."""
    count = _count(own, has_own_gradients, "dilated depthwise convolution")
    if not count:
        return ""
    note = f"own gradients of {count}"
    wrong = [finding for finding in torchs if not finding.right]
    if not wrong:
        return note
    worst = max(wrong, key=_severity)
    what = f"cannot run ({worst.error})" if worst.error else f"{' and '.join(worst.wrong)} is wrong"
    size = "" if worst.error else f" (relative error {_worst(worst):.1e})"
    return f"{note}: torch's {what} in {combination(worst.precision, worst.channels_last)}{size}"


def _note(faults: list[list[Finding]], precision: str, channels_last: bool, device: torch.device) -> str:
    """A message on what is wrong and what is used instead; empty if nothing is wrong."""
    if not faults:
        return ""
    asked = faults[0]
    finding = max(asked, key=_severity)
    what = f"cannot run ({finding.error})" if finding.error else f"gives a wrong {' and '.join(finding.wrong)}"
    size = "" if finding.error else f" (relative error {_worst(finding):.1e})"
    more = f", and {len(asked) - 1} more convolutions" if len(asked) > 1 else ""
    also = "".join(f"; {combination(w[0].precision, w[0].channels_last)} is wrong too" for w in faults[1:])
    first = combination(asked[0].precision, asked[0].channels_last)
    return (
        f"trained in {combination(precision, channels_last)}, because {first} {what}{size} for {finding.case}{more}"
        f" on {device_name(device)}{also}"
    )


def _severity(finding: Finding) -> float:
    worst = _worst(finding)
    return math.inf if finding.error or not math.isfinite(worst) else worst


def _worst(finding: Finding) -> float:
    """The largest error; NaN if any is."""
    errors = list(finding.errors.values())
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)
