"""The SLURM launcher on a fake one: what is sent, what is told of it afterwards, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import run
from harness.cli.cancel import cancel
from harness.cli.retry import retry
from harness.cli.slurm import slurm_init
from harness.errors import HarnessError
from harness.launch.base import LaunchResult, Options
from harness.launch.launchers import collecting, look, observer
from harness.launch.slurm import executor as slurm_submit
from harness.launch.slurm.config import make_config, settings_config
from harness.launch.slurm.executor import Refused, read_parsable
from harness.launch.slurm.launcher import SlurmLauncher
from harness.launch.slurm.site import site_text
from harness.launch.slurm.submissions import latest, read_submissions
from harness.launch.slurm.submit import Request, submit
from harness.launch.slurm.task import CollectTask, TaskFailed
from harness.specs.spec import DatasetSpec, ModelSpec, Recipe, StageSpec
from harness.workspace.files import write_json
from harness.workspace.folders import Workspace
from harness.workspace.job import Job, read_job
from harness.workspace.select import select_stages
from harness.workspace.status import PlannedStage, StageStatus, State, read_sweeps, stage_states
from tests.harness.launch.slurm.fake_slurm import FakeSlurm
from tests.results.factory import record_of


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HARNESS_SLURM_CONFIG", raising=False)
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(fake.state_file))
    monkeypatch.setattr(slurm_submit, "_PAUSE_S", 0.0)
    return fake


class World:
    """A workspace with a teacher, a translator and students, as a plan would have saved them."""

    def __init__(self, root: Path, students: int = 3) -> None:
        self.workspace = Workspace(root)
        self.jobs: dict[str, Job] = {}
        self.teacher = self._add("teacher", 0, {})
        self.translator = self._add("translator", 0, {"teacher": self.teacher})
        both = {"teacher": self.teacher, "translator:ka": self.translator}
        self.students = [self._add("student", seed, both) for seed in range(students)]
        stages = [
            {"key": key, "name": job.name, "kind": job.stage.kind, "parents": list(job.stage.parents.values())}
            for key, job in self.jobs.items()
        ]
        write_json(root / "sweeps" / "abc.json", {"id": "abc", "stages": stages})

    def _add(self, kind: Any, seed: int, parents: dict[str, str]) -> str:
        model = ModelSpec(family="timm", encoder="resnet18", head="linear", stride=16)
        spec = StageSpec(
            kind=kind, dataset=DatasetSpec(name="shapes"), model=model, recipe=Recipe(), seed=seed, parents=parents
        )
        name = f"{kind} of seed {seed}"
        self.jobs[spec.key] = Job(stage=spec, name=name, workspace=str(self.workspace.root), launcher="slurm")
        return spec.key

    @property
    def todo(self) -> list[PlannedStage]:
        return [PlannedStage(k, j.name, j.stage.kind, tuple(j.stage.parents.values())) for k, j in self.jobs.items()]

    def send(
        self, todo: Sequence[PlannedStage] | None = None, cohorts: Sequence[tuple[str, ...]] = (), **settings: Any
    ) -> LaunchResult:
        config = settings_config(settings)
        request = Request(self.workspace, config, "abc", settings, ["collect", "--workspace", "w", "--db", "d"])
        chosen = self.todo if todo is None else todo
        parents = {stage.key: stage.parents for stage in self.todo}
        return submit(request, chosen, self.jobs.__getitem__, parents, lambda _: cohorts)

    def states(self) -> dict[str, StageStatus]:
        found = stage_states(self.workspace, read_sweeps(self.workspace), observer(self.workspace))
        return {status.key: status for status in found}

    def done(self, key: str) -> None:
        self.workspace.stage(key).write_record(record_of(key))

    def attempt(self, key: str, outcome: str = "", reason: str = "", ago_s: float = 0.0) -> None:
        """An attempt that ended so, or (with no outcome) has had no heartbeat for some time."""
        attempt = self.workspace.stage(key).new_attempt()
        attempt.begin()
        if outcome:
            attempt.end(outcome, reason)
        os.utime(attempt.path / "heartbeat", (time.time() - ago_s,) * 2)

    def task(self, key: str) -> str:
        return latest(read_submissions(self.workspace))[key].task


@pytest.fixture
def world(tmp_path: Path, fake: FakeSlurm) -> World:
    return World(tmp_path / "runs")


# ---------------------------------------------------------------- sending


def test_what_is_sent(world: World, fake: FakeSlurm) -> None:
    launched = world.send(partition="gpu", time="1:00:00", mem="8G", **{"sbatch.nice": 5, "teacher.time": "2:00:00"})
    assert not launched.finished and "100: 1 teacher\n101: 1 translator\n102: 3 students" in launched.message
    teacher, translator, students, collect = fake.jobs
    assert "dependency" not in teacher
    assert (translator["dependency"], students["dependency"]) == ("afterok:100_0", "afterok:101_0")
    assert collect["dependency"] == "afterany:100:101:102"
    assert (teacher["time"], students["time"], students["array"]) == ("120", "60", "0-2%3")
    for job in (teacher, translator, students):
        assert job["kill-on-invalid-dep"] == "yes" and "requeue" in job and job["nice"] == "5"
        assert (job["partition"], job["mem"], job["gpus-per-node"]) == ("gpu", "8G", "1")
    assert "gpus-per-node" not in collect and collect["partition"] == "gpu"
    # The job file is what a worker is given; the pickle holds a path, two numbers and the name of a class.
    assert read_job(world.workspace.stage(world.teacher).job_file).name == "teacher of seed 0"
    pickled = next((world.workspace.root / "slurm").glob("*/102_2_submitted.pkl"))
    assert pickled.stat().st_size < 500
    delayed = pickle.loads(pickled.read_bytes())  # noqa: S301 - our own
    assert delayed.args[1:] == (2, 2) and Path(delayed.args[0]).name == "request.json"
    assert Path(delayed.args[0]).stat().st_mode & 0o077 == 0


def test_names_never_reach_a_shell_unquoted(world: World, fake: FakeSlurm, tmp_path: Path) -> None:
    odd = World(tmp_path / "runs; touch $(hostname) 'x'")
    odd.send(account="a b;$(rm x)")
    script = next((odd.workspace.root / "slurm").glob("*/100_submission.sh")).read_text()
    assert "#SBATCH --account='a b;$(rm x)'" in script
    words = shlex.split(next(line for line in script.splitlines() if line.startswith("srun ")))
    assert words[-1] == str(next((odd.workspace.root / "slurm").iterdir()).resolve())
    with pytest.raises(HarnessError, match="% in its path"):
        World(tmp_path / "runs%j").send()


def test_nothing_is_sent_twice(world: World, fake: FakeSlurm) -> None:
    world.send()
    assert len(fake.jobs) == 4
    assert "queued or running already" in world.send().message
    assert len(fake.jobs) == 4
    # One student is new: it waits for the translator that is queued.
    world.done(world.teacher)
    fresh = World(world.workspace.root, students=4)
    fresh.send([stage for stage in fresh.todo if stage.kind != "teacher"])
    student, collect = fake.jobs[4:]
    assert student["array"] == "0-0%1" and student["dependency"] == "afterok:101_0"
    assert collect["dependency"] == "afterany:104"


def test_arrays_are_cut_to_max_array_size(tmp_path: Path, fake: FakeSlurm) -> None:
    fake.tell(scontrol={"config": "MaxArraySize            = 5\n"})
    World(tmp_path / "runs", students=12).send(max_parallel=6)
    assert [job["array"] for job in fake.jobs] == ["0-0%1", "0-0%1", "0-4%2", "0-4%2", "0-1%1", "0-0%1"]


def test_dry_run_sends_nothing(world: World, fake: FakeSlurm) -> None:
    class Node:
        def __init__(self, job: Job) -> None:
            self.key, self.spec, self.name = job.stage.key, job.stage, job.name
            self.parents = tuple(job.stage.parents.values())

    class Plan:
        nodes = {key: Node(job) for key, job in world.jobs.items()}  # noqa: RUF012
        evaluated = None

    options = Options(world.workspace, "db", settings={"partition": "gpu", "max_parallel": 2})
    text = SlurmLauncher().describe(Plan(), list(world.jobs), options)  # type: ignore[arg-type]
    assert "A2: array of 3 student tasks [0-2%2]" in text and "waits for afterok:A1_0" in text
    assert fake.jobs == [] and not (world.workspace.root / "slurm").exists()


def test_refusal_is_shown_whole_and_what_was_sent_is_named(world: World, fake: FakeSlurm) -> None:
    said = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)\nline two"
    fake.tell(sbatch=[None, {"exit": 1, "stderr": said}])
    with pytest.raises(HarnessError) as caught:
        world.send()
    assert said in caught.value.message and "arrays submitted before, which are kept: 100" in caught.value.message
    # The database is still brought up to date after those; and what was not sent can be sent.
    assert fake.jobs[1]["dependency"] == "afterany:100"
    assert set(latest(read_submissions(world.workspace))) == {world.teacher}
    assert world.states()[world.students[0]].state is State.WAITING


def test_a_lost_answer_makes_no_second_array(world: World, fake: FakeSlurm) -> None:
    lost = {"exit": 1, "stderr": "sbatch: error: Socket timed out on send/recv operation"}
    fake.tell(sbatch=[{**lost, "submits": True}])
    world.send()
    assert [job["id"] for job in fake.jobs] == ["100", "101", "102", "103"]
    assert world.task(world.teacher) == "100_0"
    # Not taken, only refused for a moment: it is sent again.
    other = World(world.workspace.root.with_name("other"))
    fake.tell(sbatch=[lost, lost])
    other.send()
    assert other.task(other.teacher) == "104_0"
    fake.tell(sbatch=[lost] * 9)
    with pytest.raises(Refused, match="Socket timed out"):
        World(world.workspace.root.with_name("third")).send()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12\n", ("12", "")), ("12;east\n", ("12", "east")), ("sbatch: lua: hello\nSubmitted batch job 7\n", ("7", ""))],
)
def test_what_sbatch_prints(text: str, expected: tuple[str, str]) -> None:
    assert read_parsable(text) == expected


def test_what_sbatch_should_not_print() -> None:
    with pytest.raises(Refused, match="gave no job id"):
        read_parsable("hello\n")


def test_no_cluster_here(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(HarnessError, match="not a SLURM cluster"):
        world.send()


def test_federation(world: World, fake: FakeSlurm) -> None:
    fake.tell(sbatch=[{"stdout": "7;east\n"}, {"stdout": "8;east\n"}, {"stdout": "9;east\n"}, {"stdout": "10;east\n"}])
    world.send()
    lines = ("CLUSTER: east", "9_[0-2%3]|PENDING|N/A||Dependency", "7_0|RUNNING|1|n1|None", "8_0|PENDING|||Dependency")
    fake.tell(squeue="\n".join(lines))
    assert {s.state for s in world.states().values()} == {State.QUEUED}
    assert any("--clusters=east" in call for call in fake.calls if call[0] == "squeue")


# ---------------------------------------------------------------- looking


def _said(world: World, fake: FakeSlurm, key: str, line: str) -> StageStatus:
    fake.tell(squeue=line.replace("TASK", world.task(key)) + "\n", sacct="")
    return world.states()[key]


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        ("TASK|PENDING|N/A||(Priority)", State.QUEUED, "waits: Priority"),
        ("TASK|PENDING|N/A||Dependency", State.QUEUED, "waits: for its parents"),
        ("TASK|PENDING|N/A||JobHeldUser", State.QUEUED, "JobHeldUser"),
        ("TASK|REQUEUE_HOLD|N/A||x", State.QUEUED, "waits"),
        ("TASK|RUNNING|1|n1|None", State.QUEUED, "running on n1; starting"),
        ("TASK|CONFIGURING|1|n1|None", State.QUEUED, "configuring on n1"),
        ("TASK|COMPLETED|1|n1|None", State.LOST, "left no record"),
        ("TASK|TIMEOUT|1|n1|TimeLimit", State.INTERRUPTED, "harness retry --time"),
        ("TASK|OUT_OF_MEMORY|1|n1|x", State.FAILED, "out of memory"),
        ("TASK|NODE_FAIL|1|n1|x", State.INTERRUPTED, "the node failed"),
        ("TASK|PREEMPTED|1|n1|x", State.INTERRUPTED, "another job took its place"),
        ("TASK|CANCELLED by 0|1|n1|x", State.INTERRUPTED, "cancelled"),
        ("TASK|BOOT_FAIL|1|n1|x", State.INTERRUPTED, "did not start"),
        ("TASK|DEADLINE|1|n1|x", State.INTERRUPTED, "deadline"),
        ("TASK|FAILED|1|n1|NonZeroExitCode", State.FAILED, "NonZeroExitCode"),
        ("TASK|SOMETHING_NEW|1|n1|x", State.UNKNOWN, "SOMETHING_NEW"),
        ("", State.LOST, "SLURM has forgotten job"),
    ],
)
def test_every_state_of_a_job(world: World, fake: FakeSlurm, line: str, state: State, reason: str) -> None:
    world.send()
    status = _said(world, fake, world.teacher, line)
    assert status.state is state and reason in status.reason, status
    assert status.job == "100_0"


def test_records_first(world: World, fake: FakeSlurm) -> None:
    world.send()
    world.done(world.teacher)
    assert _said(world, fake, world.teacher, "TASK|FAILED|1|n1|NonZeroExitCode").state is State.DONE
    world.attempt(world.translator)
    assert _said(world, fake, world.translator, "TASK|FAILED|1|n1|NonZeroExitCode").state is State.RUNNING


def test_a_silent_scheduler_changes_no_state(world: World, fake: FakeSlurm) -> None:
    world.send()
    world.done(world.teacher)
    fake.tell(squeue={"exit": 1, "stderr": "Unable to contact slurm controller"})
    states = world.states()
    assert states[world.teacher].state is State.DONE
    assert states[world.students[0]].state is State.UNKNOWN
    submitted = read_submissions(world.workspace)[0].request["submitted"]
    assert states[world.students[0]].reason.startswith(f"unknown since {submitted}: squeue: Unable to contact")
    # Nothing is sent again on the strength of silence.
    with pytest.raises(HarnessError, match="unknown since"):
        look(world.workspace, "")
    fake.tell(squeue="")
    assert world.states()[world.students[0]].state is not State.UNKNOWN
    fake.tell(squeue={"exit": 1, "stderr": "Unable to contact slurm controller"})
    reason = world.states()[world.students[0]].reason
    since = datetime.fromisoformat(reason.split(": ")[0].removeprefix("unknown since "))
    assert since > datetime.now(UTC) - timedelta(minutes=1)


def test_blocked_by_a_failed_parent_with_the_reason(world: World, fake: FakeSlurm) -> None:
    world.send()
    world.attempt(world.teacher, "failed", "the loss is nan")
    gone = "100_0|FAILED|1|n1|NonZeroExitCode\n101_0|CANCELLED|||DependencyNeverSatisfied\n"
    fake.tell(squeue=gone + "102_[0-2]|PENDING|||DependencyNeverSatisfied\n")
    states = world.states()
    assert states[world.teacher].reason == "the loss is nan"
    for key in (world.translator, *world.students):
        assert states[key].state is State.BLOCKED
        assert states[key].reason == "teacher of seed 0 failed: the loss is nan"


def test_blocked_by_a_parent_that_vanished(world: World, fake: FakeSlurm) -> None:
    """No accounting, and the controller has forgotten all: the files alone."""
    world.send()
    world.attempt(world.teacher, ago_s=1000)
    fake.tell(squeue={"exit": 1, "stderr": "slurm_load_jobs error: Invalid job id specified"},
              sacct={"exit": 1, "stderr": "Slurm accounting storage is disabled"})  # fmt: skip
    states = world.states()
    assert states[world.teacher].state is State.LOST
    assert states[world.students[0]].state is State.BLOCKED


def test_memory_is_told_from_other_deaths_by_what_was_printed(world: World, fake: FakeSlurm) -> None:
    world.send()
    folder = read_submissions(world.workspace)[0].folder
    printed = "slurmstepd: error: Step 100.0 exceeded memory limit (9 > 8), being killed\n"
    (folder / "100_0_0_log.err").write_text(printed)
    status = _said(world, fake, world.teacher, "TASK|FAILED|1|n1|NonZeroExitCode")
    assert status.state is State.FAILED and "harness retry --mem" in status.reason
    (folder / "100_0_0_log.err").write_text("srun: error: node0: task 0: Segmentation fault\n")
    status = _said(world, fake, world.teacher, "TASK|FAILED|1|n1|NonZeroExitCode")
    assert status.reason == "job 100_0 failed: srun: error: node0: task 0: Segmentation fault"


def test_a_lost_attempt_and_a_job_that_began_again(world: World, fake: FakeSlurm) -> None:
    world.send()
    world.attempt(world.teacher, ago_s=300)
    begun = int(time.time())
    status = _said(world, fake, world.teacher, f"TASK|RUNNING|{begun - 900}|n1|None")
    assert status.state is State.LOST and "no heartbeat" in status.reason and "running on n1" in status.reason
    status = _said(world, fake, world.teacher, f"TASK|RUNNING|{begun + 60}|n1|None")
    assert status.state is State.QUEUED and "starting" in status.reason


def test_a_shared_job(world: World, fake: FakeSlurm) -> None:
    world.send(cohorts=[tuple(world.students)])
    arrays = read_submissions(world.workspace)[0].request["arrays"]
    assert [len(task["jobs"]) for array in arrays for task in array["tasks"]] == [1, 1, 3]
    world.done(world.teacher)
    world.done(world.translator)
    assert "waits for its turn" in _said(world, fake, world.students[2], "TASK|RUNNING|1|n1|None").reason


# ---------------------------------------------------------------- again, and back


def test_retry_brings_parents_and_keeps_settings(world: World, fake: FakeSlurm) -> None:
    world.send(partition="gpu", time="1:00:00")
    world.attempt(world.teacher, "failed", "it broke")
    fake.tell(squeue="102_[0-2]|CANCELLED|||x\n101_0|CANCELLED|||x\n100_0|FAILED|||x\n")
    listed, statuses = look(world.workspace, "")
    assert [s.key for s in select_stages(listed, statuses, failed=True)] == [world.teacher]
    chosen = select_stages(listed, statuses, cells=["student of seed 1"])
    assert [s.key for s in chosen] == [world.teacher, world.translator, world.students[1]]
    with pytest.raises(HarnessError, match="no stage matches"):
        select_stages(listed, statuses, cells=["nobody"])
    retry(cell=["student of seed 1"], option=["time=8:00:00", "mem=64G"], workspace=world.workspace.root)
    _, translator, student, collect = fake.jobs[4:]
    assert (student["time"], student["mem"], student["partition"]) == ("480", "64G", "gpu")
    assert (translator["dependency"], student["dependency"]) == ("afterok:104_0", "afterok:105_0")
    assert collect["dependency"] == "afterany:104:105:106"
    # Sent after it failed: no longer failed, and its children no longer blocked.
    fake.tell(squeue="104_0|PENDING|||Priority\n105_0|PENDING|||Dependency\n106_0|PENDING|||Dependency\n")
    states = world.states()
    assert states[world.teacher].state is State.QUEUED and states[world.teacher].job == "104_0"
    assert states[world.students[1]].state is State.QUEUED


def test_retry_writes_down_what_only_slurm_knows_of_an_attempt(world: World, fake: FakeSlurm) -> None:
    """Killed for memory with all its processes: nobody was left to close the attempt."""
    world.send()
    world.attempt(world.teacher, ago_s=1000)
    world.attempt(world.translator, ago_s=1000)
    fake.tell(squeue="100_0|OUT_OF_MEMORY|1|n1|x\n101_0|NODE_FAIL|1|n1|x\n102_[0-2]|CANCELLED|||x\n")
    retry(workspace=world.workspace.root)
    told = {key: world.workspace.stage(key).attempts()[0].summary() for key in (world.teacher, world.translator)}
    assert told[world.teacher].outcome == "failed" and told[world.teacher].reason.startswith(
        "out of memory (job 100_0)"
    )
    assert told[world.translator].outcome in ("interrupted", "unknown")


def _collecting(world: World) -> StageStatus:
    ((_, status),) = collecting(world.workspace)
    return status


def _collected(world: World, task: str, **said: str) -> None:
    write_json(read_submissions(world.workspace)[-1].folder / "collected.json", {"task": task, **said})


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        ("103_[0]|PENDING|N/A||Dependency", State.QUEUED, "until all stages have ended"),
        ("103_0|RUNNING|1|n1|None", State.RUNNING, "running on n1"),
        ("103_0|FAILED|1|n1|NonZeroExitCode", State.FAILED, "failed and recorded no outcome"),
        ("103_0|TIMEOUT|1|n1|x", State.FAILED, "timeout and recorded no outcome"),
        ("103_0|CANCELLED|1|n1|x", State.INTERRUPTED, "cancelled"),
        ("", State.LOST, "SLURM has forgotten job 103_0"),
    ],
)
def test_collecting_is_a_stage_whose_state_is_seen(
    world: World, fake: FakeSlurm, line: str, state: State, reason: str
) -> None:
    world.send()
    fake.tell(squeue=line + "\n", sacct="")
    status = _collecting(world)
    assert (status.state, status.kind, status.job) == (state, "collect", "103_0") and reason in status.reason
    # Its own word goes before SLURM's.
    _collected(world, "103_0", outcome="done")
    assert _collecting(world).state is State.DONE


def test_collecting_that_failed_is_told_and_sent_again(
    world: World, fake: FakeSlurm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    world.send(partition="gpu")
    for key in world.jobs:
        world.done(key)
    _collected(world, "103_0", outcome="failed", reason="password authentication failed for user board")
    assert run(["status", "-w", str(world.workspace.root)]) == 1
    assert "password authentication failed" in " ".join(capsys.readouterr().out.split())
    assert run(["retry", "-w", str(world.workspace.root), "--dry-run"]) == 0
    assert len(fake.jobs) == 4 and "password authentication failed" in capsys.readouterr().out
    # Not while the database cannot be opened from here either.
    database = Path(read_submissions(world.workspace)[0].request["collect"][-1])
    database.mkdir()
    assert run(["retry", "-w", str(world.workspace.root)]) == 2
    assert len(fake.jobs) == 4 and f"{database} cannot be opened" in capsys.readouterr().err
    database.rmdir()
    assert run(["retry", "-w", str(world.workspace.root)]) == 0
    assert len(fake.jobs) == 5 and "dependency" not in fake.jobs[4] and fake.jobs[4]["partition"] == "gpu"
    # What the one before said says nothing of this one.
    fake.tell(squeue="104_0|PENDING|N/A||Priority\n")
    assert _collecting(world).state is State.QUEUED
    _collected(world, "104_0", outcome="done")
    assert run(["status", "-w", str(world.workspace.root)]) == 0
    capsys.readouterr()
    assert run(["retry", "-w", str(world.workspace.root)]) == 0
    assert "nothing to submit again" in capsys.readouterr().out and len(fake.jobs) == 5


def test_submissions_of_before_do_not_seem_uncollected(world: World, fake: FakeSlurm) -> None:
    world.send()
    submission = read_submissions(world.workspace)[0]
    del submission.request["collector_tells"]
    submission.save_request()
    fake.tell(squeue="", sacct="")
    assert collecting(world.workspace) == []


@pytest.mark.parametrize("right", [True, False])
def test_a_collecting_job_leaves_word_of_how_it_ended(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    (tmp_path / "stages").mkdir()
    database = tmp_path / "results.db"
    if not right:
        database.write_bytes(b"random bytes" * 500)
    command = ["collect", "--workspace", str(tmp_path), "--db", str(database)]
    write_json(tmp_path / "request.json", {"collect": command})
    if right:
        CollectTask()(str(tmp_path / "request.json"))
    else:
        with pytest.raises(TaskFailed, match=r"results\.db"):
            CollectTask()(str(tmp_path / "request.json"))
    said = json.loads((tmp_path / "collected.json").read_text())
    assert said["task"] == "7_0" and said["outcome"] == ("done" if right else "failed")
    assert right or "results.db" in said["reason"]


def test_retry_of_what_was_never_sent(world: World, fake: FakeSlurm) -> None:
    with pytest.raises(HarnessError, match="nothing was submitted to SLURM"):
        SlurmLauncher().resubmit(world.workspace, [world.teacher], {})


def test_cancel_takes_back_what_is_live(world: World, fake: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    world.send()
    fake.tell(squeue="100_0|COMPLETED|||x\n101_0|RUNNING|||x\n102_[0-2]|PENDING|||Dependency\n")
    world.done(world.teacher)
    cancel(cells=["translator"], all_stages=False, workspace=world.workspace.root)
    assert [call[1:] for call in fake.calls if call[0] == "scancel"] == [["101_0"]]
    cancel(cells=[], all_stages=True, workspace=world.workspace.root)
    assert [call[1:] for call in fake.calls if call[0] == "scancel"][1] == ["101_0", "102_0", "102_1", "102_2"]
    assert "cancelled 101_0" in capsys.readouterr().out
    # When SLURM has forgotten them, the workspace still knows.
    fake.tell(squeue={"exit": 1, "stderr": "Invalid job id specified"})
    assert "cancelled" in world.states()[world.translator].reason
    with pytest.raises(HarnessError, match="nothing to cancel was named"):
        cancel(cells=[], all_stages=False, workspace=world.workspace.root)


def test_init_writes_a_file_that_can_be_read(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.tell(
        sinfo="cpu*|up|infinite|(null)|64000|16|cpu*\nv100|up|2-00:00:00|gpu:v100:4(S:0-1)|128000|32|v100\n"
        "old|down|1:00:00|gpu:k80:2|1|1|old\n"
    )
    file = tmp_path / "site.yaml"
    slurm_init(file=file, force=False, show=False)
    config = make_config({}, file)
    assert (config.partition, config.time, config.max_array_size, config.gpus) == ("v100", "2-00:00:00", 1001, 1)
    with pytest.raises(HarnessError, match="exists already"):
        slurm_init(file=file, force=False, show=False)
    odd = {"partition": "no", "partitions": "x", "limit": "infinite", "gpus": "0", "gpu_type": "", "max_array_size": ""}
    file.write_text(site_text(odd))
    assert make_config({}, file).partition == "no"
    fake.tell(sinfo={"exit": 1, "stderr": "Unable to contact slurm controller"})
    with pytest.raises(HarnessError, match="SLURM does not answer"):
        slurm_init(file=file, force=True, show=False)


def test_the_book_survives_half_a_line(world: World, fake: FakeSlurm) -> None:
    world.send()
    jobs = read_submissions(world.workspace)[0].folder / "jobs.jsonl"
    jobs.write_text(jobs.read_text() + '{"array": 2, "jo')
    assert world.task(world.students[2]) == "102_2"
    assert json.loads(jobs.read_text().splitlines()[0])["job"] == "100"
