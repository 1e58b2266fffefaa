"""How a sweep's students are grouped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.errors import HarnessError
from harness.planning.cohorts import make_cohorts, unlike
from harness.planning.estimate import StepTime
from harness.planning.plan import Plan, make_plan
from tests.end_to_end.tiny import tiny_sweep


def plan_of(**changes: object) -> Plan:
    return make_plan(tiny_sweep(methods=("none", "kd", "at", "ka", "cwd"), strides=(8, 16), **changes))


def grouped(plan: Plan, choice: str = "auto", slots: int = 1, done: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Cohorts of students, by the keys of those to do."""
    keys = [key for key, node in plan.nodes.items() if node.spec.kind not in done]
    cohorts = make_cohorts(plan, keys, choice, slots)
    assert sorted(key for cohort in cohorts for key in cohort) == sorted(keys)
    return [cohort for cohort in cohorts if plan.nodes[cohort[0]].spec.kind == "student"]


def sizes(plan: Plan, *args: object, **kwargs: object) -> list[int]:
    return [len(cohort) for cohort in grouped(plan, *args, **kwargs)]  # type: ignore[arg-type]


def test_one_place_makes_one_cohort_and_teachers_run_alone() -> None:
    plan = plan_of()
    assert sizes(plan) == [10]
    kinds = [{plan.nodes[key].spec.kind for key in cohort} for cohort in make_cohorts(plan, list(plan.nodes))]
    assert kinds == [{"teacher"}, {"translator"}, {"student"}]


def test_two_places_and_ten_students_make_two_cohorts_of_about_equal_cost() -> None:
    found = sizes(plan_of(), slots=2, done=("teacher", "translator"))
    assert len(found) == 2 and sum(found) == 10 and min(found) >= 3


def test_students_without_a_teacher_do_not_wait_for_it_when_another_place_is_free() -> None:
    plan = plan_of()
    others = [cohort for cohort in grouped(plan, slots=2) if any(not plan.nodes[key].parents for key in cohort)]
    assert all(not plan.nodes[key].parents for cohort in others for key in cohort)


def test_those_that_wait_for_a_translator_are_together() -> None:
    plan = plan_of()
    waiting = [key for key, node in plan.nodes.items() if node.spec.kind == "student" and len(node.parents) == 2]
    cohorts = [set(cohort) for cohort in grouped(plan, slots=2)]
    assert len(waiting) == 2 and sum(bool(cohort & set(waiting)) for cohort in cohorts) == 1


@pytest.mark.parametrize(("choice", "expected"), [("off", [1] * 10), ("4", [4, 4, 2]), ("100", [10])])
def test_the_user_may_say_how_many(choice: str, expected: list[int]) -> None:
    found = sizes(plan_of(), choice, done=("teacher", "translator"))
    assert max(found) == max(expected) and sum(found) == 10 and (choice == "4" or found == expected)


def test_a_word_that_is_no_choice() -> None:
    with pytest.raises(HarnessError, match="--cohort many is not auto, off or a whole number from 1 to 1024"):
        grouped(plan_of(), "many")


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"seeds": (0, 1)}, 2),
        ({"teachers": ("timm:test_resnet/linear@8", "timm:test_resnet/linear@16")}, 2),
        ({"students": ("timm:test_efficientnet", "timm:mobilenetv2_100")}, 1),
        ({"students": ("timm:test_efficientnet", "timm:test_resnet")}, 2),
    ],
)
def test_what_differs_is_apart(changes: dict[str, object], count: int) -> None:
    plan = plan_of(**changes)
    cohorts = grouped(plan, "100", done=("teacher", "translator"))
    assert len(cohorts) == count
    for cohort in cohorts:
        assert not unlike([plan.nodes[key].spec for key in cohort])


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed"), ({"recipe": {"batch_size": 3}}, "batch_size"), ({"kind": "teacher"}, "a teacher")],
)
def test_stages_that_cannot_be_trained_together_say_why(change: dict[str, object], named: str) -> None:
    plan = plan_of()
    spec = plan.nodes[grouped(plan)[0][0]].spec
    values = {**spec.model_dump(), **change}
    if "recipe" in change:
        values["recipe"] = {**spec.recipe.model_dump(), **change["recipe"]}  # type: ignore[dict-item]
    assert named in unlike([spec, type(spec).model_validate(values)])
    assert not unlike([spec])


def test_an_own_optimiser_schedule_and_evaluation_separate_nobody() -> None:
    plan = plan_of()
    spec = plan.nodes[grouped(plan)[0][0]].spec
    recipe = {**spec.recipe.model_dump(), "optimizer": {"lr": 1.0}, "validate_every": 7, "eval_size": (8, 8)}
    other = type(spec).model_validate({**spec.model_dump(), "recipe": recipe})
    assert not unlike([spec, other])


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_cohorts_that_do_not_fit_are_halved_until_they_do(most: int) -> None:
    plan = plan_of()
    keys = list(plan.nodes)
    asked: list[int] = []

    def fits(students: Sequence[str]) -> bool:
        asked.append(len(students))
        return len(students) <= most

    cohorts = make_cohorts(plan, keys, fits=fits)
    assert sorted(key for cohort in cohorts for key in cohort) == sorted(keys)
    assert max(map(len, cohorts)) <= most and min(asked) > 1, "one student is never asked about"
    assert len([cohort for cohort in cohorts if plan.nodes[cohort[0]].spec.kind == "student"]) <= 2 * -(-10 // most)


def test_measured_times_divide_the_work() -> None:
    """By multiply-adds, stride 8 outweighs stride 16; where a step takes as long, students are divided by number."""
    plan = make_plan(tiny_sweep(methods=("kd", "at", "cwd"), strides=(8, 16)))
    keys = [key for key, node in plan.nodes.items() if node.spec.kind == "student"]
    times = {key: StepTime(own=10.0, teacher=1.0) for key in keys}
    assert [len(cohort) for cohort in make_cohorts(plan, keys, "auto", 2, times=times)] == [3, 3]
    slow = {**times, keys[0]: StepTime(own=50.0, teacher=1.0)}
    assert [len(cohort) for cohort in make_cohorts(plan, keys, "auto", 2, times=slow)] == [1, 5]
    dear = {key: StepTime(own=1.0, teacher=1000.0) for key in keys}
    assert [len(cohort) for cohort in make_cohorts(plan, keys, "auto", 2, times=dear)] == [6]
