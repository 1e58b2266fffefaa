"""What a SLURM job runs: the workers of its stages, one after the other or at once, kept alive through time limits.

submitit starts `StageTask` in every process of a job, and asks it for a checkpoint before a time limit or a preemption.
The pickle that it travels in holds the path of a JSON file and two numbers. Nothing heavy is imported: the training
happens in `python -m harness.worker`, a child process that is asked to save itself and end.
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

from harness.launch import slurm_queue
from harness.workspace import AttemptFolder, StageFolder, read_json, write_json

DONE, FAILED, INTERRUPTED = 0, 1, 3
"""Exit codes of a worker."""
_CHILD = """
import sys
from pathlib import Path
from harness.worker import main
raise SystemExit(main(Path(sys.argv[1]), capture=True, parent_pid=int(sys.argv[2])))
"""
_POLL_S = 0.1
_GRACE_S = 20.0
"""Seconds that a worker has to save itself when SLURM ends its job for good; sites seldom give more than thirty."""
_NEARLY_ALL = 0.85
"""Share of a job's memory above which a killed worker is taken to have died of it."""


class GivenUp(RuntimeError):
    """A job's stages did not all come to their end; submitit writes the sentence down."""


class StageTask:
    """The callable of a job. It keeps nothing between calls but the paths that it is called with."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._told = ""
        self._printed_before = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_workers": [], "_told": "", "_printed_before": 0}

    def __call__(self, request_file: str, array: int, task: int) -> None:
        """Run the stages of one task.

        Raises:
            GivenUp: one of them failed, or was stopped and will not be tried again in this job.
        """
        request = json.loads(Path(request_file).read_bytes())
        self._printed_before = _log_size()
        signal.signal(signal.SIGTERM, self._terminated)
        _distributed_environment()
        self._workers = [_Worker(Path(f), request) for f in request["arrays"][array]["tasks"][task]["jobs"]]
        if request["concurrent"]:
            for worker in self._workers:
                worker.start()
        for worker in self._workers:
            if self._told:
                break
            worker.run()
        self._conclude()

    def checkpoint(self, request_file: str, array: int, task: int) -> Any:
        """Ask the workers to save themselves; what submitit is to run after the requeue, None to give up."""
        from submitit.helpers import DelayedSubmission

        request = json.loads(Path(request_file).read_bytes())
        limit_min = request["arrays"][array]["minutes"]
        timed_out = _elapsed_s() > limit_min * 60 - request["arrays"][array]["signal_s"] - 90
        self._told = "timeout" if timed_out else "preempted"
        self._stop_workers(request["arrays"][array]["signal_s"] - 5)
        self._label(self._told, "the time limit of the job came near" if timed_out else "another job took its place")
        if all(worker.done for worker in self._workers):
            raise SystemExit(0)
        if any(worker.exhausted() for worker in self._workers):
            return None
        return DelayedSubmission(StageTask(), request_file, array, task)

    def _terminated(self, *_: object) -> None:
        """SLURM ends the job: hand it on. Why, is asked when the workers have saved themselves."""
        self._told = self._told or "terminated"
        for worker in self._workers:
            worker.terminate()

    def _stop_workers(self, within_s: float) -> None:
        """Ask the workers to save themselves; those that take too long go on from an older checkpoint."""
        for worker in self._workers:
            worker.terminate()
        end = time.monotonic() + within_s
        for worker in self._workers:
            worker.wait(max(0.5, end - time.monotonic()))

    def _label(self, outcome: str, reason: str) -> None:
        for worker in self._workers:
            worker.label(outcome, reason)

    def _conclude(self) -> None:
        """Say how it ended. A job that SLURM ends for good, though its stages could go on, is put back in the queue."""
        if self._told == "terminated":
            self._stop_workers(_GRACE_S)
            self._after_termination()
        failed = [worker.sentence for worker in self._workers if not worker.done]
        if failed:
            raise GivenUp("; ".join(failed))

    def _after_termination(self) -> None:
        if all(worker.done for worker in self._workers):
            return
        outcome, reason, ended_for_good = _why_terminated(self._printed_before)
        self._label(outcome, reason)
        if ended_for_good and not any(worker.exhausted() for worker in self._workers):
            _requeue()


def _why_terminated(printed_before: int) -> tuple[str, str, bool]:
    """Why SLURM sent SIGTERM: (outcome, reason, SLURM will not run the job again though it should).

    The controller calls a job that is being ended COMPLETING, whatever the cause; the step's daemon prints the cause.

    Args:
        printed_before: bytes of the job's log that an earlier run of it had written.
    """
    cause = read_cause(_log_since(printed_before))
    state, preempted = ("", False) if cause else slurm_queue.own_state(os.environ.get("SLURM_JOB_ID", ""))
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
    """Why a step was ended, as its daemon prints it: "TIME LIMIT", "PREEMPTION", ...; "CANCELLED" when by a user."""
    found = re.findall(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?: DUE TO (.+?))? \*\*\*", printed)
    return (found[-1] or "CANCELLED") if found else ""


def _log_file() -> Path:
    return Path(os.environ.get("SUBMITIT_FOLDER", ".")) / f"{_job_id()}_{_rank()}_log.err"


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


class _Worker:
    """One stage in a child process, tried again where that makes sense."""

    def __init__(self, job_file: Path, request: dict[str, Any]) -> None:
        self.job_file, self._request = job_file, request
        self.folder = StageFolder(job_file.parent)
        self.sentence = f"{self.folder.key} did not run"
        self._child: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False
        self._peak_kb = 0

    @property
    def done(self) -> bool:
        """Its record is there."""
        return self.folder.done()

    def start(self) -> None:
        """Start the child, once."""
        if self._child is None and not self._asked_to_end and not self.done:
            self._close_predecessor()
            if _rank() == 0:
                self._sign()
            command = [sys.executable, "-c", _CHILD, str(self.job_file), str(os.getpid())]
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_ignore_warnings
            )

    def run(self) -> None:
        """Run to the end, again after a death that was not the stage's own fault."""
        while not self.done and not self._asked_to_end:
            if self._spent():
                self._give_up(self._last_reason())
                return
            self.start()
            code = self.wait()
            if self._child is not None:
                self._child.wait()
            self._child = None
            if code >= 0 or self._asked_to_end or _rank() > 0:
                return
            name = signal.Signals(-code).name
            if self._out_of_memory():
                self.label("failed", f"out of memory: killed by {name} at {self._peak_kb >> 10} MB")
                return
            self.label("interrupted", f"its process was killed by {name}")

    def wait(self, within_s: float = float("inf")) -> int:
        """Wait for the child to end, and end it when it takes too long; its exit code, negative for a signal."""
        child = self._child
        if child is None:
            return 0
        end = time.monotonic() + within_s
        while (code := _exit_code(child)) is None:
            self._peak_kb = max(self._peak_kb, _resident_kb(child.pid))
            if time.monotonic() > end:
                child.kill()
            time.sleep(_POLL_S)
        self.sentence = f"{self.folder.key} {self._last_reason() or f'ended with code {code}'}"
        return code

    def terminate(self) -> None:
        """Ask the child to save itself and end."""
        self._asked_to_end = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    def label(self, outcome: str, reason: str) -> None:
        """Say of the latest attempt how it ended, unless it came to its own end."""
        attempt = self.folder.last_attempt()
        if self.done or attempt is None or _rank() > 0 or not self._ours(attempt):
            return
        if (attempt.outcome() or {}).get("outcome") not in ("done", "failed"):
            attempt.end(outcome, reason)
            self.sentence = f"{self.folder.key} {reason}"

    def exhausted(self) -> bool:
        """It has had all its attempts under this submission; says so in the last one."""
        if self.done or not self._spent():
            return False
        self._give_up(self._last_reason())
        return True

    def _spent(self) -> bool:
        begun = [a for a in self.folder.attempts() if a.started().get("started", "") >= self._request["submitted"]]
        return len(begun) >= self._request["max_attempts"]

    def _give_up(self, why: str) -> None:
        attempt = self.folder.last_attempt()
        if attempt and _rank() == 0 and (attempt.outcome() or {}).get("outcome") != "failed":
            attempt.end("failed", f"given up after {self._request['max_attempts']} attempts; the last: {why}")
        self.sentence = f"{self.folder.key} {self._last_reason()}"

    def _last_reason(self) -> str:
        attempt = self.folder.last_attempt()
        return str(((attempt.outcome() if attempt else None) or {}).get("reason", ""))

    def _ours(self, attempt: AttemptFolder) -> bool:
        """The attempt was begun by this job (this task of it, in whichever of its restarts)."""
        return str(attempt.started().get("job_id", "")) == _job_id()

    def _close_predecessor(self) -> None:
        """An attempt of this very task that ended without a word: SLURM has killed it, or it would not run us."""
        attempt = self.folder.last_attempt()
        if attempt and _rank() == 0 and attempt.outcome() is None and self._ours(attempt):
            attempt.end("interrupted", "SLURM ran the job again")

    def _sign(self) -> None:
        """Write into the stage's job who runs it and where."""
        job = read_json(self.job_file) or {}
        names = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT")
        facts = {name.lower(): os.environ[name] for name in names if name in os.environ}
        job["extra"] = {**job.get("extra", {}), "job_id": _job_id(), **facts}
        write_json(self.job_file, job)

    def _out_of_memory(self) -> bool:
        limit_mb = float(os.environ.get("SLURM_MEM_PER_NODE") or 0)
        return _cgroup_killed() or bool(limit_mb and self._peak_kb / 1024 > _NEARLY_ALL * limit_mb)


