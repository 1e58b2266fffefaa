"""The local launcher: order, places, another try after a death, what is blocked, Ctrl-C. Processes are stand-ins."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.launch import local
from harness.launch.base import LaunchResult, Options
from harness.launch.local import LocalLauncher
from harness.worker import TOO_LARGE
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.status import State, stage_state
from results.queries import runs
from results.store import open_store
from tests.harness.launch.stages import Plan, begin_and_end, finish, folder_of

Act = Callable[[StageFolder], int]
"""What a process does to its stage's folder; its exit code."""


def succeeds(folder: StageFolder) -> int:
    begin_and_end(folder, "done")
    finish(folder)
    return 0


def fails(folder: StageFolder) -> int:
    begin_and_end(folder, "failed", "the loss is nan")
    return 1


def dies(folder: StageFolder) -> int:
    begin_and_end(folder)
    return -signal.SIGKILL


def terminated(folder: StageFolder) -> int:
    begin_and_end(folder)
    return -signal.SIGTERM


class Machine:
    """A multiprocessing context whose processes do what a test says, each over when it is looked at twice."""

    def __init__(self, acts: dict[str, list[Act]]) -> None:
        self.acts, self.started, self.alive, self.most = acts, list[str](), set[str](), 0
        self.cohorts: list[tuple[str, ...]] = []

    def Process(self, target: Any, args: tuple[list[str], int], name: str) -> Process:
        folders = [folder_of(Path(file)) for file in args[0]]
        self.cohorts.append(tuple(folder.key for folder in folders))
        return Process(self, name, folders)


class Process:
    def __init__(self, machine: Machine, key: str, folders: list[StageFolder]) -> None:
        self._machine, self._key, self._folders = machine, key, folders
        self._looks, self.exitcode, self.pid = 0, None, 0
        # Always ready to be read, as that of a process that has ended.
        self.sentinel = os.open(os.devnull, os.O_RDONLY)

    def start(self) -> None:
        self._machine.started.append(self._key)
        self._machine.alive.add(self._key)
        self._machine.most = max(self._machine.most, len(self._machine.alive))

    def is_alive(self) -> bool:
        self._looks += 1
        if self._looks == 2:
            left = self._machine.acts.get(self._key, [])
            act = left.pop(0) if left else succeeds
            self.exitcode = max((act(folder) for folder in self._folders), key=abs)
            self._machine.alive.discard(self._key)
        return self._looks < 2

    def join(self) -> None:
        assert self.exitcode is not None
        os.close(self.sentinel)


def launch(
    plan: Plan,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: Any,
    workers: int = 2,
    database: str = "",
    **settings: Any,
) -> LaunchResult:
    monkeypatch.setattr(local, "warm_up", lambda: machine)
    monkeypatch.setattr(local, "POLL_S", 0.0)
    target = database or str(root / "results.db")
    options = Options(Workspace(root), target, device="cpu", workers=workers, quiet=True, settings=settings)
    return LocalLauncher().launch(plan, list(plan.nodes), options)  # type: ignore[arg-type]


def test_parents_run_first_and_no_more_at_once_than_there_are_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, machine = Plan(students=4), Machine({})
    launched = launch(plan, tmp_path, monkeypatch, machine)
    assert launched.finished and not launched.failed and not launched.blocked
    assert sorted(machine.started) == sorted(plan.nodes) and machine.most == 2
    # What most others wait for goes first.
    assert machine.started[0] == plan.teacher
    assert machine.started.index(plan.translator) < min(machine.started.index(key) for key in plan.students)


def test_what_is_finished_is_collected_while_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, seen = Plan(), list[int]()

    def looks(folder: StageFolder) -> int:
        """The translator runs once the teacher is done, and waits until the board knows the teacher."""
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            with contextlib.suppress(ValueError), open_store(tmp_path / "results.db", readonly=True) as store:
                seen.extend([len(found)] if len(found := runs(store)) else [])
        return succeeds(folder)

    launched = launch(plan, tmp_path, monkeypatch, Machine({plan.translator: [looks]}))
    assert not launched.failed and seen and 1 <= seen[0] < len(plan.nodes)


def test_a_database_that_cannot_be_used_stops_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.db").write_text("no database")
    launched = launch(Plan(), tmp_path, monkeypatch, Machine({}), database=str(tmp_path / "other.db"))
    assert launched.finished and not launched.failed
    assert (tmp_path / "other.db").read_text() == "no database"


def test_a_killed_stage_is_tried_again_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan()
    launched = launch(plan, tmp_path, monkeypatch, Machine({plan.teacher: [dies, dies]}))
    assert not launched.failed and not launched.blocked
    attempts = Workspace(tmp_path).stage(plan.teacher).attempts()
    assert [(a.outcome() or {})["outcome"] for a in attempts] == ["interrupted", "interrupted", "done"]
    assert "killed by SIGKILL" in (attempts[0].outcome() or {})["reason"]


