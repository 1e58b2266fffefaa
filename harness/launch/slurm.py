"""On a cluster: stages as SLURM arrays through submitit. It submits and returns; the last job fills the database."""

from __future__ import annotations

import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.environment import tree_digest
from harness.errors import HarnessError
from harness.job import Job, read_job
from harness.launch import slurm_queue
from harness.launch.base import Launched, Launcher, Options, make_job, refuse_empty
from harness.launch.slurm_arrays import Array, Todo, dependency, describe, make_arrays
from harness.launch.slurm_book import Submission, latest, read_book
from harness.launch.slurm_config import SlurmConfig, make_config, minutes
from harness.launch.slurm_watch import Watch, live_tasks
from harness.status import Listed, StageStatus
from harness.workspace import Workspace, now

if TYPE_CHECKING:
    from harness.plan import Plan

_ALIASES = {
    "gpus_per_run": "gpus",
    "nodes_per_run": "nodes",
    "cpus_per_run": "cpus",
    "memory": "mem",
}
_USUAL_ARRAY = 1001
"""SLURM's own default of MaxArraySize."""
_COLLECT_MIN = 30


class SlurmLauncher(Launcher):
    """Sends stages as arrays: teachers first, each array waiting for its own parents' tasks alone."""

    name = "slurm"
    summary = "a cluster: SLURM arrays through submitit; submits and returns at once"

    def __init__(self) -> None:
        self._watches: dict[Path, Watch] = {}

    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> Launched:
        """Submit the stages and return with the ids of their jobs."""
        refuse_empty(keys)
        config = settings_config(options.settings)
        request = Request(options.workspace, config, plan.id, dict(options.settings), _collect_command(options))
        code = tree_digest()
        device, threads = options.device, options.threads
        if not threads and (device == "cpu" or (device == "auto" and config.gpus == 0)):
            # As on one machine: one thread, so that the result does not depend on where a stage runs.
            threads = 1

        def job(key: str) -> Job:
            node = plan.nodes[key]
            return make_job(plan, node, options, threads=threads, launcher=self.name, code=code)

        return submit(request, _todo(plan, keys), job, _parents(plan))

    def describe(self, plan: Plan, keys: Sequence[str], options: Options) -> str:
        """The arrays that would be sent, and what each waits for."""
        config = settings_config(options.settings)
        todo = _todo(plan, keys)
        queued = live_tasks(options.workspace, keys) if (options.workspace.root / "slurm").is_dir() else {}
        todo = [stage for stage in todo if stage.key not in queued]
        arrays = make_arrays(todo, config, queued, _parents(plan), _largest(config))
        return describe(arrays, {stage.key: stage.name for stage in todo}, config.collect)

    def sent(self, workspace: Workspace) -> Collection[str]:
        """Keys of the stages that were sent to SLURM from this workspace."""
        return self._watch(workspace).keys

    def observe(self, workspace: Workspace, stage: Listed, status: StageStatus) -> StageStatus:
        """What SLURM says of a stage that its files leave open; asked once for all stages."""
        return self._watch(workspace).look(stage, status)

    def _watch(self, workspace: Workspace) -> Watch:
        if workspace.root not in self._watches:
            self._watches[workspace.root] = Watch(workspace)
        return self._watches[workspace.root]


@dataclass
class Request:
    """All of a submission but its stages.

    Attributes:
        sweep: the plan that it belongs to.
        settings: the user's words, for `retry` to begin from.
        collect: the arguments of `harness` that bring the database up to date.
    """

    workspace: Workspace
    config: SlurmConfig
    sweep: str
    settings: dict[str, Any]
    collect: list[str]
    id: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return self.workspace.root.resolve() / "slurm" / self.id


def settings_config(settings: Mapping[str, Any]) -> SlurmConfig:
    """The site's file with the user's settings: `-o time=4:00:00 -o teacher.mem=64G -o sbatch.nice=100`.

    Raises:
        HarnessError: an unknown setting, or a value that does not fit.
    """
    changes: dict[str, Any] = {}
    file: Path | None = None
    for name, value in settings.items():
        head, dot, rest = name.partition(".")
        head = _ALIASES.get(head.replace("-", "_"), head.replace("-", "_"))
        if head == "slurm_config":
            file = Path(str(value))
        elif head == "sbatch" and dot:
            changes.setdefault("sbatch", {})[rest] = value
        elif head in ("setup", "srun") and isinstance(value, str):
            changes[head] = [value] if head == "setup" else shlex.split(value)
        else:
            rest = rest.replace("-", "_")
            changes[f"{head}.{_ALIASES.get(rest, rest)}" if dot else head] = value
    return make_config({n: str(v) if n.endswith("time") else v for n, v in changes.items()}, file)


