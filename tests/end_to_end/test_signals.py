"""What a scheduler sends goes to every process of a job: the run, its loader processes, all at once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from harness.worker import INTERRUPTED
from harness.workspace.folders import StageFolder, Workspace
from tests.end_to_end.tiny import CHANGES, job_of, make_plan, only_student, tiny_sweep
from tests.processes import Command


def _iterations(folder: StageFolder) -> list[int]:
    attempt = folder.last_attempt()
    if attempt is None or not attempt.events.is_file():
        return []
    lines = [json.loads(line) for line in attempt.events.read_text().splitlines() if line.endswith("}")]
    return [line["iteration"] for line in lines if line["event"] == "progress"]


def _until(folder: StageFolder, iteration: int, process: Command) -> None:
    end = time.monotonic() + 300
    while max(_iterations(folder), default=0) < iteration:
        assert process.poll() is None, f"the worker ended with {process.returncode}"
        assert time.monotonic() < end, "the worker does not train"
        time.sleep(0.05)


def test_a_warning_is_survived_and_the_end_saves_the_iteration_reached(tmp_path: Path) -> None:
    """SIGUSR2 to all, as `sbatch --signal` does; then SIGTERM to all, as at a preemption."""
    plan = make_plan(tiny_sweep(set={**CHANGES, "iterations": 100_000, "validate_every": 0}))
    node = only_student(plan)
    job = job_of(plan, node, tmp_path, loader_workers=2, checkpoint_every=0)
    folder = Workspace(tmp_path).stage(node.key)
    process = Command(["-m", "harness.worker", str(job.write())], session=True)
    try:
        _until(folder, 3, process)
        os.killpg(process.pid, signal.SIGUSR2)
        _until(folder, max(_iterations(folder)) + 12, process)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(120) == INTERRUPTED
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    attempt = folder.last_attempt()
    assert attempt is not None
    outcome = attempt.outcome() or {}
    assert outcome["outcome"] == "interrupted" and "SIGTERM" in outcome["reason"], outcome
    saved = [json.loads(line) for line in attempt.events.read_text().splitlines()][-1]
    assert saved["event"] == "checkpoint" and saved["iteration"] >= max(_iterations(folder))
    assert folder.checkpoint_file.is_file()
