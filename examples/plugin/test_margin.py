"""The installed package registers its method, and the method keeps to what is asked of every method."""

from dataclasses import replace

import torch

from harness.builders.distiller import build_distiller
from harness.builders.expression import resolve
from harness.conformance import CASES, check, random_step
from harness.plugins.registries import METHODS


def test_the_package_registers_it() -> None:
    assert METHODS.entry("margin").origin == "package harness-method-margin"


def test_it_conforms() -> None:
    assert [result for result in check("margin") if result.outcome == "fail"] == []


def test_a_shift_of_all_scores_changes_no_margin() -> None:
    case = CASES[2]
    step = random_step(case)
    method = build_distiller(resolve("margin")[0], case.student, case.teacher)
    same = replace(step, student=replace(step.teacher, logits=step.teacher.logits + 3))
    value, _ = method(same)["margin.margin"]
    torch.testing.assert_close(value, torch.zeros_like(value))
