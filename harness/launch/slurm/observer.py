"""The state of stages submitted to SLURM: from their files first, then from SLURM. Read-only."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.queue import RUNNING, TERMINAL, WAITING, Answer, JobState
from harness.launch.slurm.submissions import Submission, SubmittedTask, latest, read_submissions
from harness.workspace.files import read_json
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.status import PlannedStage, StageStatus, State, stage_state

_last_answer: dict[Path, float] = {}
"""Time of SLURM's last answer to this process, by workspace."""
_MEMORY = re.compile(r"oom.?kill|out.of.memory|exceeded (job )?memory limit|memory limit at some point", re.IGNORECASE)
_NO_SPACE = re.compile(r"No space left|Disk quota exceeded", re.IGNORECASE)
_HINTS = {
    "TIMEOUT": "the time limit was reached: harness retry --time",
    "OUT_OF_MEMORY": "out of memory: harness retry --mem",
    "NODE_FAIL": "the node failed: harness retry",
    "BOOT_FAIL": "the node did not start: harness retry",
    "PREEMPTED": "another job took its place: harness retry",
    "DEADLINE": "its deadline passed: harness retry",
    "CANCELLED": "cancelled: harness retry",
    "REVOKED": "taken back by the federation: harness retry",
}


def live_tasks(
    workspace: Workspace, keys: Iterable[str] | None = None, submissions: list[Submission] | None = None
) -> dict[str, str]:
    """Key -> SLURM task, of stages that are queued or running.

    Args:
        keys: only these stages; None for all.

    Raises:
        HarnessError: SLURM does not answer.
    """
    submissions = read_submissions(workspace) if submissions is None else submissions
    places = latest(submissions)
    wanted = places if keys is None else {key: places[key] for key in keys if key in places}
    open_ = {key: place for key, place in wanted.items() if not workspace.stage(key).done()}
    if not open_:
        return {}
    answer = slurm_queue.ask({(place.array, place.cluster) for place in open_.values()})
    if answer.silence:
        raise HarnessError(f"SLURM does not answer: {answer.silence}", "try again, on a login node of the cluster")
    return {key: place.task for key, place in open_.items() if _alive(answer.of(place.task))}


def _alive(job: JobState | None) -> bool:
    return job is not None and job.state not in TERMINAL and job.reason != "DependencyNeverSatisfied"


