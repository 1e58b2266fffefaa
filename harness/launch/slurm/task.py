"""The code of a SLURM job: run a cohort or a single stage in a child process, across time limits.

submitit starts `StageTask` in every process of a job, and asks it for a checkpoint before a time limit or a preemption.
Its pickle contains the path of a JSON file and two numbers. Nothing heavy is imported: training runs in the child
process `python -m harness.worker`, which is asked to save a checkpoint and end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from harness.errors import WorkerExit
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.child import Stage, Worker, job_id, process_rank
from harness.launch.slurm.collector import OUTCOME_FILE
from harness.workspace.files import now, write_json

DONE, FAILED, INTERRUPTED = WorkerExit.DONE, WorkerExit.FAILED, WorkerExit.INTERRUPTED
_GRACE_S = 20.0
"""Seconds in which a worker must save a checkpoint when SLURM ends its job; sites seldom give more than thirty."""


class TaskFailed(RuntimeError):
    """Not all stages of a job succeeded; submitit records the message."""


class StageTask:
    """The callable of a job. It keeps no state between calls except the paths in its arguments."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []
        self._worker: Worker | None = None
        self._told = ""
        self._printed_before = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_stages": [], "_worker": None, "_told": "", "_printed_before": 0}

    def __call__(self, request_file: str, array: int, task: int) -> None:
        """Run the stages of one task together; if they do not fit into memory, in halves one after the other.

        Raises:
            TaskFailed: a stage failed, or was stopped and will not be retried in this job.
        """
        request = json.loads(Path(request_file).read_bytes())
        self._printed_before = _log_size()
        signal.signal(signal.SIGTERM, self._terminated)
        _distributed_environment()
        self._stages = [Stage(Path(f), request) for f in request["arrays"][array]["tasks"][task]["jobs"]]
        waiting = [self._stages]
        while waiting and not self._told:
            self._worker = Worker(waiting.pop(0))
            self._worker.run()
            waiting[:0] = self._worker.halves
        self._conclude()

    def checkpoint(self, request_file: str, array: int, task: int) -> Any:
        """Ask the stages to save checkpoints; return what submitit runs after the requeue, None to stop."""
        from submitit.helpers import DelayedSubmission

        request = json.loads(Path(request_file).read_bytes())
        limit_min = request["arrays"][array]["minutes"]
        timed_out = _elapsed_s() > limit_min * 60 - request["arrays"][array]["signal_s"] - 90
        self._told = "timeout" if timed_out else "preempted"
        self._stop(request["arrays"][array]["signal_s"] - 5)
        self._label(self._told, "the time limit of the job came near" if timed_out else "another job took its place")
        if all(stage.done for stage in self._stages):
            raise SystemExit(0)
        return DelayedSubmission(StageTask(), request_file, array, task) if self._left() else None

    def _terminated(self, *_: object) -> None:
        """Forward SLURM's termination signal to the stages; the cause is determined after they have saved."""
        self._told = self._told or "terminated"
        if self._worker:
            self._worker.terminate()

    def _stop(self, within_s: float) -> None:
        """Ask the stages to save checkpoints; if that takes too long, they resume from older ones."""
        if self._worker:
            self._worker.terminate()
            self._worker.wait(max(0.5, within_s))

    def _label(self, outcome: str, reason: str) -> None:
        for stage in self._stages:
            stage.label(outcome, reason)

    def _left(self) -> list[Stage]:
        """The stages that another run of the job could finish."""
        return [stage for stage in self._stages if not (stage.done or stage.failed or stage.exhausted())]

    def _conclude(self) -> None:
        """Record the outcome, and requeue a job that SLURM ended although its stages could continue."""
        if self._told == "terminated":
            self._stop(_GRACE_S)
            self._after_termination()
        failed = [stage.sentence for stage in self._stages if not stage.done]
        if failed:
            raise TaskFailed("; ".join(failed))

    def _after_termination(self) -> None:
        if all(stage.done for stage in self._stages):
            return
        outcome, reason, ended_for_good = _why_terminated(self._printed_before)
        self._label(outcome, reason)
        if ended_for_good and self._left():
            _requeue()


