"""Submit the stages of a plan: arrays, the collecting job, and the records of the submission."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.launch.base import LaunchResult
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.arrays import Array, dependency, make_arrays
from harness.launch.slurm.config import SlurmConfig, minutes
from harness.launch.slurm.observer import live_tasks
from harness.launch.slurm.submissions import Submission
from harness.workspace.files import now
from harness.workspace.folders import Workspace
from harness.workspace.job import Job
from harness.workspace.status import PlannedStage

_USUAL_ARRAY = 1001
"""SLURM's default of MaxArraySize."""


_COLLECT_MIN = 30


@dataclass
class Request:
    """A submission without its stages.

    Attributes:
        sweep: the plan that it belongs to.
        settings: the user's settings, from which `retry` starts; likewise `cohort`.
        collect: the arguments of `harness` that update the database.
    """

    workspace: Workspace
    config: SlurmConfig
    sweep: str
    settings: dict[str, Any]
    collect: list[str]
    cohort: str = "auto"
    id: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")

    @property
    def folder(self) -> Path:
        """The folder of the submission."""
        return self.workspace.root.resolve() / "slurm" / self.id


def submit(
    request: Request,
    todo: Sequence[PlannedStage],
    job: Callable[[str], Job],
    parents: Mapping[str, Sequence[str]],
    cohorts: Callable[[Sequence[str]], Sequence[tuple[str, ...]]] = lambda keys: (),
) -> LaunchResult:
    """Submit the stages that are not queued or running already.

    Args:
        todo: the stages to submit, parents before children.
        job: key -> job.
        parents: key -> parents, of every known stage.
        cohorts: groups the stages to submit.

    Raises:
        HarnessError: this is not a cluster, or sbatch refused; arrays submitted before are kept and named.
    """
    queued = live_tasks(request.workspace, [key for stage in todo for key in (stage.key, *stage.parents)])
    fresh = [stage for stage in todo if stage.key not in queued]
    if not fresh:
        return LaunchResult(False, message="all stages are queued or running already: harness status --watch")
    grouped = cohorts([stage.key for stage in fresh])
    arrays = make_arrays(fresh, request.config, queued, parents, largest_array(request.config), grouped)
    submission = _write_down(request, arrays)
    setup = list(request.config.setup)
    prepared = _with_snapshot(request, job, setup)
    for stage in fresh:
        prepared(stage.key).write(durable=False)
    try:
        _send(request, arrays, submission, setup)
    except HarnessError as error:
        _add_collector(request, submission, setup)
        raise _told_what_went(error, submission) from error
    _add_collector(request, submission, setup)
    return LaunchResult(False, message=_message(request, arrays, submission, len(todo) - len(fresh)))


def largest_array(config: SlurmConfig) -> int:
    """The maximum number of tasks in an array. MaxArraySize is one more than the largest index."""
    if config.max_array_size:
        return config.max_array_size
    try:
        found = slurm_queue.controller_setting("MaxArraySize")
    except slurm_queue.SlurmUnavailable:
        found = ""
    return max(1, int(found)) if found.isdigit() else _USUAL_ARRAY


def _write_down(request: Request, arrays: Sequence[Array]) -> Submission:
    """Save the request before submission."""
    stages = request.workspace.root.resolve() / "stages"
    submission = Submission(
        request.folder,
        {
            "id": request.id,
            "submitted": now(),
            "sweep": request.sweep,
            "settings": request.settings,
            "cohort": request.cohort,
            "max_attempts": request.config.max_attempts,
            "collect": request.collect,
            "collector_tells": True,
            "arrays": [
                {
                    "kind": array.kind,
                    "minutes": minutes(array.resources.time),
                    "signal_s": request.config.signal_s(minutes(array.resources.time)),
                    "tasks": [
                        {"stages": list(task), "jobs": [str(stages / key / "job.json") for key in task]}
                        for task in array.tasks
                    ],
                }
                for array in arrays
            ],
        },
    )
    submission.save_request()
    return submission


def _with_snapshot(request: Request, job: Callable[[str], Job], setup: list[str]) -> Callable[[str], Job]:
    """Make jobs run from a copy of the code if requested; `setup` gets the line that finds it."""
    if not request.config.snapshot:
        return job
    from harness.launch.snapshot import copy_plugins, make_snapshot

    folder = request.workspace.root.resolve() / "snapshots"
    code = make_snapshot(folder)
    # Otherwise the current folder, often the checkout, would come first on the path.
    setup.append("export PYTHONSAFEPATH=1")
    setup.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
    copied: dict[Any, Any] = {}

    def with_copies(key: str) -> Job:
        made = job(key)
        if made.plugins not in copied:
            copied[made.plugins] = copy_plugins(folder / "plugins", made.plugins)
        return made.model_copy(update={"plugins": copied[made.plugins]})

    return with_copies


