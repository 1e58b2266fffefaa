"""`python -m harness.worker JOB.json`: all that a job ever runs, on a laptop, under SLURM or by hand.

Exit codes: 0 done, 1 failed (trying again will not help), 3 interrupted (its checkpoint is saved), 4 refused.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness.errors import ChangedSincePlanned, HarnessError, StageFailed
from harness.workspace.files import file_digest
from harness.workspace.folders import HEARTBEAT_S, AttemptFolder
from harness.workspace.job import Job, read_job

DONE, FAILED, INTERRUPTED, REFUSED = 0, 1, 3, 4
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a scheduler says that it will end a job soon."""


class Stop:
    """Set by SIGINT, SIGTERM or the death of the parent process; looked at between iterations."""

    def __init__(self) -> None:
        self.reason = ""

    def __call__(self) -> bool:
        return bool(self.reason)

    def listen(self) -> None:
        """Turn the signals that ask a process to end into a stop after the current iteration.

        SLURM's warning ahead of a time limit goes to every process of a job; the one that watches over this one
        answers it, and asks this one to end by SIGTERM.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for number in WARNINGS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _: Any) -> None:
        self.reason = signal.Signals(number).name


def main(job_file: Path, stop: Stop | None = None, capture: bool = False, parent_pid: int = 0) -> int:
    """Run the job in a file; the exit code.

    Args:
        job_file: written by a launcher.
        stop: asked between iterations; by default it listens to signals.
        capture: send what the process prints to the attempt's log.
        parent_pid: stop when this process is no longer the parent; 0 for no such watch.
    """
    if stop is None:
        stop = Stop()
        stop.listen()
    try:
        job = read_job(job_file)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    if job.folder.done():
        return DONE
    rank = int(os.environ.get("RANK", "0"))
    helper = rank > 0
    attempt = _helpers_folder(job, rank) if helper else job.folder.new_attempt()
    if capture:
        _redirect(attempt.log)
    if not helper:
        attempt.begin(resumed_at=_resumes_at(job), job_id=str(job.extra.get("job_id", "")))
    with _Heartbeat(attempt, stop, parent_pid):
        code, outcome, reason = _attempt(job, attempt, stop)
    if not helper and attempt.outcome() is None:
        attempt.end(outcome, reason)
    if reason:
        print(f"{outcome}: {reason}", file=sys.stderr, flush=True)
    return code


def _helpers_folder(job: Job, rank: int) -> AttemptFolder:
    """Where a process that helps the first one leaves its log and signs of life; not an attempt of its own."""
    path = job.folder.path / "attempts" / f"rank{rank}"
    path.mkdir(parents=True, exist_ok=True)
    return AttemptFolder(path)


def _attempt(job: Job, attempt: AttemptFolder, stop: Callable[[], bool]) -> tuple[int, str, str]:
    """Run the stage; (exit code, outcome, reason)."""
    try:
        _refuse_drift(job)
        _load_plugins(job)
        from harness.stage.run import run_stage
        from harness.training.loop import Interrupted
    except HarnessError as error:
        return REFUSED, "failed", str(error)
    try:
        run_stage(job, attempt, stop)
        return DONE, "done", ""
    except Interrupted as error:
        reason = getattr(stop, "reason", "")
        return INTERRUPTED, "interrupted", f"{error} ({reason})" if reason else str(error)
    except StageFailed as error:
        return FAILED, "failed", str(error)
    except HarnessError as error:
        traceback.print_exc()
        return REFUSED, "failed", str(error)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return FAILED, "failed", _sentence(error)


def _sentence(error: BaseException) -> str:
    """An unexpected error in one line; out-of-memory named as such, whatever the device calls it, and plugins too."""
    from harness.plugins.registry import plugin_place

    text = " ".join(str(error).split())[:400]
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        return f"out of memory: {text}"
    place = plugin_place(error)
    return (f"plugin {place}: " if place else "") + f"{type(error).__name__}: {text}"


def _refuse_drift(job: Job) -> None:
    if not job.code:
        return
    from harness.system.code import tree_digest

    if (found := tree_digest()) != job.code:
        raise ChangedSincePlanned("the code", job.code, found, "plan the sweep again, or submit with --snapshot")


def _load_plugins(job: Job) -> None:
    from harness.plugins.load import load_plugins

    for plugin in job.plugins:
        found = file_digest(Path(plugin.path)) if Path(plugin.path).is_file() else "missing"
        if found != plugin.sha256:
            raise ChangedSincePlanned(f"plugin {plugin.path}", plugin.sha256, found)
    load_plugins([Path(plugin.path) for plugin in job.plugins])


def _resumes_at(job: Job) -> int:
    """Iteration of the checkpoint that this attempt goes on from."""
    if not job.folder.checkpoint_file.is_file():
        return 0
    from harness.training.checkpoint import load_checkpoint

    state = load_checkpoint(job.folder.checkpoint_file)
    return int(state["progress"]["iteration"]) if state else 0


def _redirect(log: Path) -> None:
    """Send this process's output, also that of its libraries, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


class _Heartbeat:
    """Signs of life of an attempt while the block runs; notices when the parent process is gone."""

    def __init__(self, attempt: AttemptFolder, stop: Any, parent_pid: int) -> None:
        self._attempt, self._stop = attempt, stop
        self._watches, self._parent = bool(parent_pid), _process(parent_pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._attempt.beat()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._attempt.beat()
            if self._watches and not _runs(self._parent):
                self._stop.reason = "its launcher is gone"


def _process(pid: int) -> psutil.Process | None:
    """A process by its id, known by its start too: another one that gets the id later is not taken for it."""
    try:
        return psutil.Process(pid) if pid else None
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m harness.worker JOB.json", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(main(Path(sys.argv[1])))
