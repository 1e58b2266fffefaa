"""The state of jobs, parsed from `squeue`, `sacct` and `scontrol`; failures and invalid output are no answers.

The scheduler's state is only a hint; the records decide.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.errors import HarnessError

TIMEOUT_S = 30.0
"""Time limit of one SLURM command, in seconds."""
_BATCH = 400
"""Maximum number of job ids in one command line."""

_SHORT = {
    "PD": "PENDING",
    "R": "RUNNING",
    "CG": "COMPLETING",
    "CD": "COMPLETED",
    "CF": "CONFIGURING",
    "CA": "CANCELLED",
    "F": "FAILED",
    "TO": "TIMEOUT",
    "NF": "NODE_FAIL",
    "OOM": "OUT_OF_MEMORY",
    "PR": "PREEMPTED",
    "BF": "BOOT_FAIL",
    "DL": "DEADLINE",
    "S": "SUSPENDED",
    "RQ": "REQUEUED",
    "RH": "REQUEUE_HOLD",
    "SE": "SPECIAL_EXIT",
    "RV": "REVOKED",
}
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
"""States of a job that is waiting to start or restart."""
RUNNING = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}
)
"""States of a job that has a node."""
TERMINAL = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "REVOKED",
    }
)
"""Final states of a job."""


@dataclass(frozen=True)
class JobState:
    """SLURM's state of one job or array task.

    Attributes:
        state: full name without suffixes: PENDING, RUNNING, CANCELLED.
        reason: SLURM's reason: Priority, DependencyNeverSatisfied, NonZeroExitCode.
        since: start time in seconds since the epoch; 0 if unknown.
    """

    state: str
    reason: str = ""
    node: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Answer:
    """SLURM's answer about a set of jobs.

    Attributes:
        states: task ("12_0", or "12" for a job without tasks) -> its state. Unknown tasks are absent.
        silence: why SLURM did not answer; empty if it did.
        truncated: arrays ("12") whose list of pending tasks SLURM truncated.
    """

    states: dict[str, JobState] = field(default_factory=dict)
    silence: str = ""
    truncated: frozenset[str] = frozenset()
    accounting: bool = False

    def of(self, task: str) -> JobState | None:
        """The state of a task; None if SLURM does not know it."""
        found = self.states.get(task)
        if found is None and task.partition("_")[0] in self.truncated:
            return JobState("PENDING", "array")
        return found


def plain_state(text: str) -> str:
    """The normalised name of a state: "CANCELLED by 0" and "CANCELLED+" are CANCELLED, "PD" is PENDING."""
    word = text.strip().split(" ")[0].rstrip("+*").upper()
    return _SHORT.get(word, word)


def expand(job: str) -> tuple[list[str], bool]:
    """The tasks in a job id, and whether the list was truncated: "12_[4,7-8%1]" is 12_4, 12_7 and 12_8.

    An invalid id gives no tasks.
    """
    whole = re.fullmatch(r"(\d+)(?:_(\d+))?(?:\+\d+)?", job)
    if whole:
        return [f"{whole[1]}_{whole[2]}" if whole[2] is not None else whole[1]], False
    found = re.match(r"(\d+)_\[([^\]]*)", job)
    if not found:
        return [], False
    text = found[2].split("%")[0]
    tasks: list[str] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
        if ends:
            first, last, step = int(ends[1]), int(ends[2] or ends[1]), int(ends[3] or 1)
            tasks += [f"{found[1]}_{i}" for i in range(first, last + 1, max(1, step))]
    return tasks, "..." in job or "]" not in job


class SlurmUnavailable(Exception):
    """SLURM did not answer, or reported an error."""


def call(command: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """The output of a SLURM command.

    Raises:
        SlurmUnavailable: it is not installed, took too long, or failed.
    """
    # Without this, long lists of pending tasks are truncated at 64 characters.
    env = {**os.environ, "SLURM_BITSTR_LEN": "0", "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout_s, env=env, check=False, errors="replace"
        )
    except FileNotFoundError as error:
        raise SlurmUnavailable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(f"{command[0]} did not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise SlurmUnavailable(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise SlurmUnavailable(f"{command[0]}: {said[:300]}")
    return done.stdout


def ask(jobs: Iterable[tuple[str, str]], timeout_s: float = TIMEOUT_S) -> Answer:
    """The states of arrays and jobs, from `squeue`, and from `sacct` for those that `squeue` has forgotten.

    Args:
        jobs: (id of array or job, without task; cluster, "" if there is only one).
    """
    by_cluster: dict[str, list[str]] = {}
    for job, cluster in jobs:
        by_cluster.setdefault(cluster, []).append(job)
    states: dict[str, JobState] = {}
    cut: set[str] = set()
    accounting = False
    try:
        for cluster, ids in by_cluster.items():
            for start in range(0, len(ids), _BATCH):
                part = list(dict.fromkeys(ids[start : start + _BATCH]))
                found, truncated = _squeue(part, cluster, timeout_s)
                known = {task.partition("_")[0] for task in found}
                past, answered = _sacct([i for i in part if i not in known], cluster, timeout_s)
                accounting = accounting or answered
                states |= past | found
                cut |= truncated
    except SlurmUnavailable as error:
        return Answer(silence=str(error))
    return Answer(states, "", frozenset(cut), accounting)


def _squeue(ids: list[str], cluster: str, timeout_s: float) -> tuple[dict[str, JobState], set[str]]:
    """States of the jobs that the controller still knows."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%i|%T|%S|%N|%r"]
    if cluster:
        command.insert(1, f"--clusters={cluster}")
    try:
        text = call(command, timeout_s)
    except SlurmUnavailable as error:
        if "Invalid job id" in str(error):
            # In some versions one forgotten id fails the whole query: query one by one.
            return _one_by_one(ids, cluster, timeout_s) if len(ids) > 1 else ({}, set())
        raise
    return read_squeue(text)


