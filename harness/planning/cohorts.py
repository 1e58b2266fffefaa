"""Group the students of a sweep into cohorts that are trained in lock-step, for a number of slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.builders.models import model_normalisation
from harness.errors import HarnessError
from harness.planning.estimate import (
    StepTime,
    cohort_time,
    cohort_work,
    evaluation_macs,
    own_macs,
    student_time,
    teacher_macs,
)
from harness.specs.spec import StageSpec, digest

if TYPE_CHECKING:
    from harness.planning.plan import Plan

AUTO_MOST = 16
"""Default maximum of students in a cohort: each keeps its weights and optimiser state in memory."""
LARGEST_COHORT = 1024
"""The largest maximum that may be asked for."""
_EQUAL = ("crop", "batch_size", "iterations", "augment", "precision", "channels_last", "deterministic", "teacher_norm")
"""Fields of a recipe that determine batches, teacher outputs and numerics; they must be equal within a cohort.
Optimiser, schedule and evaluation may differ."""


def shared_part(spec: StageSpec) -> dict[str, Any]:
    """What students of a cohort must have in common, apart from the teacher, which some students do not have."""
    recipe = spec.recipe.model_dump(mode="json")
    return {
        "data set": spec.dataset.model_dump(mode="json"),
        "seed": spec.seed,
        **{name: recipe[name] for name in _EQUAL},
    }


def unlike(specs: Sequence[StageSpec]) -> str:
    """The reason why these stages cannot be trained together; "" if they can."""
    if len(specs) < 2:
        return ""
    if other := next((spec for spec in specs if spec.kind != "student"), None):
        return f"one of them is a {other.kind}"
    first = shared_part(specs[0])
    for spec in specs[1:]:
        for name, value in shared_part(spec).items():
            if value != first[name]:
                return f"they differ in {name}"
    if len({spec.parents["teacher"] for spec in specs if "teacher" in spec.parents}) > 1:
        return "they have different teachers"
    return ""


def group_name(spec: StageSpec) -> str:
    """A name that is equal for students that may be trained together, apart from their teacher."""
    return digest(shared_part(spec))


def largest_cohort(choice: str) -> int:
    """The maximum size of a cohort for the setting "auto", "off" or a number.

    Raises:
        HarnessError: any other setting.
    """
    if choice == "auto":
        return AUTO_MOST
    if choice == "off":
        return 1
    if choice.isdecimal() and len(choice) < 10 and 0 < int(choice) <= LARGEST_COHORT:
        return int(choice)
    raise HarnessError(
        f"--cohort {choice} is not auto, off or a whole number from 1 to {LARGEST_COHORT}",
        "it is the largest number of students that are trained together",
    )


def group_alike(
    specs: Mapping[str, StageSpec], most: int, fits: Callable[[Sequence[str]], bool] = lambda keys: True
) -> list[tuple[str, ...]]:
    """Groups of at most `most` students that can be trained together; `fits` as in `make_cohorts`."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for key, spec in specs.items():
        if spec.kind == "student":
            place = (group_name(spec), model_normalisation(spec.model), spec.parents.get("teacher", ""))
            groups.setdefault(place, []).append(key)
    parts = [tuple(group[i : i + most]) for group in groups.values() for i in range(0, len(group), most)]
    return [piece for part in parts for piece in _halved(part, fits)]


