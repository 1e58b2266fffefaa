"""The job that brings the database up to date at the end of a submission: how it stands, and sending it again."""

from __future__ import annotations

from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.queue import RUNNING, TERMINAL, JobState
from harness.launch.slurm.submissions import Submission, read_submissions
from harness.workspace.files import read_json
from harness.workspace.folders import Workspace
from harness.workspace.status import StageStatus, State

OUTCOME_FILE = "collected.json"
"""In a submission's folder: how its last collecting job ended, by its own word."""


def latest_collecting(workspace: Workspace) -> Submission | None:
    """The latest submission that has a collecting job: it collects what all before it left."""
    return next((found for found in reversed(read_submissions(workspace)) if found.collectors()), None)


def collecting_status(workspace: Workspace) -> StageStatus | None:
    """How the latest collecting job stands: its own word first, SLURM's second; None when there is none."""
    submission = latest_collecting(workspace)
    if submission is None:
        return None
    job, cluster = submission.collectors()[-1]
    task = f"{job}_0"
    state, reason = _own_word(submission, task)
    if state is None:
        answer = slurm_queue.ask([(job, cluster)])
        if answer.silence:
            state, reason = State.UNKNOWN, f"unknown since {submission.request['submitted']}: {answer.silence}"
        elif (known := answer.of(task)) is None and not submission.request.get("collector_tells"):
            return None  # sent by an older version, whose collecting jobs said nothing when they ended well
        else:
            state, reason = _by_slurm(known, task)
    name = "collecting the results"
    return StageStatus(f"collect-{job}", name, "collect", state, reason, job=task)


def _own_word(submission: Submission, task: str) -> tuple[State | None, str]:
    said = read_json(submission.folder / OUTCOME_FILE)
    if not isinstance(said, dict) or said.get("task") != task:
        return None, ""
    if said.get("outcome") == "done":
        return State.DONE, ""
    return State.FAILED, f"job {task} failed: {said.get('reason', '')}; harness retry sends it again"


def _by_slurm(job: JobState | None, task: str) -> tuple[State, str]:
    if job is None:
        return State.LOST, f"SLURM has forgotten job {task}, which left no word: harness retry sends it again"
    if job.state in RUNNING:
        return State.RUNNING, f"job {task} {job.state.lower()} on {job.node or '?'}"
    if job.state in TERMINAL:
        state = State.INTERRUPTED if job.state in ("CANCELLED", "PREEMPTED", "NODE_FAIL") else State.FAILED
        return state, f"job {task} {job.state.lower()} without a word: harness retry sends it again"
    what = "until all stages have ended" if job.reason == "Dependency" else job.reason or "in the queue"
    return State.QUEUED, f"job {task} waits: {what}"