def _ignore_warnings() -> None:
    """In a child before it becomes a worker: SLURM warns every process of a step, and the default is to die of it."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _exit_code(child: subprocess.Popen[bytes]) -> int | None:
    """A child's exit code, negative for a signal, None while it runs.

    Unlike `Popen.poll` this may be asked by a signal handler that has interrupted another one asking: no lock is held.
    """
    try:
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return child.returncode if child.returncode is not None else -signal.SIGKILL
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _rank() -> int:
    return int(os.environ.get("SLURM_PROCID", "0"))


def _job_id() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def _requeue() -> None:
    with contextlib.suppress(slurm_queue.Silence):
        slurm_queue.call(["scontrol", "requeue", _job_id()])


def _elapsed_s() -> float:
    """Seconds since this process began, which is when the job's step began."""
    import psutil

    return time.time() - float(psutil.Process().create_time())


def _resident_kb(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _cgroup_killed() -> bool:
    """The kernel has killed a process of this job's control group for want of memory."""
    try:
        own = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
        events = (Path("/sys/fs/cgroup") / own / "memory.events").read_text()
    except OSError:
        return False
    found = re.search(r"^oom_kill (\d+)", events, re.MULTILINE)
    return bool(found and int(found[1]) and "job_" in own)


def _distributed_environment() -> None:
    """Tell several processes of one run of each other, as submitit sees them, in torch's variables."""
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
        # Each process sees its own GPU alone, so that the first one is the right one everywhere.
        os.environ["CUDA_VISIBLE_DEVICES"] = own[there.local_rank % len(own)]


def _visible_devices() -> Iterator[str]:
    yield from (word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word)


def _address(node: str) -> str:
    """A node's address: its name where that resolves, else what SLURM knows of it."""
    try:
        socket.getaddrinfo(node, None)
        return node
    except OSError:
        pass
    try:
        found = re.search(r"NodeAddr=(\S+)", slurm_queue.call(["scontrol", "show", "node", node]))
    except slurm_queue.Silence:
        return node
    return found[1] if found else node


class CollectTask:
    """The last job of a submission: brings the database up to date."""

    def __call__(self, request_file: str) -> None:
        """Run `harness collect`.

        Raises:
            GivenUp: it failed.
        """
        request = json.loads(Path(request_file).read_bytes())
        command = [sys.executable, "-m", "harness", *request["collect"]]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if code:
            raise GivenUp(f"harness collect ended with code {code}")

    def checkpoint(self, request_file: str) -> Any:
        """Collecting is idempotent: begin again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(CollectTask(), request_file)
