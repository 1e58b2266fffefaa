"""Reading what SLURM says: odd states, ranges, federations, cut lists, refusals, silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.queue import SlurmUnavailable, ask, expand, plain_state, read_job, read_sacct, read_squeue
from tests.harness.launch.slurm.fake_slurm import FakeSlurm


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(fake.state_file))
    return fake


@pytest.mark.parametrize(
    ("job", "tasks", "cut"),
    [
        ("12", ["12"], False),
        ("12_3", ["12_3"], False),
        ("12_[4%1]", ["12_4"], False),
        ("12_[0-2]", ["12_0", "12_1", "12_2"], False),
        ("12_[1,4-5%2]", ["12_1", "12_4", "12_5"], False),
        ("12_[0-6:3]", ["12_0", "12_3", "12_6"], False),
        ("12_[1,3,5,...]", ["12_1", "12_3", "12_5"], True),
        ("12_[1,3,5", ["12_1", "12_3", "12_5"], True),
        ("12+0", ["12"], False),
        ("nonsense", [], False),
        ("", [], False),
    ],
)
def test_expand(job: str, tasks: list[str], cut: bool) -> None:
    assert expand(job) == (tasks, cut)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 0", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("PD", "PENDING"),
        ("oom", "OUT_OF_MEMORY"),
        ("RUNNING*", "RUNNING"),
        (" TIMEOUT ", "TIMEOUT"),
        ("REQUEUE_HOLD", "REQUEUE_HOLD"),
    ],
)
def test_plain_state(text: str, state: str) -> None:
    assert plain_state(text) == state


def test_squeue_lines() -> None:
    states, cut = read_squeue(
        "CLUSTER: east\n"
        "7_[2-3%1]|PENDING|N/A||(JobArrayTaskLimit)\n"
        "7_0|RUNNING|1700000000|node1|None\n"
        "8_[1,5,...]|PENDING|N/A||Dependency\n"
        "9_0|REVOKED|N/A||None\n"
        "9_0|COMPLETING|1700000000|node2|None\n"
        "half a li"
    )
    assert states["7_3"].state == "PENDING" and states["7_3"].reason == "JobArrayTaskLimit"
    assert (states["7_0"].node, states["7_0"].since) == ("node1", 1700000000)
    assert states["9_0"].state == "COMPLETING"
    assert cut == {"8"}
    # What a cut list leaves out is still pending; what another array leaves out is not known.
    answer = slurm_queue.Answer(states, truncated=frozenset(cut))
    found = answer.of("8_17")
    assert found is not None and found.state == "PENDING" and answer.of("7_17") is None


def test_a_siblings_copy_never_hides_the_job() -> None:
    for lines in ("9|REVOKED|||\n9|RUNNING|||", "9|RUNNING|||\n9|REVOKED|||"):
        assert read_squeue(lines)[0]["9"].state == "RUNNING"


def test_sacct_lines() -> None:
    states = read_sacct("7_0|CANCELLED by 0|Unknown|None assigned|None\n7_0.batch|FAILED||x|\n7_[1-2]|PENDING||\n|||\n")
    assert {task: s.state for task, s in states.items()} == {"7_0": "CANCELLED", "7_1": "PENDING", "7_2": "PENDING"}


def test_preemption_is_of_this_run_only() -> None:
    now = "JobId=1 JobState=RUNNING StartTime=2026-01-01T10:00:00 PreemptTime=2026-01-01T10:05:00"
    assert read_job(now) == ("RUNNING", True)
    before = "JobId=1 JobState=RUNNING StartTime=2026-01-01T11:00:00 PreemptTime=2026-01-01T10:05:00"
    assert read_job(before) == ("RUNNING", False)
    assert read_job("JobId=1 JobState=CANCELLED PreemptTime=None") == ("CANCELLED", False)


def test_ask_squeue_first_and_sacct_for_what_it_forgot(fake: FakeSlurm) -> None:
    fake.tell(squeue="7_0|RUNNING|1|n|None\n", sacct="8_0|TIMEOUT|1|n|None\n")
    answer = ask([("7", ""), ("8", "")])
    assert answer.accounting and not answer.silence
    assert {task: s.state for task, s in answer.states.items()} == {"7_0": "RUNNING", "8_0": "TIMEOUT"}
    sacct = next(call for call in fake.calls if call[0] == "sacct")
    assert "--jobs=8" in sacct


def test_no_accounting_is_no_silence(fake: FakeSlurm) -> None:
    fake.tell(
        squeue={"exit": 1, "stderr": "slurm_load_jobs error: Invalid job id specified"},
        sacct={"exit": 1, "stderr": "Slurm accounting storage is disabled"},
    )
    answer = ask([("7", "")])
    assert (answer.states, answer.silence, answer.accounting) == ({}, "", False)


@pytest.mark.parametrize(
    "squeue",
    [
        {"exit": 1, "stderr": "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"},
        {"exit": 1, "stderr": "slurm_load_jobs error: Socket timed out on send/recv operation"},
    ],
)
def test_silence_is_told(fake: FakeSlurm, squeue: dict[str, object]) -> None:
    fake.tell(squeue=squeue)
    answer = ask([("7", "")])
    assert "squeue: slurm_load_jobs error" in answer.silence and answer.of("7_0") is None


def test_a_command_that_hangs_is_silence(fake: FakeSlurm) -> None:
    fake.tell(squeue={"sleep": 30})
    assert "did not answer within" in ask([("7", "")], timeout_s=0.3).silence


def test_slurm_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask([("7", "")]).silence == "squeue is not installed"
    with pytest.raises(SlurmUnavailable):
        slurm_queue.controller_setting("MaxArraySize")


def test_clusters_are_asked_each(fake: FakeSlurm) -> None:
    fake.tell(squeue="CLUSTER: east\n7_0|RUNNING|1|n|None\n", sacct="")
    ask([("7", "east"), ("9", "west")])
    asked = [call for call in fake.calls if call[0] == "squeue"]
    assert [call[1] for call in asked] == ["--clusters=east", "--clusters=west"]


def test_controller_setting(fake: FakeSlurm) -> None:
    fake.tell(scontrol={"config": "MaxArrayTasks = 3\nMaxArraySize            = 1001\nMaxJobCount = 5\n"})
    assert slurm_queue.controller_setting("MaxArraySize") == "1001"
    assert slurm_queue.controller_setting("Nothing") == ""


def test_cancel(fake: FakeSlurm) -> None:
    slurm_queue.cancel([f"7_{i}" for i in range(500)])
    assert sum(len(call) - 1 for call in fake.calls if call[0] == "scancel") == 500
    fake.tell(scancel={"exit": 1, "stderr": "scancel: error: Kill job error on job id 7: Invalid job id specified"})
    slurm_queue.cancel(["7_0"])
    fake.tell(scancel={"exit": 1, "stderr": "scancel: error: Unable to contact slurm controller"})
    with pytest.raises(HarnessError, match="SLURM did not cancel"):
        slurm_queue.cancel(["7_0"])
