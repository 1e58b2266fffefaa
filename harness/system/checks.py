"""One finding about a machine, as `harness doctor` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "info"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        area: what it belongs to: "packages", "scheduler", ...
        name: what it is.
        status: "fail" only for what the harness cannot work without; "info" for what is optional and absent.
        found: what was found.
        remedy: what to do; empty when nothing is to be done.
    """

    area: str
    name: str
    status: Status
    found: str
    remedy: str = ""
