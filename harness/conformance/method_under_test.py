"""The method under test: ways to build and call it, and exceptions for the results of a property."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.builders.distiller import Distiller, build_distiller, build_translator, skip_reason, translator_specs
from harness.builders.expression import combine, validated
from harness.conformance.cases import CASES, Case, random_step
from harness.plugins.registries import METHODS
from harness.plugins.validation import checked_weights
from harness.specs.spec import MethodPart, MethodSpec
from harness.training.randomness import seed_all
from methods.base import Method, Sizes, Step, Translator


class PropertyViolated(AssertionError):
    """A property does not hold; the message says how."""


class NotApplicable(Exception):
    """A property does not apply to this method; the message says why."""


@dataclass
class MethodUnderTest:
    """A method class, with ways to build and call it."""

    cls: type[Method]
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the current property could not test."""

    @cached_property
    def full(self) -> MethodSpec:
        """The method with every term active; terms without a default weight get weight 1."""
        return self.spec(tuple(self.cls.terms))

    def spec(self, terms: Sequence[str], params: Mapping[str, Any] | None = None) -> MethodSpec:
        """The method with these terms active."""
        values = validated(self.cls, dict(params or {}))
        weights = checked_weights(self.cls, values)
        part = MethodPart(
            name=self.cls.name,
            version=self.cls.version,
            params=values.model_dump(mode="json"),
            weights={term: float(weights[term]) or 1.0 for term in self.cls.terms if term in terms},
            source=METHODS.entry(self.cls.name).source,
        )
        return combine([part])

    @cached_property
    def subsets(self) -> list[tuple[str, ...]]:
        """Sets of active terms: all subsets if there are few, otherwise single terms and all but one."""
        terms = tuple(self.cls.terms)
        counts = range(1, len(terms)) if len(terms) <= 4 else (1, len(terms) - 1)
        return [chosen for count in counts for chosen in itertools.combinations(terms, count)]

    @cached_property
    def cases(self) -> list[Case]:
        """The cases that the method accepts."""
        fitting = []
        self.refusals.clear()
        for case in CASES:
            reason = skip_reason(self.full, case.student, self.teacher(case))
            if reason:
                self.refusals.append(f"{case.label}: {reason}")
            else:
                fitting.append(case)
        if not fitting:
            raise PropertyViolated(f"it fits no case: {'; '.join(self.refusals)}")
        return fitting

    @property
    def left_out(self) -> str:
        """The cases that could not be tested, with reasons; "" if all were."""
        if not self.refusals:
            return ""
        return f"on {len(CASES) - len(self.refusals)} of {len(CASES)} cases; not on {'; '.join(self.refusals)}"

    def teacher(self, case: Case) -> Sizes | None:
        """The case's teacher; None for a method that needs none."""
        return case.teacher if self.cls.needs_teacher else None

    def build(self, spec: MethodSpec, case: Case, dtype: torch.dtype = torch.float64, seed: int = 1) -> Distiller:
        """The method in training mode, with untrained translators if it needs any."""
        teacher = self.teacher(case)
        translators: dict[str, Translator] = {}
        if teacher is not None:
            wanted = translator_specs(spec, case.student, teacher)
            translators = {name: build_translator(item, teacher, seed=2) for name, item in wanted.items()}
        return build_distiller(spec, case.student, teacher, translators, seed).to(dtype).train()

    def step(
        self,
        case: Case,
        seed: int = 0,
        labels: str = "blocks",
        dtype: torch.dtype = torch.float64,
        iteration: int = 0,
    ) -> Step:
        """A step of the case, without a teacher for a method that needs none."""
        step = random_step(case, seed, labels, dtype, iteration)
        return step if self.cls.needs_teacher else replace(step, teacher=None)


def values_of(built: Distiller, step: Step, seed: int = 3) -> dict[str, Tensor]:
    """The terms by name, computed under a seed as in training."""
    seed_all(seed, "method")
    return {name.split(".", 1)[1]: value for name, (value, _) in built(step).items()}


def total_of(built: Distiller, values: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the terms."""
    weights = {name.split(".", 1)[1]: weight for name, weight in built.weights.items()}
    return torch.stack([weights[name] * value.double() for name, value in values.items()]).sum()


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def some_terms(subject: MethodUnderTest) -> None:
    if not subject.cls.terms:
        raise NotApplicable("the method has no terms")


def discriminator_parameters(built: Distiller) -> set[int]:
    return {id(p) for _, module in built.discriminators() for p in module.parameters()}


def expect_close(found: float, expected: float, tolerance: float, what: str) -> None:
    if not math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-3):
        raise PropertyViolated(f"{what} is {found:.8g}, expected {expected:.8g} within {tolerance:g}")
