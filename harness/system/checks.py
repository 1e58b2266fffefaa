"""Findings about a machine, as listed by `harness doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "info"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        area: its topic: "packages", "scheduler", ...
        name: the thing that was checked.
        status: "fail" only if the harness cannot work without it; "info" if it is optional and absent.
        found: the result.
        remedy: what to do; empty if nothing is needed.
    """

    area: str
    name: str
    status: Status
    found: str
    remedy: str = ""