def _why_terminated(printed_before: int) -> tuple[str, str, bool]:
    """Why SLURM sent SIGTERM: (outcome, reason, whether the job must be requeued here).

    The controller's state of an ending job is COMPLETING for any cause; the step's daemon prints the cause.

    Args:
        printed_before: bytes of the job's log written by earlier runs.
    """
    cause = read_cause(_log_since(printed_before))
    state, preempted = ("", False) if cause else slurm_queue.job_state(os.environ.get("SLURM_JOB_ID", ""))
    if cause == "PREEMPTION" or state == "PREEMPTED" or preempted:
        return "preempted", "another job took its place", True
    if cause == "TIME LIMIT" or state == "TIMEOUT":
        return "timeout", "the time limit of the job was reached", True
    if cause == "CANCELLED" or state == "CANCELLED":
        return "interrupted", "the job was cancelled", False
    if cause.startswith("NODE FAILURE") or state == "NODE_FAIL":
        return "interrupted", "the node failed", False
    return (
        "interrupted",
        "SLURM ended the job, to run it again" if cause == "JOB REQUEUE" else "SLURM ended the job",
        False,
    )


def read_cause(printed: str) -> str:
    """The cause of a step's end, as printed by its daemon: "TIME LIMIT", "PREEMPTION", ...; "CANCELLED" by a user."""
    found = re.findall(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?: DUE TO (.+?))? \*\*\*", printed)
    return (found[-1] or "CANCELLED") if found else ""


def _log_file() -> Path:
    return Path(os.environ.get("SUBMITIT_FOLDER", ".")) / f"{job_id()}_{process_rank()}_log.err"


def _log_size() -> int:
    try:
        return _log_file().stat().st_size
    except OSError:
        return 0


def _log_since(size: int) -> str:
    try:
        return _log_file().read_bytes()[size:].decode(errors="replace")
    except OSError:
        return ""


def _requeue() -> None:
    with contextlib.suppress(slurm_queue.SlurmUnavailable):
        slurm_queue.call(["scontrol", "requeue", job_id()])


def _elapsed_s() -> float:
    """Seconds since this process, and the job's step, started."""
    return time.time() - float(psutil.Process().create_time())


def _distributed_environment() -> None:
    """Set torch's variables for several processes of one run, from submitit's environment."""
    if int(os.environ.get("SLURM_NTASKS", "1")) < 2:
        return
    from submitit.helpers import TorchDistributedEnvironment

    there = TorchDistributedEnvironment()
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    os.environ |= {
        "RANK": str(there.rank),
        "WORLD_SIZE": str(there.world_size),
        "LOCAL_RANK": str(there.local_rank),
        "LOCAL_WORLD_SIZE": str(there.local_world_size),
        "MASTER_ADDR": "127.0.0.1" if nodes == 1 else _address(there.master_addr),
        "MASTER_PORT": str(there.master_port),
    }
    if own := list(_visible_devices()):
        # Each process sees only its own GPU, which is then the first one everywhere.
        os.environ["CUDA_VISIBLE_DEVICES"] = own[there.local_rank % len(own)]


def _visible_devices() -> Iterator[str]:
    yield from (word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word)


def _address(node: str) -> str:
    """A node's address: its name if it resolves, otherwise the address known to SLURM."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except OSError:
        pass
    try:
        found = re.search(r"NodeAddr=(\S+)", slurm_queue.call(["scontrol", "show", "node", node]))
    except slurm_queue.SlurmUnavailable:
        return node
    return found[1] if found else node


class CollectTask:
    """The final job of a submission, which updates the database."""

    def __call__(self, request_file: str) -> None:
        """Run `harness collect`.

        Raises:
            TaskFailed: collecting failed.
        """
        request = json.loads(Path(request_file).read_bytes())
        command = [sys.executable, "-m", "harness", *request["collect"]]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        sys.stderr.write(done.stderr)
        lines = [line.removeprefix("error:").strip() for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith("hint:")]
        reason = (told or lines or [f"harness collect ended with code {done.returncode}"])[-1]
        outcome = {"outcome": "failed", "reason": reason[:300]} if done.returncode else {"outcome": "done"}
        write_json(Path(request_file).with_name(OUTCOME_FILE), {"task": job_id(), "ended": now(), **outcome})
        if done.returncode:
            raise TaskFailed(f"harness collect ended with code {done.returncode}: {reason}")

    def checkpoint(self, request_file: str) -> Any:
        """Run again: collecting is idempotent."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(CollectTask(), request_file)


class RehearsalTask:
    """Rehearses stages on the node where it runs; the process that it starts writes their results."""

    def __call__(self, rehearsal: str) -> None:
        """Run `python -m harness.worker --rehearse`.

        Raises:
            TaskFailed: the process did not come to its end.
        """
        command = [sys.executable, "-m", "harness.worker", "--rehearse", rehearsal]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if code:
            raise TaskFailed(f"trying stages out ended with code {code}")
