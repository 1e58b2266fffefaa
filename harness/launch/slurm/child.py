"""The child process that runs a task's stages, and the outcome of each stage."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.system.crashes import crash_place
from harness.system.processes import end_group
from harness.workspace.files import read_json, write_json
from harness.workspace.folders import AttemptFolder, StageFolder

_CHILD = """
import sys
from pathlib import Path
from harness.system.processes import leave_within
from harness.worker import LEAVING_S, main
files = [Path(word) for word in sys.argv[2:]]
code = main(files, capture=True, parent_pid=int(sys.argv[1]))
leave_within(LEAVING_S, code)
raise SystemExit(code)
"""


TOO_LARGE = 5
"""Exit code of a worker whose stages do not fit into memory together (`harness.worker`, which imports too much)."""
_POLL_S = 0.1
_NEARLY_ALL = 0.85
"""Fraction of a job's memory above which a killed worker counts as out of memory."""


class Stage:
    """A stage of a task: its files, and its attempts under this submission."""

    def __init__(self, job_file: Path, request: dict[str, Any]) -> None:
        self.job_file, self._request = job_file, request
        self.folder = StageFolder(job_file.parent)
        self.sentence = f"{self.folder.key} did not run"

    @property
    def done(self) -> bool:
        """Whether its record exists."""
        return self.folder.done()

    @property
    def failed(self) -> bool:
        """Whether its latest attempt under this submission failed, so that a retry would not help."""
        attempt = self.folder.last_attempt()
        outcome = ((attempt.outcome() if attempt else None) or {}).get("outcome")
        return bool(attempt and outcome == "failed" and self._under_this_submission(attempt))

    def prepare(self) -> None:
        """Prepare an attempt: close one that a killed predecessor left open, and record who runs it."""
        self._close_predecessor()
        if process_rank() == 0:
            self._sign()

    def label(self, outcome: str, reason: str) -> None:
        """Record the outcome of the latest attempt, unless it recorded one itself."""
        attempt = self.folder.last_attempt()
        if self.done or attempt is None or process_rank() > 0 or not self._ours(attempt):
            return
        if (attempt.outcome() or {}).get("outcome") not in ("done", "failed"):
            attempt.end(outcome, reason)
            self.sentence = f"{self.folder.key} {reason}"

    def crashed(self) -> str:
        """Where in the code the process of its latest attempt crashed, as the end of a sentence."""
        attempt = self.folder.last_attempt()
        place = crash_place(attempt.log) if attempt else ""
        return f" at {place}" if place else ""

    def left_without_outcome(self, code: int) -> None:
        """Handle a process that ended by itself; without a recorded outcome, some code in it has ended it."""
        attempt = self.folder.last_attempt()
        if attempt is not None and attempt.outcome() is None:
            self.label("failed", f"its process ended with code {code} and no outcome: some code in it called os._exit")

    def exhausted(self) -> bool:
        """Whether all its attempts under this submission are used up; records that in the last one."""
        if self.done or not self._spent():
            return False
        attempt = self.folder.last_attempt()
        if attempt and process_rank() == 0 and (attempt.outcome() or {}).get("outcome") != "failed":
            why = f"given up after {self._request['max_attempts']} attempts; the last: {self._last_reason()}"
            attempt.end("failed", why)
        self.sentence = f"{self.folder.key} {self._last_reason()}"
        return True

    def ended(self, code: int) -> None:
        """Handle the end of its process with this exit code."""
        self.sentence = f"{self.folder.key} {self._last_reason() or f'ended with code {code}'}"

    def _spent(self) -> bool:
        begun = [a for a in self.folder.attempts() if self._under_this_submission(a)]
        return len(begun) >= self._request["max_attempts"]

    def _under_this_submission(self, attempt: AttemptFolder) -> bool:
        return bool(attempt.started().get("started", "") >= self._request["submitted"])

    def _last_reason(self) -> str:
        attempt = self.folder.last_attempt()
        return str(((attempt.outcome() if attempt else None) or {}).get("reason", ""))

    def _ours(self, attempt: AttemptFolder) -> bool:
        """Whether the attempt was started by this task, in any of its restarts."""
        return str(attempt.started().get("job_id", "")) == job_id()

    def _close_predecessor(self) -> None:
        """Close an attempt of this task without an outcome: SLURM must have killed it."""
        attempt = self.folder.last_attempt()
        if attempt and process_rank() == 0 and attempt.outcome() is None and self._ours(attempt):
            attempt.end("interrupted", "SLURM ran the job again")

    def _sign(self) -> None:
        """Record launcher and task in the stage's job."""
        job = read_json(self.job_file) or {}
        names = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT")
        facts = {name.lower(): os.environ[name] for name in names if name in os.environ}
        job["extra"] = {**job.get("extra", {}), "job_id": job_id(), **facts}
        write_json(self.job_file, job)