def _send(request: Request, arrays: Sequence[Array], submission: Submission, setup: list[str]) -> None:
    """Submit the arrays in order, and record each id at once."""
    from submitit.core.utils import DelayedSubmission

    from harness.launch.slurm.executor import ArrayExecutor, batch_parameters
    from harness.launch.slurm.task import StageTask

    executor = ArrayExecutor(request.folder, request.config.python)
    ids: dict[int, str] = {}
    for number, array in enumerate(arrays):
        wanted, limit = array.resources, minutes(array.resources.time)
        flags = wanted.flags() | {"kill-on-invalid-dep": "yes", "requeue": True, "comment": f"harness {request.id}"}
        if waits := dependency(array, ids):
            flags["dependency"] = waits
        srun = list(request.config.srun)
        if wanted.cpus:
            # srun no longer inherits this from sbatch.
            srun.append(f"--cpus-per-task={wanted.cpus}")
            flags["cpus-per-task"] = wanted.cpus
        parameters = batch_parameters(
            flags,
            time=limit,
            nodes=wanted.nodes,
            ntasks_per_node=wanted.processes_per_node,
            array_parallelism=array.throttle or len(array.tasks),
            signal_delay_s=request.config.signal_s(limit),
            setup=setup or None,
            srun_args=srun or None,
        )
        executor.parameters = parameters
        calls = [
            DelayedSubmission(StageTask(), str(request.folder / "request.json"), number, index)
            for index in range(len(array.tasks))
        ]
        ids[number], cluster = executor.send(calls, f"{array.kind}-{request.id}.{number}")
        submission.note(array=number, job=ids[number], cluster=cluster)


def _add_collector(request: Request, submission: Submission, setup: list[str]) -> None:
    """Submit the job that updates the database when all others have ended, with any outcome."""
    arrays = [job["job"] for job in submission.jobs if "array" in job]
    if request.config.collect and arrays:
        send_collector(request, submission, setup, arrays)


def send_collector(request: Request, submission: Submission, setup: list[str], after: Sequence[str] = ()) -> str:
    """Submit the job that updates the database; return its id.

    Args:
        after: arrays that must have ended first, with any outcome.
    """
    from submitit.core.utils import DelayedSubmission

    from harness.launch.slurm.executor import ArrayExecutor, batch_parameters
    from harness.launch.slurm.task import CollectTask

    flags = {n: getattr(request.config, n) for n in ("partition", "account", "qos") if getattr(request.config, n)}
    flags |= {"requeue": True, "comment": f"harness {request.id}", **request.config.collect_options}
    if after:
        flags["dependency"] = f"afterany:{':'.join(after)}"
    executor = ArrayExecutor(request.folder, request.config.python)
    executor.parameters = batch_parameters(
        flags, time=_COLLECT_MIN, array_parallelism=1, signal_delay_s=60, setup=setup or None
    )
    calls = [DelayedSubmission(CollectTask(), str(request.folder / "request.json"))]
    job, cluster = executor.send(calls, f"collect-{request.id}")
    submission.note(collect=True, job=job, cluster=cluster)
    return job


def _message(request: Request, arrays: Sequence[Array], submission: Submission, known: int) -> str:
    lines = []
    for job in submission.jobs:
        if "array" in job:
            array = arrays[job["array"]]
            lines.append(f"{job['job']}: {array.stages} {array.kind}{'s' if array.stages > 1 else ''}")
        else:
            lines.append(f"{job['job']}: updates the database at the end")
    if known:
        lines.append(f"{known} stages were queued or running already")
    where = shlex.quote(str(request.workspace.root))
    return "\n".join(["submitted:", *lines, f"follow with:  harness status --watch --workspace {where}"])


def _told_what_went(error: HarnessError, submission: Submission) -> HarnessError:
    sent = [job["job"] for job in submission.jobs if "array" in job]
    if not sent:
        return error
    message = f"{error.message}\narrays submitted before, which are kept: {', '.join(sent)}"
    return type(error)(message, f"{error.hint}; then harness retry submits the rest")
