"""`python -m harness.worker JOB.json [JOB.json ...]`: run jobs; used by every launcher, and by hand.

Several jobs form a cohort: students that are trained in lock-step. `--rehearse FILE` rehearses stages instead
(`harness.workspace.trials`). Exit codes: `harness.errors.WorkerExit`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from harness.errors import ChangedSincePlanned, HarnessError, StageFailed, WorkerExit, surroundings
from harness.system.crashes import trace_crashes
from harness.system.guard import claim_process, text_of
from harness.system.importing import garbage_ignored
from harness.system.memory import out_of_memory
from harness.system.processes import adopt_orphans, end_children, leave_within
from harness.system.waiting import StoppedWaiting, set_patience
from harness.workspace.events import Movement
from harness.workspace.files import file_digest
from harness.workspace.folders import HEARTBEAT_S, AttemptFolder, Workspace, close_silent_attempts
from harness.workspace.job import Job, read_job
from harness.workspace.trials import Trial, read_rehearsal, write_trial

DONE, FAILED, INTERRUPTED, REFUSED, TOO_LARGE = WorkerExit  # in order of declaration
ORPHAN_GRACE_S = 60.0
"""Seconds in which a process must save a checkpoint and end after its launcher has died."""
LEAVING_S = 5.0
"""Seconds in which a process must end after its work; threads of third-party code may keep it from ending."""
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a scheduler announces the end of a job."""


