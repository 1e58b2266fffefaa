"""Cohorts bounded by what a rehearsal measured, and the job that measures it, on a fake SLURM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.launch.base import Options
from harness.launch.slurm.config import make_config, memory_bytes
from harness.launch.slurm.launcher import SlurmLauncher
from harness.launch.slurm.probe import run_probe
from harness.planning.plan import Plan, make_plan
from harness.workspace.folders import Workspace
from harness.workspace.job import read_job
from harness.workspace.trials import Trial, remember_stages, write_trial
from tests.end_to_end.tiny import CHANGES, tiny_sweep
from tests.harness.launch.slurm.fake_slurm import FakeSlurm

GIB = 2**30


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(fake.state_file))
    return fake


@pytest.fixture
def plan() -> Plan:
    return make_plan(tiny_sweep(methods=("kd", "at"), strides=(8, 16), set=LONG))


LONG = {**CHANGES, "iterations": 1000}


def _sizes(plan: Plan, root: Path, trial: Trial, **settings: object) -> list[int]:
    """How many students each cohort has, after a rehearsal that gave this for every one of them."""
    workspace = Workspace(root)
    write_trial(workspace, "t", trial)
    keys = [key for key, node in plan.nodes.items() if node.spec.kind == "student"]
    remember_stages(workspace, dict.fromkeys(keys, "t"))
    options = Options(workspace, "", settings={"max_parallel": 1, **settings})
    return sorted(len(cohort) for cohort in SlurmLauncher().cohorts(plan, keys, options))


@pytest.mark.parametrize(
    ("own_ms", "teacher_ms", "expected"),
    [
        (1, 1, [4]),
        # 1000 iterations in 0.8 of 10 minutes: 480 ms for each, the teacher's once, with the evaluations after them.
        (60, 80, [4]),
        (100, 80, [2, 2]),
        (300, 0, [1, 1, 1, 1]),
        (9000, 0, [1, 1, 1, 1]),
    ],
)
def test_a_time_limit_bounds_cohorts(
    own_ms: float, teacher_ms: float, expected: list[int], plan: Plan, tmp_path: Path
) -> None:
    trial = Trial(name="kd", own_ms=own_ms, teacher_ms=teacher_ms)
    assert _sizes(plan, tmp_path, trial, time="10") == expected


@pytest.mark.parametrize(
    ("device", "mem", "held", "expected"),
    [
        (40 * GIB, "", 5 * GIB, [4]),
        (40 * GIB, "", 6 * GIB, [2, 2]),
        (0, "41G", 5 * GIB, [4]),
        (0, "40G", 6 * GIB, [2, 2]),
        (0, "", 100 * GIB, [4]),
    ],
)
def test_memory_bounds_cohorts(
    device: int, mem: str, held: int, expected: list[int], plan: Plan, tmp_path: Path
) -> None:
    """Four of 5 GB, a step of 10 GB and a teacher of 4 GB are 34 GB; 0.9 of 40 GB are 36."""
    trial = Trial(name="kd", held_bytes=held, step_bytes=10 * GIB, teacher_bytes=4 * GIB, device_bytes=device)
    assert _sizes(plan, tmp_path, trial, mem=mem) == expected


@pytest.mark.parametrize(("changes", "expected"), [({}, "0-1"), ({"time": "20"}, "0-0")])
def test_what_was_measured_bounds_cohorts_that_are_submitted_again(
    changes: dict[str, object],
    expected: str,
    fake: FakeSlurm,
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four students of 200 ms do not fit into 0.8 of 10 minutes; with `retry --time 20` they do."""
    monkeypatch.chdir(tmp_path)
    workspace, launcher = Workspace(tmp_path / "runs"), SlurmLauncher()
    students = [key for key, node in plan.nodes.items() if node.spec.kind == "student"]
    write_trial(workspace, "t", Trial(name="kd", own_ms=200))
    remember_stages(workspace, dict.fromkeys(students, "t"))
    options = Options(workspace, str(tmp_path / "results.db"), device="cpu", settings={"max_parallel": 1, "time": "10"})
    launcher.launch(plan, list(plan.nodes), options)
    sent = len(fake.jobs)
    fake.tell(squeue="", sacct="")
    launcher.resubmit(workspace, students, changes)
    students_array, _collecting = fake.jobs[sent:]
    assert students_array["array"].startswith(f"{expected}%")


def test_of_a_trial_that_failed_nothing_is_known(plan: Plan, tmp_path: Path) -> None:
    assert _sizes(plan, tmp_path, Trial(name="kd", problem="no", own_ms=10_000_000), time="10") == [4]


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("64G", 64 * GIB), ("1.5T", 1536 * GIB), ("512", GIB // 2)])
def test_memory_as_sbatch_reads_it(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


def test_a_job_that_ends_before_all_is_tried_out(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.tell(squeue="100_0|FAILED|node1||NonZeroExitCode\n")
    ended = run_probe(tmp_path / "jobs", make_config({"gpus": 4}), tmp_path / "r.json", 3, lambda: 1)
    assert ended.startswith("job 100 that tried it out is failed")
    (job,) = fake.jobs
    assert (job["gpus-per-node"], job["time"], job["array"]) == ("1", "30", "0-0%1")


def test_a_job_is_waited_for(
    fake: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.launch.slurm.probe._POLL_S", 0.01)
    found = iter((0, 2, 3))
    assert run_probe(tmp_path / "jobs", make_config({}), tmp_path / "r.json", 3, lambda: next(found)) == ""
    assert "job 100 tries 3 stages out" in capsys.readouterr().err


def test_without_a_rehearsal_each_job_is_told_of_the_largest_image(
    fake: FakeSlurm, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace, launcher, keys = Workspace(tmp_path / "runs"), SlurmLauncher(), list(plan.nodes)
    options = Options(workspace, str(tmp_path / "results.db"), device="cpu")
    assert launcher.rehearse(plan, keys, options, [(30, 40), (300, 400)]) == [] and not fake.jobs
    launcher.launch(plan, keys, options)
    told = {read_job(workspace.stage(key).job_file).largest_image for key in keys}
    assert told == {(300, 400)} and fake.jobs