@pytest.mark.parametrize("most", [1, 3])
def test_a_stage_that_dies_too_often_is_given_up_and_blocks_its_own(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, machine = Plan(), Machine({})
    machine.acts = {plan.translator: [dies] * 9}
    launched = launch(plan, tmp_path, monkeypatch, machine, max_attempts=most)
    assert machine.started.count(plan.translator) == most
    assert set(launched.failed) == {plan.translator} and set(launched.blocked) == set(plan.students)
    assert stage_state(Workspace(tmp_path).stage(plan.translator))[0] is State.FAILED
    # The others go on.
    assert Workspace(tmp_path).stage(plan.alone).done() and Workspace(tmp_path).stage(plan.teacher).done()


def test_all_that_waits_for_a_failed_stage_is_blocked_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, machine = Plan(), Machine({})
    machine.acts = {plan.teacher: [fails]}
    launched = launch(plan, tmp_path, monkeypatch, machine)
    assert launched.failed == {plan.teacher: "the loss is nan"}
    assert set(launched.blocked) == {plan.translator, *plan.students}
    # A grandchild names the stage that failed, not the one that is blocked between them.
    assert set(launched.blocked.values()) == {"teacher of seed 0 failed: the loss is nan"}
    assert machine.started.count(plan.teacher) == 1, "a failure is no death: trying again would not help"
    assert Workspace(tmp_path).stage(plan.alone).done()


def test_what_is_done_already_counts_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, machine = Plan(), Machine({})
    finish(Workspace(tmp_path).stage(plan.teacher))
    monkeypatch.setattr(local, "warm_up", lambda: machine)
    options = Options(Workspace(tmp_path), "", device="cpu", workers=1, quiet=True)
    LocalLauncher().launch(plan, [k for k in plan.nodes if k != plan.teacher], options)  # type: ignore[arg-type]
    assert plan.teacher not in machine.started and len(machine.started) == len(plan.nodes) - 1


def test_settings_are_checked_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for settings, said in (({"max_atempts": 2}, "max_atempts"), ({"max_attempts": 0}, "greater than or equal to 1")):
        with pytest.raises(HarnessError, match=said):
            launch(Plan(), tmp_path, monkeypatch, Machine({}), **settings)
    (tmp_path / "harness-local.yaml").write_text("max_attempts: 1\n")
    plan = Plan()
    machine = Machine({plan.teacher: [dies] * 5})
    launch(plan, tmp_path / "runs", monkeypatch, machine)
    assert machine.started.count(plan.teacher) == 1


def together(keys: list[str]) -> Any:
    """A launcher's grouping: these in one cohort, the others alone."""

    def cohorts(_launcher: Any, _plan: Any, all_keys: list[str], _options: Any) -> list[tuple[str, ...]]:
        return [*((key,) for key in all_keys if key not in keys), tuple(keys)]

    return cohorts


def does_not_fit(folder: StageFolder) -> int:
    begin_and_end(folder, "interrupted", "out of memory")
    return TOO_LARGE


@pytest.mark.parametrize(("act", "sizes"), [(does_not_fit, [4, 2, 2]), (dies, [4, 2, 2]), (terminated, [4, 4])])
def test_a_cohort_that_is_killed_or_too_large_goes_on_in_halves(
    act: Act, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, machine = Plan(students=4), Machine({})
    monkeypatch.setattr(LocalLauncher, "cohorts", together(plan.students))
    machine.acts = {plan.students[0]: [act]}
    launched = launch(plan, tmp_path, monkeypatch, machine)
    assert not launched.failed and not launched.blocked
    assert [len(cohort) for cohort in machine.cohorts if cohort[0] in plan.students] == sizes


def test_one_that_failed_is_not_tried_again_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, machine = Plan(students=4), Machine({})
    monkeypatch.setattr(LocalLauncher, "cohorts", together(plan.students))

    def act(folder: StageFolder) -> int:
        return fails(folder) if folder.key == plan.students[2] else dies(folder)

    machine.acts = {plan.students[0]: [act]}
    launched = launch(plan, tmp_path, monkeypatch, machine)
    assert launched.failed == {plan.students[2]: "the loss is nan"}
    assert [len(cohort) for cohort in machine.cohorts if cohort[0] in plan.students] == [4, 2, 1]


def test_a_member_that_is_blocked_leaves_its_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, machine = Plan(students=2), Machine({})
    monkeypatch.setattr(LocalLauncher, "cohorts", together([*plan.students, plan.alone]))
    machine.acts = {plan.teacher: [fails]}
    launched = launch(plan, tmp_path, monkeypatch, machine)
    assert set(launched.blocked) == {plan.translator, *plan.students}
    assert machine.cohorts == [(plan.teacher,), (plan.alone,)]


def leaves(folder: StageFolder) -> int:
    begin_and_end(folder)
    return 0


def test_a_process_that_ends_well_without_a_record_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some code in it called os._exit(0)."""
    plan = Plan()
    launched = launch(plan, tmp_path, monkeypatch, Machine({plan.teacher: [leaves]}))
    assert "ended with code 0 and no outcome" in launched.failed[plan.teacher]
    (attempt,) = Workspace(tmp_path).stage(plan.teacher).attempts()
    assert (attempt.outcome() or {})["outcome"] == "failed" and plan.students[0] in launched.blocked


@pytest.mark.parametrize("most", [1, 2])
def test_a_death_for_want_of_memory_says_so(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts whom it kills for memory; the attempt says it, whether it is tried again or not."""
    kills = iter(range(1000))
    monkeypatch.setattr(local, "memory_kills", lambda: next(kills))
    plan = Plan()
    launched = launch(plan, tmp_path, monkeypatch, Machine({plan.alone: [dies]}), max_attempts=most)
    first, *_ = Workspace(tmp_path).stage(plan.alone).attempts()
    told = first.summary()
    assert told.reason == "killed by SIGKILL: the machine was out of memory"
    assert (told.outcome, bool(launched.failed)) == (("failed", True) if most == 1 else ("interrupted", False))


def _dies_once(job_files: list[str], parent_pid: int) -> None:
    folder = folder_of(Path(job_files[0]))
    first = not folder.attempts()
    begin_and_end(folder)
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(folder)


def test_real_processes_that_are_really_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(students=1)
    monkeypatch.setattr(local, "_work", _dies_once)
    launched = launch(plan, tmp_path, monkeypatch, multiprocessing.get_context("fork"))
    assert not launched.failed and not launched.blocked
    for key in plan.nodes:
        folder = Workspace(tmp_path).stage(key)
        assert folder.done() and len(folder.attempts()) == 2