class Watch:
    """Status of the stages of a workspace, parents first, with a single query of SLURM."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._book = read_submissions(workspace)
        self._places = latest(self._book)
        self._cancelled = {task for submission in self._book for task in submission.cancelled()}
        self._answer: Answer | None = None
        self._found: dict[str, StageStatus] = {}

    @property
    def keys(self) -> Collection[str]:
        """The submitted stages."""
        return self._places.keys()

    def look(self, stage: PlannedStage, status: StageStatus) -> StageStatus:
        """The state of a stage, given the state by its own files."""
        place = self._places.get(stage.key)
        if place is None or (status.state is State.FAILED and not self._sent_since(stage.key, place)):
            found = status
        else:
            found = self._by_slurm(stage, replace(status, job=place.task), place)
        self._found[stage.key] = found
        return found

    def _sent_since(self, key: str, place: SubmittedTask) -> bool:
        """Whether the stage was submitted again after its latest attempt had failed."""
        attempt = self._workspace.stage(key).last_attempt()
        ended = ((attempt.outcome() if attempt else None) or {}).get("ended", "")
        return bool(place.submitted > ended)

    def _ask(self) -> Answer:
        if self._answer is None:
            # A single query for all stages, of which there may be ten thousand.
            self._answer = slurm_queue.ask({(place.array, place.cluster) for place in self._places.values()})
            if not self._answer.silence:
                _last_answer[self._workspace.root] = time.time()
        return self._answer

    def _by_slurm(self, stage: PlannedStage, status: StageStatus, place: SubmittedTask) -> StageStatus:
        answer = self._ask()
        if answer.silence:
            return replace(status, state=State.UNKNOWN, reason=f"unknown since {self._since(place)}: {answer.silence}")
        job = answer.of(place.task)
        if job is None:
            return self._forgotten(stage, status, place)
        if job.state in WAITING:
            return self._waiting(stage, status, place, job)
        if job.state in RUNNING:
            return self._running(status, place, job)
        if job.state in TERMINAL:
            return self._over(stage, status, place, job)
        return replace(status, state=State.UNKNOWN, reason=f"job {place.task} is {job.state}")

    def _since(self, place: SubmittedTask) -> str:
        known = _last_answer.get(self._workspace.root)
        return datetime.fromtimestamp(known, UTC).isoformat(timespec="seconds") if known else place.submitted

    def _waiting(self, stage: PlannedStage, status: StageStatus, place: SubmittedTask, job: JobState) -> StageStatus:
        if job.reason == "DependencyNeverSatisfied":
            return self._blocked(stage, status) or replace(status, state=State.BLOCKED, reason="a parent ended badly")
        again = f", attempt {status.attempts + 1}" if status.attempts else ""
        what = "for its parents" if job.reason == "Dependency" else job.reason or "in the queue"
        return replace(status, state=State.QUEUED, reason=f"job {place.task} waits: {what}{again}")

    def _running(self, status: StageStatus, place: SubmittedTask, job: JobState) -> StageStatus:
        where = f"job {place.task} {job.state.lower()} on {job.node or '?'}"
        begun = self._begun_at(status.key)
        if status.state is State.LOST and begun > job.since > 0:
            return replace(status, reason=f"{status.reason}; {where}")
        if place.shared and status.state is State.WAITING:
            return replace(status, state=State.QUEUED, reason=f"{where}; waits for its turn in it")
        return replace(status, state=State.QUEUED, reason=f"{where}; starting")

    def _begun_at(self, key: str) -> float:
        attempt = self._workspace.stage(key).last_attempt()
        try:
            return datetime.fromisoformat(attempt.started()["started"]).timestamp() if attempt else 0.0
        except (KeyError, ValueError):
            return 0.0

    def _over(self, stage: PlannedStage, status: StageStatus, place: SubmittedTask, job: JobState) -> StageStatus:
        if blocked := self._blocked(stage, status):
            return blocked
        own = status.reason if status.state is State.INTERRUPTED else ""
        if job.state == "COMPLETED":
            return replace(status, state=State.LOST, reason=f"job {place.task} ended well but left no record")
        if job.state == "OUT_OF_MEMORY" or _MEMORY.search(printed := self._printed(place)):
            return replace(status, state=State.FAILED, reason=f"out of memory (job {place.task}): harness retry --mem")
        if job.state in _HINTS:
            text = f"{own}; " if own else ""
            return replace(status, state=State.INTERRUPTED, reason=f"{text}job {place.task}: {_HINTS[job.state]}")
        if _NO_SPACE.search(printed):
            return replace(status, state=State.FAILED, reason=f"the disk is full (job {place.task})")
        why = own or _last_line(printed) or job.reason
        return replace(status, state=State.FAILED, reason=f"job {place.task} failed: {why}")

    def _forgotten(self, stage: PlannedStage, status: StageStatus, place: SubmittedTask) -> StageStatus:
        """The state of a stage whose job SLURM has forgotten: without accounting, minutes after its end."""
        if place.task in self._cancelled:
            return replace(status, state=State.INTERRUPTED, reason=f"job {place.task}: {_HINTS['CANCELLED']}")
        if blocked := self._blocked(stage, status):
            return blocked
        printed = self._printed(place)
        if _MEMORY.search(printed):
            return replace(status, state=State.FAILED, reason=f"out of memory (job {place.task}): harness retry --mem")
        if status.state is State.INTERRUPTED:
            return replace(status, reason=f"{status.reason}; SLURM has forgotten job {place.task}: harness retry")
        why = f": {line}" if (line := _last_line(printed)) else ""
        return replace(status, state=State.LOST, reason=f"SLURM has forgotten job {place.task}{why}; harness retry")

    def _blocked(self, stage: PlannedStage, status: StageStatus) -> StageStatus | None:
        """The blocked status, if a parent is neither done nor queued or running."""
        for parent in stage.parents:
            folder = self._workspace.stage(parent)
            if folder.done():
                continue
            seen = self._found.get(parent)
            state, reason = (seen.state, seen.reason) if seen else stage_state(folder)[:2]
            if state in (State.FAILED, State.BLOCKED, State.LOST, State.INTERRUPTED):
                name = seen.name if seen else _name(folder)
                why = reason if state is State.BLOCKED else f"{name} {state}: {reason}"
                return replace(status, state=State.BLOCKED, reason=why)
        return None

    def _printed(self, place: SubmittedTask) -> str:
        """The end of the job's output outside its stages' own logs."""
        text = ""
        for kind in ("err", "out"):
            for file in place.logs(kind):
                text += _tail(file)
        return text


def _name(folder: StageFolder) -> str:
    return str((read_json(folder.job_file) or {}).get("name", folder.key))


def _tail(file: Path, most: int = 4096) -> str:
    try:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - most))
            return opened.read().decode(errors="replace")
    except OSError:
        return ""


def _last_line(text: str) -> str:
    """The last informative line of a log."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("submitit")]
    return lines[-1][:300] if lines else ""
