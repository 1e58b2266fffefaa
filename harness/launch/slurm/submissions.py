"""Records of submissions to SLURM in the workspace.

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
    """The SLURM task of a submitted stage.

    Attributes:
        task: SLURM's id of the array task: "12_0".
        submitted: time of submission, ISO 8601.
        shared: whether other stages share the job.
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
        """Existing log files of the job's processes ("out", "err"), outside their stages' own logs."""
        found: list[Path] = []
        while (file := self.submission / f"{self.task}_{len(found)}_log.{kind}").is_file():
            found.append(file)
        return found


@dataclass
class Submission:
    """The folder of one submission."""

    folder: Path
    request: dict[str, Any]
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def sent(self) -> Iterator[tuple[str, SubmittedTask]]:
        """(key, task) of every stage that SLURM accepted."""
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
        """(job, cluster) of the jobs that update the database."""
        return [(job["job"], job.get("cluster", "")) for job in self.jobs if job.get("collect")]

    def cancelled(self) -> set[str]:
        """Tasks that the user has cancelled."""
        return {task for job in self.jobs for task in job.get("cancelled", [])}

    def note(self, **job: Any) -> None:
        """Append an array that SLURM accepted to the file, at once."""
        self.jobs.append(job)
        with (self.folder / "jobs.jsonl").open("a") as file:
            file.write(json.dumps(job) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def save_request(self) -> None:
        """Save the request before submission, readable by the user only: a database URL may contain a password."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "request.json", self.request, private=True)


def read_submissions(workspace: Workspace) -> list[Submission]:
    """All submissions, oldest first; unreadable ones are skipped."""
    found = []
    folder = workspace.root / "slurm"
    for file in sorted(folder.glob("*/request.json")):
        request = read_json(file)
        if isinstance(request, dict):
            found.append(Submission(file.parent, request, _job_lines(file.with_name("jobs.jsonl"))))
    return sorted(found, key=lambda s: s.request.get("submitted", ""))


def _job_lines(file: Path) -> list[dict[str, Any]]:
    """The complete lines of a file."""
    jobs = []
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            jobs.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return jobs


def latest(submissions: list[Submission]) -> dict[str, SubmittedTask]:
    """Key -> the stage's latest task."""
    return {key: place for submission in submissions for key, place in submission.sent()}