def make_cohorts(
    plan: Plan,
    keys: Sequence[str],
    choice: str = "auto",
    slots: int = 1,
    largest_macs: float = math.inf,
    fits: Callable[[Sequence[str]], bool] = lambda keys: True,
    times: Mapping[str, StepTime] | None = None,
) -> list[tuple[str, ...]]:
    """Stages grouped as they are run, parents before children; teachers and translators are not grouped.

    "auto" fills all slots first: with two slots, ten students are two cohorts of five. A cohort runs its teacher once
    for all members, so fewer, larger cohorts are less work; but no slot should be idle. The number of cohorts minimises
    the makespan.

    Args:
        keys: the stages to run.
        slots: number of cohorts that can run at once.
        largest_macs: maximum multiply-adds of a cohort of several students, evaluations included, from its time limit.
        fits: whether students can be trained together in the time and the memory that a cohort has; asked for several.
        times: measured times of all students, by which the work is divided; by default, by multiply-adds.
    """
    most = largest_cohort(choice)
    if most == 1:
        return [(key,) for key in keys]
    alone = [(key,) for key in keys if plan.nodes[key].spec.kind != "student"]
    groups = _groups(plan, keys, slots if choice == "auto" else 1)
    nodes = [plan.nodes[key] for group in groups for key in group]
    costs = {node.key: own_macs(node) + evaluation_macs(plan, node) for node in nodes}
    weights = {key: student_time(plan, key, times[key]) for key in costs} if times else costs

    def divided(parts: int) -> list[tuple[str, ...]]:
        found = [part for group in groups for part in _parts(group, weights, max(parts, fewest(group)), most)]
        return [piece for part in found for piece in _halved(part, fits)]

    def fewest(group: Sequence[str]) -> int:
        own = max(largest_macs - max(teacher_macs(plan, plan.nodes[key]) for key in group), 1.0)
        return min(len(group), max(-(-len(group) // most), math.ceil(sum(costs[key] for key in group) / own)))

    def takes(cohorts: Sequence[tuple[str, ...]]) -> float:
        work = [cohort_time(plan, each, times) if times else cohort_work(plan, each) for each in cohorts]
        return _longest(work, slots)

    widest = max((len(group) for group in groups), default=1)
    choices = [divided(parts) for parts in range(1, min(widest, 2 * slots) + 1)] if choice == "auto" else [divided(1)]
    best = min(choices, key=lambda cohorts: (round(takes(cohorts) / (takes(choices[0]) or 1), 2), len(cohorts)))
    return alone + best


def _groups(plan: Plan, keys: Sequence[str], slots: int) -> list[list[str]]:
    """Groups of students that may be trained together; those with the fewest missing parents first."""
    missing = set(keys)
    groups: dict[tuple[Any, ...], dict[str, list[str]]] = {}
    for key in keys:
        spec = plan.nodes[key].spec
        if spec.kind == "student":
            place = (group_name(spec), model_normalisation(spec.model))
            groups.setdefault(place, {}).setdefault(spec.parents.get("teacher", ""), []).append(key)
    found: list[list[str]] = []
    for by_teacher in groups.values():
        without_teacher = by_teacher.pop("", [])
        teacher = next(iter(by_teacher), "")
        # Students without a teacher share the data loading of those with one, unless that teacher is still to be
        # trained: another slot can run them meanwhile.
        if teacher and not (slots > 1 and teacher in missing):
            by_teacher[teacher] = [*without_teacher, *by_teacher[teacher]]
            without_teacher = []
        found += [without_teacher] if without_teacher else []
        found += by_teacher.values()
    waits = lambda key: sum(parent in missing for parent in plan.nodes[key].parents)  # noqa: E731
    return [sorted(group, key=waits) for group in found]


def _parts(group: Sequence[str], costs: Mapping[str, float], parts: int, most: int) -> list[tuple[str, ...]]:
    """The group split into consecutive parts of about equal cost, none empty and none larger than `most`."""
    total = sum(costs[key] for key in group)
    cut: dict[int, list[str]] = {}
    before = 0.0
    for place, key in enumerate(group):
        share = (before + costs[key] / 2) / total if total else (place + 0.5) / len(group)
        cut.setdefault(min(parts - 1, int(share * parts)), []).append(key)
        before += costs[key]
    return [tuple(part[i : i + most]) for part in cut.values() for i in range(0, len(part), most)]


def _halved(group: tuple[str, ...], fits: Callable[[Sequence[str]], bool]) -> list[tuple[str, ...]]:
    """The group, or halves of it and of them, each of which fits or is one student."""
    if len(group) < 2 or fits(group):
        return [group]
    half = -(-len(group) // 2)
    return [*_halved(group[:half], fits), *_halved(group[half:], fits)]


def _longest(work: Sequence[float], slots: int) -> float:
    """The makespan of longest-first scheduling on `slots` slots."""
    loads = [0.0] * slots
    for each in sorted(work, reverse=True):
        loads[loads.index(min(loads))] += each
    return max(loads)
