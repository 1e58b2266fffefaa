"""Conformance suite of distillation methods, on random maps. Authors of plugins run it by `harness check-method`.

Nothing is trained and no data set is read: maps are random tensors with the sizes of networks at various output
strides, so the check of a method takes a second or two.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from harness.conformance.cases import CASES, Case, random_step
from harness.conformance.method_under_test import MethodUnderTest, NotApplicable, PropertyViolated
from harness.conformance.properties import PROPERTIES, Property
from harness.errors import HarnessError
from harness.plugins.registries import METHODS

EXCLUSIONS: Mapping[tuple[str, str], str] = {}
"""(method, property) -> why a built-in method is exempt. The only place for exceptions."""


@dataclass(frozen=True)
class Result:
    """The result for one property.

    Attributes:
        reason: why it failed or does not apply; for a pass, what could not be tested.
    """

    property: str
    outcome: Literal["pass", "fail", "skip"]
    reason: str = ""


def check(name: str, only: Sequence[str] = ()) -> list[Result]:
    """Check a registered method against all properties, or some.

    Raises:
        HarnessError: unknown method or property.
    """
    unknown = sorted(set(only) - {p.name for p in PROPERTIES})
    if unknown:
        raise HarnessError(f"there is no property '{unknown[0]}'", f"known: {', '.join(p.name for p in PROPERTIES)}")
    subject = MethodUnderTest(METHODS.get(name))
    return [run_property(p, subject) for p in PROPERTIES if not only or p.name in only]


def run_property(item: Property, subject: MethodUnderTest) -> Result:
    """Check one property of one method; errors of the method become results."""
    excused = EXCLUSIONS.get((subject.cls.name, item.name))
    if excused:
        return Result(item.name, "skip", excused)
    subject.notes.clear()
    state, pythons, numpys = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        item.check(subject)
    except NotApplicable as reason:
        return Result(item.name, "skip", str(reason))
    except (PropertyViolated, HarnessError) as reason:
        return Result(item.name, "fail", str(reason))
    except SystemExit as error:
        return Result(item.name, "fail", f"it ends the program (SystemExit: {error}): raise an error instead")
    except Exception as error:
        return Result(item.name, "fail", f"{type(error).__name__}: {error}")
    finally:
        torch.random.set_rng_state(state)
        random.setstate(pythons)
        np.random.set_state(numpys)
    return Result(item.name, "pass", "; ".join(filter(None, (subject.left_out, *subject.notes))))


__all__ = [
    "CASES",
    "EXCLUSIONS",
    "PROPERTIES",
    "Case",
    "Result",
    "MethodUnderTest",
    "check",
    "random_step",
    "run_property",
]
