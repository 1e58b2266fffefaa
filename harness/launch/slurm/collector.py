"""The job that updates the database at the end of a submission: its status."""

from __future__ import annotations

from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.queue import RUNNING, TERMINAL, JobState
from harness.launch.slurm.submissions import Submission, read_submissions
from harness.workspace.files import read_json
from harness.workspace.folders import Workspace
from harness.workspace.status import StageStatus, State

OUTCOME_FILE = "collected.json"
"""File in a submission's folder with the outcome of its last collecting job."""


def latest_collecting(workspace: Workspace) -> Submission | None:
    """The latest submission with a collecting job, which also collects the results of earlier ones."""
    return next((found for found in reversed(read_submissions(workspace)) if found.collectors()), None)


def collecting_status(workspace: Workspace) -> StageStatus | None:
    """The status of the latest collecting job, from its own file, then from SLURM; None if there is none."""
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
            return None  # from an older version, whose collecting jobs recorded nothing on success
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
    return State.FAILED, f"job {task} failed: {said.get('reason', '')}; harness retry submits it again"


def _by_slurm(job: JobState | None, task: str) -> tuple[State, str]:
    if job is None:
        return State.LOST, f"SLURM has forgotten job {task}, which recorded no outcome: harness retry submits it again"
    if job.state in RUNNING:
        return State.RUNNING, f"job {task} {job.state.lower()} on {job.node or '?'}"
    if job.state in TERMINAL:
        state = State.INTERRUPTED if job.state in ("CANCELLED", "PREEMPTED", "NODE_FAIL") else State.FAILED
        return state, f"job {task} {job.state.lower()} and recorded no outcome: harness retry submits it again"
    what = "until all stages have ended" if job.reason == "Dependency" else job.reason or "in the queue"
    return State.QUEUED, f"job {task} waits: {what}"