def submit(
    request: Request, todo: Sequence[Todo], job: Callable[[str], Job], parents: Mapping[str, Sequence[str]]
) -> Launched:
    """Send the stages that are not on their way already.

    Args:
        todo: what to send, parents before children.
        job: key -> its job.
        parents: key -> parents, of every stage known.

    Raises:
        HarnessError: this is no cluster, or sbatch refused; what was sent before stays, and is named.
    """
    queued = live_tasks(request.workspace, [key for stage in todo for key in (stage.key, *stage.parents)])
    fresh = [stage for stage in todo if stage.key not in queued]
    if not fresh:
        return Launched(False, message="all of it is on its way already: harness status --watch")
    arrays = make_arrays(fresh, request.config, queued, parents, _largest(request.config))
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
    return Launched(False, message=_message(request, arrays, submission, len(todo) - len(fresh)))


def _todo(plan: Plan, keys: Iterable[str]) -> list[Todo]:
    nodes = [plan.nodes[key] for key in keys]
    return [Todo(node.key, node.spec.kind, node.name, node.parents) for node in nodes]


def _parents(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {key: node.parents for key, node in plan.nodes.items()}


def _largest(config: SlurmConfig) -> int:
    """Tasks that one array may have. MaxArraySize is one more than the largest index."""
    if config.max_array_size:
        return config.max_array_size
    try:
        found = slurm_queue.controller_setting("MaxArraySize")
    except slurm_queue.Silence:
        found = ""
    return max(1, int(found)) if found.isdigit() else _USUAL_ARRAY


def _collect_command(options: Options) -> list[str]:
    database = options.database
    if "://" not in database:
        database = str(Path(database).resolve())
    return ["collect", "--workspace", str(options.workspace.root.resolve()), "--db", database]


def _write_down(request: Request, arrays: Sequence[Array]) -> Submission:
    """The request, on disk before anything is sent."""
    stages = request.workspace.root.resolve() / "stages"
    submission = Submission(
        request.folder,
        {
            "id": request.id,
            "submitted": now(),
            "sweep": request.sweep,
            "settings": request.settings,
            "concurrent": request.config.concurrent,
            "max_attempts": request.config.max_attempts,
            "collect": request.collect,
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
    """Jobs that run from a copy of the code, if that is asked for; `setup` gets the line that finds it."""
    if not request.config.snapshot:
        return job
    from harness.launch.snapshot import copy_plugins, make_snapshot

    folder = request.workspace.root.resolve() / "snapshots"
    code = make_snapshot(folder)
    # Without this, the folder that the user submits from goes before it: often the very checkout.
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
    """Send the arrays in order, writing down each id as it comes."""
    from submitit.core.utils import DelayedSubmission

    from harness.launch.slurm_submit import ArrayExecutor, batch_parameters
    from harness.launch.slurm_task import StageTask

    executor = ArrayExecutor(request.folder, request.config.python)
    ids: dict[int, str] = {}
    for number, array in enumerate(arrays):
        wanted, limit = array.resources, minutes(array.resources.time)
        flags = wanted.flags() | {"kill-on-invalid-dep": "yes", "requeue": True, "comment": f"harness {request.id}"}
        if waits := dependency(array, ids):
            flags["dependency"] = waits
        srun = list(request.config.srun)
        if wanted.cpus:
            # srun no longer takes this over from sbatch.
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
    """Send the job that brings the database up to date when all others have ended, however they ended."""
    arrays = [job for job in submission.jobs if "array" in job]
    if not request.config.collect or not arrays:
        return
    from submitit.core.utils import DelayedSubmission

    from harness.launch.slurm_submit import ArrayExecutor, batch_parameters
    from harness.launch.slurm_task import CollectTask

    flags = {n: getattr(request.config, n) for n in ("partition", "account", "qos") if getattr(request.config, n)}
    flags |= {"requeue": True, "comment": f"harness {request.id}", **request.config.collect_options}
    flags["dependency"] = f"afterany:{':'.join(job['job'] for job in arrays)}"
    executor = ArrayExecutor(request.folder, request.config.python)
    executor.parameters = batch_parameters(
        flags, time=_COLLECT_MIN, array_parallelism=1, signal_delay_s=60, setup=setup or None
    )
    calls = [DelayedSubmission(CollectTask(), str(request.folder / "request.json"))]
    job, cluster = executor.send(calls, f"collect-{request.id}")
    submission.note(collect=True, job=job, cluster=cluster)


def _message(request: Request, arrays: Sequence[Array], submission: Submission, known: int) -> str:
    lines = []
    for job in submission.jobs:
        if "array" in job:
            array = arrays[job["array"]]
            lines.append(f"{job['job']}: {array.stages} {array.kind}{'s' if array.stages > 1 else ''}")
        else:
            lines.append(f"{job['job']}: brings the database up to date at the end")
    if known:
        lines.append(f"{known} stages were on their way already")
    where = shlex.quote(str(request.workspace.root))
    return "\n".join(["submitted:", *lines, f"look with:  harness status --watch --workspace {where}"])


def _told_what_went(error: HarnessError, submission: Submission) -> HarnessError:
    sent = [job["job"] for job in submission.jobs if "array" in job]
    if not sent:
        return error
    message = f"{error.message}\narrays sent before that, which go on: {', '.join(sent)}"
    return type(error)(message, f"{error.hint}; then harness retry sends the rest")


def resubmit(
    workspace: Workspace, keys: Sequence[str], changes: Mapping[str, Any], collect: list[str] | None = None
) -> Launched:
    """Send stages again that were sent before, with the settings of their last submission and these changes.

    Args:
        keys: parents before children.

    Raises:
        HarnessError: they were never sent, or sbatch refused.
    """
    refuse_empty(keys)
    book = read_book(workspace)
    places = latest(book)
    request_of = {submission.folder: submission.request for submission in book}
    last = next((request_of[places[k].submission] for k in reversed(list(keys)) if k in places), None)
    if last is None and book:
        last = book[-1].request
    if last is None:
        raise HarnessError("nothing was sent to SLURM from this workspace", "run the same harness sweep again")
    settings = {**last["settings"], **changes}
    jobs = {key: read_job(workspace.stage(key).job_file) for key in keys}
    todo = [Todo(key, job.stage.kind, job.name, tuple(job.stage.parents.values())) for key, job in jobs.items()]
    request = Request(workspace, settings_config(settings), last["sweep"], settings, collect or last["collect"])
    code = tree_digest()
    update = {"code": code, "launcher": SlurmLauncher.name, "extra": {}}
    parents = {stage.key: stage.parents for stage in todo}
    return submit(request, todo, lambda key: jobs[key].model_copy(update=update), parents)


def cancel(workspace: Workspace, keys: Sequence[str] | None = None) -> list[str]:
    """Cancel what is queued or running; the tasks that were. The collecting jobs stay, and run when all has ended.

    Args:
        keys: of these stages alone; None for all.

    Raises:
        HarnessError: SLURM does not answer.
    """
    book = read_book(workspace)
    live = live_tasks(workspace, keys, book)
    tasks = sorted(set(live.values()))
    clusters = {place.task: place.cluster for place in latest(book).values()}
    for cluster in sorted({clusters.get(task, "") for task in tasks}):
        slurm_queue.cancel([task for task in tasks if clusters.get(task, "") == cluster], cluster)
    for submission in book:
        own = sorted({place.task for _, place in submission.sent()} & set(tasks))
        if own:
            submission.note(cancelled=own)
    return tasks


def first_site_file() -> dict[str, str]:
    """Defaults for this site, from what `sinfo` and `scontrol show config` say: setting -> value, with a comment each.

    Raises:
        HarnessError: SLURM does not answer.
    """
    try:
        partitions = slurm_queue.call(["sinfo", "--noheader", "--format=%R|%a|%l|%G|%m|%c|%P"])
        array = slurm_queue.controller_setting("MaxArraySize")
    except slurm_queue.Silence as error:
        raise HarnessError(f"SLURM does not answer: {error}", "run this on a login node of the cluster") from error
    rows = [line.split("|") for line in partitions.splitlines() if line.count("|") >= 6]
    up = [row for row in rows if row[1] == "up"] or rows
    if not up:
        raise HarnessError("sinfo lists no partition", "run this on a login node of the cluster")
    with_gpus = [row for row in up if "gpu" in row[3]]
    chosen = next((row for row in with_gpus if row[6].endswith("*")), (with_gpus or up)[0])
    kind = re.search(r"gpu:([A-Za-z]\w*):\d+", chosen[3])
    return {
        "partition": chosen[0],
        "partitions": ", ".join(dict.fromkeys(f"{row[0]} ({row[3]}, limit {row[2]})" for row in up)),
        "limit": chosen[2],
        "gpus": "1" if with_gpus else "0",
        "gpu_type": kind[1] if kind else "",
        "max_array_size": array,
        "python": sys.executable,
    }


__all__ = ["SlurmLauncher", "cancel", "first_site_file", "resubmit", "settings_config", "submit"]
