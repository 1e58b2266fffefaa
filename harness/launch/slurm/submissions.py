"""What was sent to SLURM, as the workspace remembers it.

WORKSPACE/slurm/<submission>/   request.json  the arrays: tasks, stages, resources; written before anything is sent
                                jobs.jsonl    a line for each array that SLURM took, with its id
                                *_log.out, *_log.err, *_submitted.pkl, *_submission.sh   submitit's own
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.workspace.files import read_json, write_json
from harness.workspace.folders import Workspace


@dataclass(frozen=True)
class SubmittedTask:
    """Where a stage was sent.

    Attributes:
        task: SLURM's id of the array task: "12_0".
        submitted: when, ISO 8601.
        shared: other stages share the job.
    """

    submission: Path
    task: str
    cluster: str
    submitted: str
    kind: str
    shared: bool = False
    minutes: int = 0

    @property
    def array(self) -> str:
        """The id of the whole array."""
        return self.task.partition("_")[0]

    def logs(self, kind: str) -> list[Path]:
        """What the job's processes printed ("out", "err") outside of their stages' own logs, if anything yet."""
        found: list[Path] = []
        while (file := self.submission / f"{self.task}_{len(found)}_log.{kind}").is_file():
            found.append(file)
        return found


@dataclass
class Submission:
    """One folder of the submissions."""

    folder: Path
    request: dict[str, Any]
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def sent(self) -> Iterator[tuple[str, SubmittedTask]]:
        """(key, where it was sent) of every stage that SLURM took."""
        for job in self.jobs:
            if "array" not in job:
                continue
            array = self.request["arrays"][job["array"]]
            for index, task in enumerate(array["tasks"]):
                place = SubmittedTask(
                    self.folder,
                    f"{job['job']}_{index}",
                    job.get("cluster", ""),
                    self.request["submitted"],
                    array["kind"],
                    len(task["stages"]) > 1,
                    array["minutes"],
                )
                yield from ((key, place) for key in task["stages"])

    def collectors(self) -> list[tuple[str, str]]:
        """(job, cluster) of the jobs that bring the database up to date."""
        return [(job["job"], job.get("cluster", "")) for job in self.jobs if job.get("collect")]

    def cancelled(self) -> set[str]:
        """Tasks that the user has cancelled."""
        return {task for job in self.jobs for task in job.get("cancelled", [])}

    def note(self, **job: Any) -> None:
        """Remember that SLURM took an array, at once and on disk."""
        self.jobs.append(job)
        with (self.folder / "jobs.jsonl").open("a") as file:
            file.write(json.dumps(job) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def save_request(self) -> None:
        """Write down what is about to be sent. Only the user may read it: a database's address may hold a password."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "request.json", self.request, private=True)


def read_submissions(workspace: Workspace) -> list[Submission]:
    """All submissions, oldest first; those that cannot be read are left out."""
    found = []
    folder = workspace.root / "slurm"
    for file in sorted(folder.glob("*/request.json")):
        request = read_json(file)
        if isinstance(request, dict):
            found.append(Submission(file.parent, request, _job_lines(file.with_name("jobs.jsonl"))))
    return sorted(found, key=lambda s: s.request.get("submitted", ""))


def _job_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole."""
    jobs = []
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            jobs.append(json.loads(line))
        except ValueError:
            continue
    return jobs


def latest(submissions: list[Submission]) -> dict[str, SubmittedTask]:
    """Key -> where the stage was sent last."""
    return {key: place for submission in submissions for key, place in submission.sent()}
