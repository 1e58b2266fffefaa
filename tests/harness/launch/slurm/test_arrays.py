"""How stages become arrays, and what each waits for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.launch.slurm.arrays import Array, dependency, describe, make_arrays
from harness.launch.slurm.config import SlurmConfig, make_config
from harness.workspace.status import PlannedStage

PLAIN = SlurmConfig()


def _todo(*stages: tuple[str, str, tuple[str, ...]]) -> list[PlannedStage]:
    return [PlannedStage(key, f"name of {key}", kind, parents) for key, kind, parents in stages]


def _sweep(teachers: int, students: int) -> list[PlannedStage]:
    """Teachers, a translator each, and students of both."""
    stages: list[tuple[str, str, tuple[str, ...]]] = [(f"t{t}", "teacher", ()) for t in range(teachers)]
    stages += [(f"x{t}", "translator", (f"t{t}",)) for t in range(teachers)]
    stages += [(f"s{t}.{s}", "student", (f"t{t}", f"x{t}")) for t in range(teachers) for s in range(students)]
    return _todo(*stages)


def _ids(arrays: list[Array]) -> dict[int, str]:
    return {number: str(100 + number) for number in range(len(arrays))}


def _waits(arrays: list[Array]) -> list[str]:
    return [dependency(array, _ids(arrays)) for array in arrays]


def test_each_array_waits_for_its_own_parents_alone() -> None:
    todo = _todo(
        ("n", "student", ()),
        ("t", "teacher", ()),
        ("k", "student", ("t",)),
        ("x", "translator", ("t",)),
        ("a", "student", ("t", "x")),
        ("b", "student", ("t", "x")),
    )
    arrays = make_arrays(todo, PLAIN)
    assert [array.tasks for array in arrays] == [
        (("n",),),
        (("t",),),
        (("k",),),
        (("x",),),
        (("a",), ("b",)),
    ]
    # The last waits for the translator alone: that implies the teacher.
    assert _waits(arrays) == ["", "", "afterok:101_0", "afterok:101_0", "afterok:103_0"]


def test_chains_that_match_go_side_by_side() -> None:
    arrays = make_arrays(_sweep(4, 2), PLAIN)
    # Students: two a teacher, four teachers: two arrays of four beside the translators are fewer than four of two.
    assert [(a.kind, len(a.tasks), a.aligned_with) for a in arrays] == [
        ("teacher", 4, None),
        ("translator", 4, 0),
        ("student", 4, 1),
        ("student", 4, 1),
    ]
    assert arrays[2].tasks == (("s0.0",), ("s1.0",), ("s2.0",), ("s3.0",))
    assert _waits(arrays)[1:] == ["aftercorr:100", "aftercorr:101", "aftercorr:101"]


def test_many_students_of_few_teachers_wait_for_their_task() -> None:
    arrays = make_arrays(_sweep(2, 9), PLAIN)
    students = [array for array in arrays if array.kind == "student"]
    assert [len(array.tasks) for array in students] == [9, 9]
    assert [dependency(array, _ids(arrays)) for array in students] == ["afterok:101_0", "afterok:101_1"]


@given(
    teachers=st.integers(1, 5), students=st.integers(0, 9), largest=st.integers(1, 7), runs=st.integers(1, 3),
    most=st.integers(0, 6),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_every_stage_once_after_its_parents_in_arrays_that_fit(
    teachers: int, students: int, largest: int, runs: int, most: int
) -> None:
    todo = _sweep(teachers, students)
    pupils = [stage.key for stage in todo if stage.kind == "student"]
    cohorts = [tuple(pupils[i : i + runs]) for i in range(0, len(pupils), runs)] if runs > 1 and teachers == 1 else []
    arrays = make_arrays(todo, SlurmConfig(max_parallel=most), largest=largest, cohorts=cohorts)
    sent = Counter(key for array in arrays for task in array.tasks for key in task)
    assert sent == Counter(stage.key for stage in todo)
    assert all(len(array.tasks) <= largest for array in arrays)
    place = {key: (n, i) for n, array in enumerate(arrays) for i, task in enumerate(array.tasks) for key in task}
    for stage in todo:
        number, index = place[stage.key]
        array = arrays[number]
        awaited = {(array.aligned_with, index)} if array.aligned_with is not None else set(array.after)
        # Every parent is waited for, or is the parent of one that is; and nothing else is.
        if stage.parents:
            nearest = stage.parents[-1]
            assert awaited == {place[nearest]} and place[nearest][0] < number
        else:
            assert not awaited
        assert array.throttle == 0 if not most else array.throttle >= 1


def test_parents_that_are_on_their_way_already() -> None:
    todo = _todo(("a", "student", ("t", "x")), ("k", "student", ("t",)), ("d", "student", ("done",)))
    arrays = make_arrays(todo, PLAIN, queued={"t": "7_0", "x": "8_2"}, parents={"x": ("t",)})
    assert _waits(arrays) == ["afterok:8_2", "afterok:7_0", ""]


def test_a_cohort_is_one_task_that_waits_for_all_that_its_members_do() -> None:
    todo = _todo(
        ("t", "teacher", ()), ("n", "student", ()), ("k", "student", ("t",)), ("x", "translator", ("t",)),
        ("a", "student", ("t", "x")), ("b", "student", ("t",)),
    )  # fmt: skip
    arrays = make_arrays(todo, PLAIN, cohorts=[("n", "k", "a")])
    assert [array.tasks for array in arrays] == [(("t",),), (("x",),), (("b",),), (("n", "k", "a"),)]
    assert _waits(arrays) == ["", "afterok:100_0", "afterok:100_0", "afterok:101_0"]
    # What is on its way already is no member.
    arrays = make_arrays([s for s in todo if s.key not in "tk"], PLAIN, {"t": "7_0"}, cohorts=[("n", "k", "a")])
    assert (("n", "a"),) in [array.tasks for array in arrays]


def test_cohorts_of_several_seeds_are_tasks_of_one_array() -> None:
    todo = _todo(("t", "teacher", ()), *[(f"s{i}.{j}", "student", ("t",)) for i in range(3) for j in range(4)])
    cohorts = [tuple(f"s{i}.{j}" for j in range(4)) for i in range(3)]
    teacher, students = make_arrays(todo, PLAIN, cohorts=cohorts)
    assert students.tasks == tuple(cohorts) and students.stages == 12 and teacher.tasks == (("t",),)


def test_the_settings_that_cohorts_replaced_say_so() -> None:
    for name in ("runs_per_job", "concurrent"):
        with pytest.raises(HarnessError, match=f"no setting {name} any more.*--cohort"):
            make_config({name: 2})


def test_throttle_is_shared_by_arrays_of_a_kind() -> None:
    todo = _todo(*[(f"n{i}", "student", ()) for i in range(12)], ("t", "teacher", ()))
    arrays = make_arrays(todo, SlurmConfig(max_parallel=4), largest=5)
    assert [(len(a.tasks), a.throttle) for a in arrays] == [(5, 1), (5, 1), (2, 1), (1, 4)]


def test_kinds_have_their_own_resources() -> None:
    config = make_config({"teacher.time": "8:00:00", "teacher.mem": "64G", "gpus": 1})
    arrays = make_arrays(_sweep(1, 1), config)
    assert [(a.resources.time, a.resources.mem) for a in arrays] == [
        ("8:00:00", "64G"),
        ("4:00:00", ""),
        ("4:00:00", ""),
    ]


def test_description_names_arrays_and_dependencies() -> None:
    todo = _sweep(1, 4)
    text = describe(make_arrays(todo, SlurmConfig(partition="gpu")), {s.key: s.name for s in todo}, True)
    assert "A0: array of 1 teacher task [0-0], time 4:00:00, --partition=gpu --gpus-per-node=1" in text
    assert "waits for afterok:A1_0" in text and "name of s0.0, name of s0.1, name of s0.2 and 1 more" in text
    assert text.endswith("afterany:A0:A1:A2")


def test_an_unknown_setting_of_a_kind() -> None:
    with pytest.raises(HarnessError, match=r"unknown tiem"):
        make_config({"teacher.tiem": "1"})
