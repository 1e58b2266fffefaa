"""What methods remember of a teacher's maps changes no bit of any term or gradient, whoever asked first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.builders.distiller import Distiller
from harness.conformance.cases import Case
from harness.conformance.method_under_test import MethodUnderTest, total_of, values_of
from harness.plugins.registries import METHODS
from harness.training.teacher import TeacherMaps
from harness.training.timing import Piece
from methods.base import Maps, Step

NAMES = [name for name in METHODS.names() if METHODS.get(name).terms and METHODS.get(name).needs_teacher]
ASK_NOTHING = {"pixel_kd", "dsd"}


def remembering(maps: Maps) -> TeacherMaps:
    return TeacherMaps(maps.logits, maps.last, tuple(maps.features), Piece(torch.device("cpu")))


def outcome(built: Distiller, step: Step) -> dict[str, Tensor]:
    """Every term, and every gradient of the adapters and of the student's maps."""
    student = step.student
    tensors = [student.logits, student.last, *student.features]
    for tensor in tensors:
        tensor.grad = None
    values = values_of(built, step)
    total_of(built, values).backward()  # type: ignore[no-untyped-call]
    found = {f"term {name}": value.detach() for name, value in values.items()}
    named = [*built.named_parameters(), *((f"map {i}", tensor) for i, tensor in enumerate(tensors))]
    return found | {name: tensor.grad.clone() for name, tensor in named if tensor.grad is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", NAMES)
def test_remembering_changes_nothing(name: str) -> None:
    subject = MethodUnderTest(METHODS.get(name))
    for case in subject.cases:
        _compare(subject, case)


def _compare(subject: MethodUnderTest, case: Case) -> None:
    step = subject.step(case, dtype=torch.float32)
    assert step.teacher is not None
    shared = remembering(step.teacher)
    first = subject.build(subject.full, case, torch.float32, seed=1)
    translators = [method.translator for method in first._methods()]
    for seed in (1, 5):
        # Students of one cohort share the translator, and have adapters of their own.
        built = [subject.build(subject.full, case, torch.float32, seed) for _ in range(2)]
        for each in built:
            for method, translator in zip(each._methods(), translators, strict=True):
                method._translator = (translator,)
        alone = outcome(built[0], step)
        together = outcome(built[1], replace(step, teacher=shared))
        assert same(alone, together), case.label
    assert shared.intact()
    assert bool(shared.asked) is (subject.cls.name not in ASK_NOTHING)
