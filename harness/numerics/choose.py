"""Which precision and memory layout a network is trained in: the first asked for that is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.errors import StageFailed
from harness.numerics.check import Cache, Finding, check, combination
from harness.numerics.convolutions import Convolve, count_convolutions, torch_convolve
from harness.numerics.kernels import counting_own, own_convolve, use_own_gradients
from harness.specs.spec import Precision
from harness.system.devices import device_name


@dataclass(frozen=True)
class Decision:
    """What a stage is trained in.

    Attributes:
        precision, channels_last: the combination to use; every convolution of the network is right in it.
        note: a sentence that says why it is not the one that was asked for; empty when it is.
        findings: all that were made on the way, asked combination first.
        kernels: a sentence that says which convolutions have gradients of our own, and whether torch's are wrong; empty
            when none has. `apply` gives them to the network.
    """

    precision: Precision
    channels_last: bool
    note: str
    findings: tuple[Finding, ...]
    kernels: str = ""

    def apply(self, network: nn.Module) -> None:
        """Give a network that is to be trained the gradients decided on."""
        if self.kernels:
            use_own_gradients(network)


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
    """The combination to train in: the one asked for, or the next in which every convolution is right.

    The next ones are, in this order: the same precision in the other layout, fp32 in the layout asked for, fp32 in the
    other. On a CPU dilated depthwise convolutions have gradients of our own in each of them, or torch's where ours are
    wrong.

    Args:
        network: what is to be trained, on any device; it is left as it is.
        size: (H, W) of the images of a training step.
        batch: how many there are.
        device, precision, channels_last: what is asked for.
        cache: JSON file in which findings are kept, so that a sweep makes them once.
        run: see `count_convolutions`.
        convolve: how every convolution is computed, in place of what is described here.

    Raises:
        StageFailed: no combination is right.
    """
    with counting_own(network, batch) as own:
        counts = count_convolutions(network, size, batch, run)
    cases = sorted(counts)
    # One that also runs elsewhere than in a module that can be given other gradients is trained with torch's as well.
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
                kernels = _kernels(check(own, device, kind, last, store), own.total())
                return Decision(kind, last, _note(faults, kind, last, device), tuple(findings), kernels)
        found = check(cases, device, kind, last, store, convolve or torch_convolve)
        findings += found
        wrong = [finding for finding in found if not finding.right]
        if not wrong:
            return Decision(kind, last, _note(faults, kind, last, device), tuple(findings))
        faults.append(wrong)
    raise StageFailed(
        f"no precision and memory layout gives right convolutions on {device_name(device)}: {faults[-1][0]}",
        "`harness doctor --numerics` prints all that was compared; another version of torch may help",
    )


def _kernels(torchs: Sequence[Finding], count: int) -> str:
    """One sentence on how many convolutions have gradients of our own, and on torch's for them."""
    plural = "" if count == 1 else "s"
    note = f"own gradients of {count} dilated depthwise convolution{plural}"
    wrong = [finding for finding in torchs if not finding.right]
    if not wrong:
        return note
    worst = max(wrong, key=_severity)
    what = f"cannot run ({worst.error})" if worst.error else f"{' and '.join(worst.wrong)} is wrong"
    size = "" if worst.error else f" (relative error {_worst(worst):.1e})"
    return f"{note}: torch's {what} in {combination(worst.precision, worst.channels_last)}{size}"


def _note(faults: list[list[Finding]], precision: str, channels_last: bool, device: torch.device) -> str:
    """One sentence on what was wrong and what is used instead; empty if nothing was."""
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
