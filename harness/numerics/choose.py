"""Which precision and memory layout a network is trained in: the first asked for that is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.errors import StageFailed
from harness.numerics.check import Cache, Finding, check, combination
from harness.numerics.convolutions import Convolve, distinct_convolutions, torch_convolve
from harness.specs.spec import Precision
from harness.system.devices import device_name


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


def choose_numerics(
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
