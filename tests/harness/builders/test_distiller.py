"""The parts of an expression as one module."""

from __future__ import annotations

import pytest
import torch

from harness.builders.distiller import (
    Distiller,
    build_distiller,
    build_translator,
    detached,
    needs_teacher,
    reads,
    skip_reason,
    translator_specs,
)
from harness.builders.expression import resolve
from harness.conformance import CASES, random_step
from harness.errors import HarnessError

CASE = CASES[2]


def built(expression: str, seed: int = 0) -> Distiller:
    spec = resolve(expression)[0]
    wanted = translator_specs(spec, CASE.student, CASE.teacher)
    translators = {name: build_translator(item, CASE.teacher, seed=7) for name, item in wanted.items()}
    return build_distiller(spec, CASE.student, CASE.teacher, translators, seed).double()


def test_terms_carry_method_name_and_weight() -> None:
    method = built("ka[beta=10]+kd[tau=4]")
    found = method(random_step(CASE))
    assert {name: weight for name, (_, weight) in found.items()} == method.weights
    assert method.weights == {"ka.adapt": 10.0, "ka.affinity": 1.0, "kd.kd": 1.0}
    assert method.needs_teacher and method.reads == {"last", "logits", "labels"}


def test_none_has_nothing() -> None:
    method = built("none")
    assert method(random_step(CASE)) == {} and method.weights == {} and method.discriminators() == []
    assert not method.needs_teacher and list(method.state_dict()) == []
    assert not needs_teacher(resolve("none")[0]) and reads(resolve("none")[0]) == frozenset()


def test_first_weights_depend_on_seed_and_part_alone() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    alone = built("ka").state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    together = built("ka+fitnet").state_dict()
    assert all(torch.equal(alone[name], together[name]) for name in alone)
    other = built("ka", seed=1).state_dict()
    assert any(not torch.equal(alone[name], other[name]) for name in alone)


def test_a_sum_computes_what_its_parts_compute() -> None:
    step = random_step(CASE)
    together = built("ka+kd+at")(step)
    separate = {**built("ka")(step), **built("kd")(step), **built("at")(step)}
    assert set(together) == set(separate)
    for name, (value, weight) in separate.items():
        torch.testing.assert_close(together[name][0], value, rtol=1e-12, atol=0)
        assert together[name][1] == weight


def test_a_translator_is_frozen_moves_along_and_is_not_saved() -> None:
    method = built("ka").train()
    translator = method.method("ka").translator
    assert translator is not None and not translator.training
    assert {p.dtype for p in translator.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in translator.parameters())
    own = {id(p) for p in translator.parameters()}
    assert own.isdisjoint(id(p) for p in method.parameters())
    assert not any("translator" in name for name in method.state_dict())


def test_equal_translators_of_several_strides_are_one() -> None:
    spec = resolve("ka")[0]
    wanted = [translator_specs(spec, case.student, case.teacher)["ka"] for case in CASES[:2]]
    assert wanted[0] == wanted[1]
    assert translator_specs(resolve("kd")[0], CASE.student, CASE.teacher) == {}


def test_the_discriminator_sees_a_student_without_a_graph() -> None:
    method = built("skd.holistic")
    ((owner, discriminator),) = method.discriminators()
    assert owner.name == "skd"
    step = random_step(CASE)
    method.discriminator_loss(discriminator, step).backward()
    assert all(t.grad is None for t in step.student.tensors())
    assert any(p.grad is not None for p in discriminator.parameters())
    with pytest.raises(KeyError):
        method.discriminator_loss(torch.nn.Linear(1, 1), step)
    assert built("skd-holistic").discriminators() == []


def test_detached_maps_hold_the_same_values() -> None:
    student = random_step(CASE).student
    separate = detached(student)
    assert torch.equal(separate.logits, student.logits) and not separate.logits.requires_grad
    assert len(separate.features) == len(student.features)


def test_what_does_not_fit_is_said_and_refused() -> None:
    spec = resolve("kd")[0]
    assert skip_reason(spec, CASE.student, None) == "kd needs a teacher"
    with pytest.raises(HarnessError, match="method kd does not fit: kd needs a teacher"):
        build_distiller(spec, CASE.student, None)
    assert skip_reason(resolve("none")[0], CASE.student, None) is None
