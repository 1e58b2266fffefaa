"""Check that a method's cost grows as declared, by counting the outputs of every operator at two input sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.builders.distiller import skip_reason
from harness.conformance.cases import LARGE, SMALL, Case, sizes
from harness.conformance.method_under_test import (
    MethodUnderTest,
    NotApplicable,
    PropertyViolated,
    backward,
    some_terms,
    total_of,
    values_of,
)
from harness.plugins.validation import growth_of
from methods.base import Sizes

STRIDES = ((8, 8), (16, 8), (8, 16), (4, 8), (4, 4), (16, 16))
"""Candidate strides of student and teacher; the first that fit are used."""

GROWTH = 4.0
"""Ratio of positions between the larger and the smaller size."""


def linear_cost(subject: MethodUnderTest) -> None:
    """For declared linear cost, no tensor and no operator's total output grows faster than the number of positions."""
    some_terms(subject)
    if growth_of(subject.cls.cost) != "linear":
        raise NotApplicable(f"declared: {subject.cls.cost}")
    student, teacher = _fitting(subject)
    counts = []
    for side in (160, 320):
        case = Case("cost", student, teacher, 1, (side, side))
        built, step = subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32)
        with _Counting() as seen:
            backward(total_of(built, values_of(built, step)))
        counts.append(seen.calls)
    for name, small, large in (*_pairs(*counts), *_totals(*counts)):
        if large > 1.5 * GROWTH * small and large > 4096:
            raise PropertyViolated(
                f"{name} computes {small} values at 160×160 pixels and {large} at 320×320: {large / small:.1f} times "
                f"as many for {GROWTH:g} times the positions; correct the declared `cost`"
            )


def _fitting(subject: MethodUnderTest) -> tuple[Sizes, Sizes]:
    """Sizes of networks that the method fits, at the lowest output strides possible."""
    for ours, theirs in STRIDES:
        case = Case("cost", sizes(ours, SMALL, 14), sizes(theirs, LARGE, 20), 1, (160, 160))
        if not skip_reason(subject.full, case.student, subject.teacher(case)):
            return case.student, case.teacher
    raise NotApplicable(f"it fits no pair of networks of strides {STRIDES} at which its cost could be counted")


Calls = list[tuple[str, int]]


def _pairs(small: Calls, large: Calls) -> Iterator[tuple[str, int, int]]:
    """The same call at both sizes where the sequences agree, otherwise the largest call of each operator."""
    if [name for name, _ in small] == [name for name, _ in large]:
        yield from ((a, m, n) for (a, m), (_, n) in zip(small, large, strict=True))
        return
    for operator in sorted({name for name, _ in large}):
        numbers = [max((n for name, n in calls if name == operator), default=1) for calls in (small, large)]
        yield operator, numbers[0], numbers[1]


def _totals(small: Calls, large: Calls) -> Iterator[tuple[str, int, int]]:
    """All calls of each operator summed, since a quadratic cost computed in blocks or rows has no large tensor."""
    for operator in sorted({name for name, _ in large}):
        numbers = [sum(n for name, n in calls if name == operator) for calls in (small, large)]
        yield f"{operator}, over all calls,", max(numbers[0], 1), numbers[1]


class _Counting(TorchDispatchMode):
    """Records the number of elements of the largest result of every operator call."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Calls = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # A view of few values, such as an expanded scalar, costs nothing.
        made = [_stored(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.calls.append((str(func), max(made, default=0)))
        return result


def _stored(tensor: Tensor) -> int:
    """The number of stored elements of a tensor: axes of stride 0 repeat values."""
    return math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)