def _one_by_one(ids: list[str], cluster: str, timeout_s: float) -> tuple[dict[str, JobState], set[str]]:
    states: dict[str, JobState] = {}
    cut: set[str] = set()
    for job in ids:
        found, truncated = _squeue([job], cluster, timeout_s)
        states |= found
        cut |= truncated
    return states, cut


def read_squeue(text: str) -> tuple[dict[str, JobState], set[str]]:
    """States from squeue's `%i|%T|%S|%N|%r` lines, and the arrays with truncated lists. Other lines are skipped."""
    states: dict[str, JobState] = {}
    cut: set[str] = set()
    for line in text.splitlines():
        parts = line.strip().split("|", 4)
        if len(parts) < 2:
            continue
        parts += [""] * (5 - len(parts))
        tasks, truncated = expand(parts[0])
        state = plain_state(parts[1])
        if not state:
            continue
        seen = JobState(state, parts[4].strip("() "), parts[3], _seconds(parts[2]))
        for task in tasks:
            # A federation lists a job once per sibling cluster; copies are REVOKED.
            if state != "REVOKED" or task not in states:
                states[task] = seen
        if truncated and tasks:
            cut.add(tasks[0].partition("_")[0])
    return states, cut


def _sacct(ids: list[str], cluster: str, timeout_s: float) -> tuple[dict[str, JobState], bool]:
    """States of ended jobs, and whether there is accounting. Its absence is not an error."""
    if not ids or not shutil.which("sacct"):
        return {}, False
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(ids)}"]
    command += ["--format=JobID,State,Start,NodeList,Reason"]
    if cluster:
        command.insert(1, f"--clusters={cluster}")
    try:
        return read_sacct(call(command, timeout_s)), True
    except SlurmUnavailable as error:
        if re.search(r"accounting storage is disabled|is not installed|not running with accounting", str(error), re.I):
            return {}, False
        raise


def read_sacct(text: str) -> dict[str, JobState]:
    """States from sacct's lines; steps and invalid lines are skipped."""
    states: dict[str, JobState] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) < 2 or "." in parts[0]:
            continue
        parts += [""] * (5 - len(parts))
        state = plain_state(parts[1])
        if not state:
            continue
        reason = "" if parts[4] == "None" else parts[4]
        for task in expand(parts[0])[0]:
            states[task] = JobState(state, reason, parts[3], _seconds(parts[2]))
    return states


def _seconds(text: str) -> float:
    """A time printed by SLURM, in seconds since the epoch; 0 for none."""
    if text.isdigit():
        return float(text)
    try:
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0


def controller_setting(name: str, timeout_s: float = TIMEOUT_S) -> str:
    """A value of `scontrol show config`; empty if there is none.

    Raises:
        SlurmUnavailable: SLURM did not answer.
    """
    text = call(["scontrol", "show", "config"], timeout_s)
    found = re.search(rf"^{re.escape(name)}\s*=\s*(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else ""


def job_state(job: str, timeout_s: float = 10.0) -> tuple[str, bool]:
    """The controller's state of a job, queried from inside it: (state, whether its current run was preempted).

    The state is "" if there is no answer.
    """
    try:
        return read_job(call(["scontrol", "show", "--oneliner", "job", job], timeout_s))
    except SlurmUnavailable:
        return "", False


def read_job(text: str) -> tuple[str, bool]:
    """State, and whether the job was preempted since its latest start, from `scontrol show job`."""
    values = dict(re.findall(r"\b(JobState|PreemptTime|StartTime)=(\S+)", text))
    preempted, started = _seconds(values.get("PreemptTime", "")), _seconds(values.get("StartTime", ""))
    return plain_state(values.get("JobState", "")), bool(preempted and preempted >= started)


def cancel(tasks: Sequence[str], cluster: str = "", timeout_s: float = TIMEOUT_S) -> None:
    """Cancel jobs or array tasks; jobs that have ended are not an error.

    Raises:
        HarnessError: SLURM did not answer.
    """
    for start in range(0, len(tasks), _BATCH):
        command = ["scancel", *([f"--clusters={cluster}"] if cluster else []), *tasks[start : start + _BATCH]]
        try:
            call(command, timeout_s)
        except SlurmUnavailable as error:
            if not re.search(r"Invalid job id|already completing|already completed", str(error), re.IGNORECASE):
                raise HarnessError(f"SLURM did not cancel: {error}", "try again") from error