class Worker:
    """The stages of a cohort in one child process, retried where that makes sense.

    Attributes:
        halves: two groups of the stages if they did not fit into memory together; otherwise empty.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.halves: list[list[Stage]] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False
        self._peak_kb = 0

    def run(self) -> None:
        """Run to the end; run again if the process was killed from outside."""
        while not self._asked_to_end and (stages := self._left()):
            self._start(stages)
            code = self.wait()
            if self._child is not None:
                self._child.wait()
                end_group(self._child.pid)
            self._child = None
            for stage in stages:
                stage.ended(code)
            if code in (0, 1) and not self._asked_to_end:
                for stage in stages:
                    stage.left_without_outcome(code)
            if self._asked_to_end or process_rank() > 0 or (code >= 0 and code != TOO_LARGE):
                return
            if code == TOO_LARGE or self._out_of_memory():
                self._split(code)
                return
            for stage in stages:
                stage.label("interrupted", f"its process was killed by {signal.Signals(-code).name}{stage.crashed()}")

    def _left(self) -> list[Stage]:
        """The stages with attempts left; others fail."""
        return [stage for stage in self.stages if not (stage.done or stage.failed or stage.exhausted())]

    def _start(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            stage.prepare()
        command = [sys.executable, "-c", _CHILD, str(os.getpid()), *(str(stage.job_file) for stage in stages)]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_ignore_warnings)

    def _split(self, code: int) -> None:
        """Handle lack of memory: a single stage fails, several are retried in halves."""
        left = [stage for stage in self.stages if not (stage.done or stage.failed)]
        how = f"killed by {signal.Signals(-code).name} at {self._peak_kb >> 10} MB" if code < 0 else "in its process"
        if len(left) > 1:
            for stage in left:
                stage.label("interrupted", f"out of memory, {how}: retry in a smaller cohort")
            middle = -(-len(left) // 2)
            self.halves = [left[:middle], left[middle:]]
        else:
            for stage in left:
                stage.label("failed", f"out of memory: {how}")

    def wait(self, within_s: float = float("inf")) -> int:
        """Wait for the child to end, and kill it after `within_s`; return its exit code, negative for a signal."""
        child = self._child
        if child is None:
            return 0
        end = time.monotonic() + within_s
        while (code := _exit_code(child)) is None:
            self._peak_kb = max(self._peak_kb, _resident_kb(child.pid))
            if time.monotonic() > end:
                child.kill()
            time.sleep(_POLL_S)
        return code

    def terminate(self) -> None:
        """Ask the child to save a checkpoint and end."""
        self._asked_to_end = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    def _out_of_memory(self) -> bool:
        limit_mb = float(os.environ.get("SLURM_MEM_PER_NODE") or 0)
        return _cgroup_killed() or bool(limit_mb and self._peak_kb / 1024 > _NEARLY_ALL * limit_mb)


def _ignore_warnings() -> None:
    """Ignore SLURM's warning signals in the child, whose default action is to terminate it."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _exit_code(child: subprocess.Popen[bytes]) -> int | None:
    """A child's exit code, negative for a signal, None while it runs.

    Unlike `Popen.poll`, this takes no lock, so a signal handler may call it while another call is interrupted.
    """
    try:
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return child.returncode if child.returncode is not None else -signal.SIGKILL
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def process_rank() -> int:
    return int(os.environ.get("SLURM_PROCID", "0"))


def job_id() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def _resident_kb(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) >> 10
    except psutil.Error:
        return 0


def _cgroup_killed() -> bool:
    """Whether the kernel has killed a process of this job's control group for lack of memory."""
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
        events = (Path("/sys/fs/cgroup") / own / "memory.events").read_text()
    except OSError:
        return False
    found = re.search(r"^oom_kill (\d+)", events, re.MULTILINE)
    return bool(found and int(found[1]) and "job_" in own)
