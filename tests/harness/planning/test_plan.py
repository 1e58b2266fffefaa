"""The plan: what is shared, what is one node, what a key depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.launch.local import most_awaited_first
from harness.planning.plan import Plan, make_plan
from harness.specs.spec import SweepSpec
from tests.end_to_end.tiny import tiny_sweep


def plan(**changes: object) -> Plan:
    return make_plan(tiny_sweep(**changes))


def test_three_methods_three_strides_five_seeds_share_one_teacher_and_one_translator() -> None:
    found = plan(methods=("kd", "pixel_kd", "ka"), strides=(8, 16, 32), seeds=tuple(range(5)))
    assert dict(found.count()) == {"student": 45, "teacher": 1, "translator": 1}
    assert found.cells == 45
    (teacher,) = [n for n in found.nodes.values() if n.spec.kind == "teacher"]
    assert len(found.children[teacher.key]) == 46


def test_parents_come_before_children() -> None:
    found = plan(methods=("ka", "none"), strides=(16, 32))
    seen: set[str] = set()
    for key, node in found.nodes.items():
        assert set(node.parents) <= seen
        seen.add(key)
    assert dict(found.count()) == {"student": 4, "teacher": 1, "translator": 1}


def test_equal_cells_written_differently_are_one() -> None:
    found = plan(methods=("ka", "ka[beta=50]", "none", "ka-affinity-adapt"))
    assert dict(found.count()) == {"student": 2, "teacher": 1, "translator": 1}


def test_none_does_not_depend_on_teachers() -> None:
    one = plan(methods=("none",))
    two = plan(methods=("none",), teachers=("timm:test_resnet/linear@16", "timm:test_resnet/linear@8"))
    assert set(one.nodes) == set(two.nodes) and len(one.nodes) == 1


def test_a_grid_of_teachers_and_their_strides() -> None:
    found = plan(methods=("kd",), teachers=("timm:test_resnet/linear",), teacher_strides=(8, 16), seeds=(0, 1))
    assert dict(found.count()) == {"student": 4, "teacher": 2}


def test_what_changes_the_result_changes_the_key_and_nothing_else_does() -> None:
    def key(**changes: object) -> str:
        (node,) = plan(**changes).nodes.values()
        return node.key

    base = key()
    assert key() == base
    assert key(seeds=(1,)) != base
    assert key(strides=(32,)) != base
    assert key(dataset="shapes[size=32,train=12,val=3,test=5]") != base
    recipe = tiny_sweep().set
    assert key(set={**recipe, "optimizer.lr": 0.04}) != base
    assert key(set={**recipe, "teacher.iterations": 3}) == base
    assert key(teacher_seed=3) == base


def test_a_changed_teacher_changes_its_students() -> None:
    def student(**changes: object) -> str:
        return next(k for k, n in plan(methods=("kd",), **changes).nodes.items() if n.spec.kind == "student")

    recipe = tiny_sweep().set
    assert student() != student(set={**recipe, "teacher.iterations": 3})
    assert student() != student(teacher_seed=1)


def test_the_literal_command_works_with_every_other_choice_defaulted() -> None:
    found = make_plan(SweepSpec(methods=("ka", "kd"), strides=(8, 16, 32)))
    assert dict(found.count()) == {"student": 6, "teacher": 1, "translator": 1}
    assert not found.skips


def test_what_most_others_wait_for_starts_first_on_this_machine() -> None:
    found = plan(methods=("none", "kd", "ka"), strides=(16, 32))
    units = most_awaited_first(found, [(key,) for key in found.nodes])
    order = [found.nodes[key].spec.kind for (key,) in units]
    assert order == ["teacher", "translator"] + ["student"] * 6


def test_points_of_a_grid_share_the_work_of_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of cells are planned in seconds: what does not change from one to the next is done once."""
    from harness.planning import plan as module

    calls = {"build_translator": 0, "for_kind": 0}

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **rest: Any) -> Any:
            calls[name] += 1
            return real(*arguments, **rest)

        return count

    monkeypatch.setattr(module, "build_translator", counted("build_translator", module.build_translator))
    monkeypatch.setattr(module.RecipeFile, "for_kind", counted("for_kind", module.RecipeFile.for_kind))
    found = []
    for points in (2, 20):
        calls.update(build_translator=0, for_kind=0)
        grid = "|".join(str(10 + number) for number in range(points))
        plan = make_plan(tiny_sweep(methods=(f"ka[beta={grid}]",), seeds=(0, 1, 2)))
        assert plan.count() == {"student": 3 * points, "teacher": 1, "translator": 1}
        found.append((calls["build_translator"], calls["for_kind"] - points))
    assert found[0][0] == found[1][0] == 1
    assert calls["for_kind"] < 2 * 20, "a recipe is resolved for each cell"