class Stop:
    """Stop request, set by SIGINT, SIGTERM or the death of the parent process; checked between steps."""

    def __init__(self) -> None:
        self.reason = ""

    def __call__(self) -> bool:
        return bool(self.reason)

    def listen(self) -> None:
        """Install signal handlers that request a stop after the current iteration.

        SLURM's warning before a time limit goes to every process of a job; the supervising process handles it and
        sends SIGTERM to this one.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for number in WARNINGS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _: Any) -> None:
        self.reason = signal.Signals(number).name


def main(job_files: Path | Sequence[Path], stop: Stop | None = None, capture: bool = False, parent_pid: int = 0) -> int:
    """Run the jobs of the given files together; return the exit code.

    Args:
        job_files: job files from a launcher: one, or those of a cohort.
        stop: stop request; by default set by signals.
        capture: redirect the output of the process to the attempts' logs.
        parent_pid: stop when the process with this id is no longer the parent; 0 to disable.
    """
    own_process = stop is None
    if stop is None:
        stop = Stop()
        stop.listen()
        claim_process()
        adopt_orphans()
    files = [job_files] if isinstance(job_files, Path) else job_files
    try:
        jobs = [read_job(file) for file in files]
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    jobs = [job for job in jobs if not job.folder.done()]
    if not jobs:
        return DONE
    rank = int(os.environ.get("RANK", "0"))
    attempts = [_helpers_folder(job, rank) if rank else job.folder.new_attempt() for job in jobs]
    if capture:
        _redirect([attempt.log for attempt in attempts])
    for job in jobs if rank == 0 else ():
        if note := job.folder.set_aside_record():
            print(note, file=sys.stderr, flush=True)
    cohort = _Cohort(jobs, attempts, stop, helper=rank > 0)
    if own_process:
        trace_crashes()
        set_patience(jobs[0].loader_timeout_s, stop)
    with _Heartbeat(cohort, stop, parent_pid):
        code = cohort.run()
    if own_process:
        for process in end_children():
            print(f"note: ended process {process}, which the run left running", file=sys.stderr, flush=True)
    return code


def rehearse(file: Path, log: Path | None = None, parent_pid: int = 0) -> int:
    """Try out the stages that a file of `harness.workspace.trials.Rehearsal` names; the exit code.

    What came of each is written where `harness.workspace.trials.trial_file` says, as soon as it is known.

    Args:
        log: where to send what the process prints.
        parent_pid: end when this process is no longer there; 0 for no such watch.
    """
    claim_process()
    adopt_orphans()
    if log:
        _redirect([log])
    if parent_pid:
        threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    try:
        asked = read_rehearsal(file)
        for job in [trial.job for trial in asked.trials[:1]]:
            _refuse_drift(job)
            _load_plugins(job)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    with garbage_ignored():
        from harness.stage.rehearsal import Rehearsing

    # Each trial ends with a collection, which would look at a million objects of the libraries.
    gc.freeze()
    rehearsing = Rehearsing(asked.parents)
    for trial in asked.trials:
        try:
            found = rehearsing.try_out(trial)
        except HarnessError as error:
            found = Trial(name=trial.job.name, problem=error.message, hint=error.hint)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            traceback.print_exception(error)
            found = Trial(name=trial.job.name, problem=_sentence(error))
        write_trial(Workspace(Path(trial.job.workspace)), trial.key, found)
    end_children()
    return DONE


def _end_with(parent_pid: int) -> None:
    """End this process when another one is gone."""
    parent = _process(parent_pid)
    while _runs(parent):
        time.sleep(1.0)
    end_children()
    os._exit(INTERRUPTED)


def _helpers_folder(job: Job, rank: int) -> AttemptFolder:
    """Folder for log and heartbeats of a distributed process other than the first; not an attempt."""
    path = job.folder.path / "attempts" / f"rank{rank}"
    path.mkdir(parents=True, exist_ok=True)
    return AttemptFolder(path)


class _Cohort:
    """The attempts of one process at its stages, and their outcomes."""

    def __init__(self, jobs: Sequence[Job], attempts: Sequence[AttemptFolder], stop: Any, helper: bool) -> None:
        self._jobs, self._attempts, self._stop, self._helper = jobs, attempts, stop, helper
        self._codes: dict[int, int] = {}
        self._movement = [Movement(attempt.events) for attempt in attempts]
        if not helper:
            from harness.system.running import CODE

            for job, attempt in zip(jobs, attempts):
                close_silent_attempts(job.folder, attempt.number)
                others: dict[str, Any] = {"cohort": [job.folder.key for job in jobs]} if len(jobs) > 1 else {}
                others |= {"resumed_at": _resumes_at(job), "job_id": str(job.extra.get("job_id", ""))}
                attempt.begin(code=CODE, **others)

    def beat(self) -> None:
        """Write heartbeats of the unfinished attempts, with their progress."""
        for place, attempt in enumerate(self._attempts):
            if place not in self._codes:
                attempt.beat(**self._movement[place].look())

    def end_by_force(self, reason: str) -> None:
        """Close the unfinished attempts and end this process, even if its main thread is blocked."""
        for place, attempt in enumerate(self._attempts):
            if place not in self._codes and not self._helper and attempt.outcome() is None:
                attempt.end("interrupted", reason)
        end_children()
        os._exit(INTERRUPTED)

    def run(self) -> int:
        """Run the stages; return the exit code."""
        try:
            for job in self._jobs:
                _refuse_drift(job)
                _load_plugins(job)
            with garbage_ignored():
                from harness.curves.mirror import mirrored
                from harness.stage.run import run_stages

            tasks = list(zip(self._jobs, self._attempts))
            with mirrored(() if self._helper else tasks):
                run_stages(tasks, self._stop, self.left)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            for place in range(len(self._jobs)):
                self.left(place, error)
        for place in range(len(self._jobs)):
            self._codes.setdefault(place, DONE)
        codes = set(self._codes.values())
        for code in (TOO_LARGE, INTERRUPTED):
            if code in codes:
                return code
        return codes.pop() if len(codes) == 1 else FAILED

    def left(self, place: int, error: BaseException) -> None:
        """Close the attempt of a stage that ended without a record."""
        if place in self._codes or self._jobs[place].folder.done():
            return
        self._codes[place], outcome, reason = _outcome(error, getattr(self._stop, "reason", ""))
        name = f"{self._jobs[place].name}: " if len(self._jobs) > 1 else ""
        _say(f"{name}{outcome}: {reason}")
        if not self._helper and self._attempts[place].outcome() is None:
            try:
                self._attempts[place].end(outcome, reason)
            except OSError as failure:  # a full disk, say; the launcher tries again
                _say(f"{name}its outcome cannot be written: {failure}")


def _say(text: str) -> None:
    """Print to the log, unless the output is closed or full."""
    with suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def _outcome(error: BaseException, asked: str) -> tuple[int, str, str]:
    """The result of an attempt that raised an error: (exit code, outcome, reason)."""
    if isinstance(error, StoppedWaiting):
        return INTERRUPTED, "interrupted", f"stopped while waiting for data ({asked})"
    if type(error).__name__ == "Interrupted":
        return INTERRUPTED, "interrupted", f"{error} ({asked})" if asked else str(error)
    if type(error).__name__ == "CohortTooLarge":
        return TOO_LARGE, "interrupted", f"out of memory: {error}; retry in smaller cohorts"
    if isinstance(error, StageFailed):
        return FAILED, "failed", str(error)
    traceback.print_exception(error)
    if isinstance(error, HarnessError):
        return REFUSED, "failed", str(error)
    return FAILED, "failed", _sentence(error)


def _sentence(error: BaseException) -> str:
    """An unexpected error in one line; out-of-memory errors and plugins are named as such."""
    from harness.plugins.registry import plugin_place

    text = " ".join(text_of(error).split())[:400]
    if out_of_memory(error):
        return f"out of memory: {text}"
    around, place = surroundings(error), plugin_place(error)
    return (f"plugin {place}: " if place else "") + (str(around) if around else f"{type(error).__name__}: {text}")


def _refuse_drift(job: Job) -> None:
    if not job.code:
        return
    from harness.system.code import tree_digest

    if (found := tree_digest()) != job.code:
        raise ChangedSincePlanned("the code", job.code, found, "plan the sweep again, or submit with --snapshot")


def _load_plugins(job: Job) -> None:
    with garbage_ignored():
        from harness.plugins.load import load_plugins

    for plugin in job.plugins:
        found = file_digest(Path(plugin.path)) if Path(plugin.path).is_file() else "missing"
        if found != plugin.sha256:
            raise ChangedSincePlanned(f"plugin {plugin.path}", plugin.sha256, found)
    load_plugins([Path(plugin.path) for plugin in job.plugins])


def _resumes_at(job: Job) -> int:
    """The iteration of the checkpoint from which this attempt resumes."""
    if not job.folder.checkpoint_file.is_file():
        return 0
    from harness.training.checkpoint import load_checkpoint

    state = load_checkpoint(job.folder.checkpoint_file)
    return int(state["progress"]["iteration"]) if state else 0


def _redirect(logs: Sequence[Path]) -> None:
    """Redirect this process's output, including that of libraries, to one file that is linked under all these names."""
    log = logs[0]
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for other in logs[1:]:
        try:
            os.link(log, other)
        except OSError:  # a file system without hard links
            other.write_text(f"see {log}\n")


class _Heartbeat:
    """Writes heartbeats of attempts during this context, and watches the parent process."""

    def __init__(self, cohort: _Cohort, stop: Any, parent_pid: int) -> None:
        self._cohort, self._stop = cohort, stop
        self._watches, self._parent = bool(parent_pid), _process(parent_pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._cohort.beat()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        orphan_since = 0.0
        while not self._ended.wait(HEARTBEAT_S):
            self._cohort.beat()
            if orphan_since and time.monotonic() - orphan_since > ORPHAN_GRACE_S:
                self._cohort.end_by_force(f"{self._stop.reason}, and it did not stop in time")
            if self._watches and not _runs(self._parent):
                self._stop.reason = "its launcher has died"
                orphan_since = orphan_since or time.monotonic()


def _process(pid: int) -> psutil.Process | None:
    """A process by its id; psutil also compares its start time, so a later process with the same id is not mistaken."""
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
    if len(sys.argv) < 2:
        print("usage: python -m harness.worker JOB.json [JOB.json ...]", file=sys.stderr)
        raise SystemExit(2)
    if sys.argv[1] == "--rehearse":
        exit_code = rehearse(Path(sys.argv[2]))
    else:
        exit_code = main([Path(word) for word in sys.argv[1:]])
    leave_within(LEAVING_S, exit_code)
    raise SystemExit(exit_code)
