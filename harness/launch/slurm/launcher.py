"""Run stages on a cluster, as SLURM arrays through submitit. It submits and returns; a final job fills the database."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import HarnessError
from harness.launch.base import Launcher, LaunchResult, Options, make_job, refuse_empty
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.arrays import describe, make_arrays
from harness.launch.slurm.checks import slurm_checks
from harness.launch.slurm.collector import collecting_status, latest_collecting
from harness.launch.slurm.config import NAME, SlurmConfig, memory_bytes, minutes, settings_config
from harness.launch.slurm.observer import Watch, live_tasks
from harness.launch.slurm.site import site_facts, site_text
from harness.launch.slurm.submissions import latest, read_submissions
from harness.launch.slurm.submit import Request, largest_array, send_collector, submit
from harness.system.checks import Check
from harness.system.code import tree_digest
from harness.workspace.folders import Workspace
from harness.workspace.job import Job, read_job
from harness.workspace.status import PlannedStage, StageStatus

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.specs.spec import StageSpec


USUAL_PLACES = 8
"""Assumed number of concurrent cohorts if `max_parallel` is not set."""
_OF_THE_LIMIT = 0.8
"""Fraction of a job's time limit available to the estimated training and evaluation of a cohort; the rest is for
start-up, checks and what the estimate misses."""


_OF_MEMORY = 0.9
"""Fraction of a device's memory that a cohort may use by its measurements; the rest is fragmentation and libraries."""
_INTERPRETER_BYTES = 1 << 30
"""Main memory that Python and its libraries take in each job."""


class SlurmLauncher(Launcher):
    """Submits stages as arrays: teachers first; each array depends only on the tasks of its parents."""

    name = NAME
    summary = "a SLURM cluster: job arrays through submitit; submits and returns at once"
    Settings = SlurmConfig
    flags: ClassVar = {
        "partition": ("--partition", "-p"),
        "gpus": ("--gpus-per-run",),
        "nodes": ("--nodes-per-run",),
        "time": ("--time",),
        "mem": ("--mem",),
        "max_parallel": ("--max-parallel",),
        "snapshot": ("--snapshot",),
        "config": ("--slurm-config",),
    }

    def __init__(self) -> None:
        self._watches: dict[Path, Watch] = {}
        self._largest: tuple[int, int] | None = None

    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Submit the stages and return the ids of their jobs."""
        refuse_empty(keys)
        config = settings_config(options.settings)
        kept = _kept(options.settings)
        request = Request(options.workspace, config, plan.id, kept, _collect_command(options), options.cohort)
        code = tree_digest()
        threads = _threads(options, config)

        def job(key: str) -> Job:
            node = plan.nodes[key]
            largest = node.spec.recipe.eval_size or self._largest if node.spec.kind != "translator" else None
            changes = {"threads": threads, "launcher": self.name, "code": code, "largest_image": largest}
            return make_job(plan, node, options, **changes)

        return submit(request, _todo(plan, keys), job, _parents(plan), lambda fresh: self.cohorts(plan, fresh, options))

    def rehearse(
        self, plan: Plan, keys: Sequence[str], options: Options, images: Sequence[tuple[int, int]]
    ) -> list[str]:
        """Rehearse each network and each method in a separate job, if the settings ask for it, and wait for it."""
        from harness.launch.slurm.probe import run_probe
        from harness.launch.trials import plan_trials
        from harness.workspace.trials import remember_stages

        config = settings_config(options.settings)
        if not config.rehearse:
            # Each job then rehearses its own stages before training.
            self._largest = images[-1] if images else None
            return []
        wanted = config.resources("student")
        place = f"slurm {wanted.partition} {wanted.constraint} {wanted.gpu_type} {wanted.gpus}"
        trials = plan_trials(plan, keys, replace(options, threads=_threads(options, config)), images, place)
        remember_stages(options.workspace, trials.keys)
        count = len(trials.rehearsal.trials)
        if not count:
            return []
        checks = (options.workspace.root / "checks").resolve()
        file = trials.rehearsal.write(checks / f"{time.strftime('%Y%m%d-%H%M%S')}.json")
        trials.expect()
        trials.refuse(run_probe(checks / "jobs", config, file, count, trials.done))
        return trials.notes()

    def cohorts(self, plan: Plan, keys: Sequence[str], options: Options) -> list[tuple[str, ...]]:
        """Students grouped for the maximum number of concurrent tasks, within the time limit and the measured
        memory."""
        from harness.planning.cohorts import make_cohorts
        from harness.planning.estimate import cohort_macs, cohort_work, macs_per_second

        config = settings_config(options.settings)
        places = config.max_parallel or USUAL_PLACES
        rate = macs_per_second(plan, options.workspace)
        largest_macs = _limit_s(config) * rate if rate else math.inf
        specs = {key: node.spec for key, node in plan.nodes.items()}

        def with_evaluation(keys: Sequence[str]) -> float:
            return cohort_work(plan, keys) / (cohort_macs(plan, keys) or 1)

        fits = _within(specs, options.workspace, config, with_evaluation)
        return make_cohorts(plan, keys, options.cohort, places, largest_macs, fits)

    def describe(self, plan: Plan, keys: Sequence[str], options: Options) -> str:
        """The arrays to submit, with their dependencies."""
        config = settings_config(options.settings)
        todo = _todo(plan, keys)
        queued = live_tasks(options.workspace, keys) if (options.workspace.root / "slurm").is_dir() else {}
        todo = [stage for stage in todo if stage.key not in queued]
        grouped = self.cohorts(plan, [stage.key for stage in todo], options)
        arrays = make_arrays(todo, config, queued, _parents(plan), largest_array(config), grouped)
        return describe(arrays, {stage.key: stage.name for stage in todo}, config.collect)

    def settings(self, given: Mapping[str, Any]) -> SlurmConfig:
        """The site's file with the user's settings: `time`, `teacher.time` for one kind, `sbatch.nice` for one flag."""
        return settings_config(given)

    def cancel(self, workspace: Workspace, keys: Sequence[str] | None = None) -> list[str]:
        """Cancel queued and running tasks and return them. The collecting jobs stay, and run when all jobs have ended.

        Raises:
            HarnessError: SLURM does not answer.
        """
        submissions = read_submissions(workspace)
        live = live_tasks(workspace, keys, submissions)
        tasks = sorted(set(live.values()))
        clusters = {place.task: place.cluster for place in latest(submissions).values()}
        for cluster in sorted({clusters.get(task, "") for task in tasks}):
            slurm_queue.cancel([task for task in tasks if clusters.get(task, "") == cluster], cluster)
        for submission in submissions:
            own = sorted({place.task for _, place in submission.sent()} & set(tasks))
            if own:
                submission.note(cancelled=own)
        return tasks

    def resubmit(self, workspace: Workspace, keys: Sequence[str], changes: Mapping[str, Any]) -> LaunchResult:
        """Submit stages again, with the settings of their last submission and these changes.

        Raises:
            HarnessError: they were never submitted, or sbatch refused.
        """
        from harness.planning.cohorts import group_alike, largest_cohort

        refuse_empty(keys)
        submissions = read_submissions(workspace)
        places = latest(submissions)
        request_of = {submission.folder: submission.request for submission in submissions}
        last = next((request_of[places[k].submission] for k in reversed(list(keys)) if k in places), None)
        if last is None and submissions:
            last = submissions[-1].request
        if last is None:
            raise HarnessError("nothing was submitted to SLURM from this workspace", "run the same harness sweep again")
        settings = {**last["settings"], **_kept({self.setting_name(n): v for n, v in changes.items()})}
        jobs = {key: read_job(workspace.stage(key).job_file) for key in keys}
        specs = {key: job.stage for key, job in jobs.items()}
        todo = [PlannedStage(k, job.name, job.stage.kind, tuple(job.stage.parents.values())) for k, job in jobs.items()]
        choice = last.get("cohort", "auto")
        config = settings_config(settings)
        request = Request(workspace, config, last["sweep"], settings, last["collect"], choice)
        update = {"code": tree_digest(), "launcher": self.name, "extra": {}}
        parents = {stage.key: stage.parents for stage in todo}
        most, fits = largest_cohort(choice), _within(specs, workspace, config)

        def cohorts(fresh: Sequence[str]) -> list[tuple[str, ...]]:
            return group_alike({key: specs[key] for key in fresh}, most, fits)

        return submit(request, todo, lambda key: jobs[key].model_copy(update=update), parents, cohorts)

    def collecting(self, workspace: Workspace) -> list[StageStatus]:
        """The status of the latest submission's collecting job."""
        status = collecting_status(workspace)
        return [status] if status else []

    def collect_again(self, workspace: Workspace, changes: Mapping[str, Any]) -> LaunchResult:
        """Submit the latest submission's collecting job again.

        Raises:
            HarnessError: there was none, or its database cannot be opened from here either.
        """
        from harness.launch.preflight import check_database

        submission = latest_collecting(workspace)
        if submission is None:
            raise HarnessError("there is no collecting job", "run harness collect")
        last = submission.request
        check_database(last["collect"][last["collect"].index("--db") + 1])
        settings = {**last["settings"], **_kept({self.setting_name(n): v for n, v in changes.items()})}
        config = settings_config(settings)
        request = Request(workspace, config, last["sweep"], settings, last["collect"], id=submission.folder.name)
        job = send_collector(request, submission, list(config.setup))
        return LaunchResult(False, message=f"submitted:\n{job}: updates the database")

    def logs(self, workspace: Workspace, key: str) -> list[Path]:
        """The output of the stage's latest job outside the stage's own log."""
        place = latest(read_submissions(workspace)).get(key)
        return [*place.logs("out"), *place.logs("err")] if place else []

    def checks(self) -> Iterator[Check]:
        """Check SLURM's commands, and whether the controller responds."""
        return slurm_checks()

    def site_file(self) -> str:
        """A template for this site, from `sinfo` and `scontrol show config`."""
        return site_text(site_facts())

    def sent(self, workspace: Workspace) -> Collection[str]:
        """Keys of the stages that were submitted to SLURM from this workspace."""
        return self._watch(workspace).keys

    def observe(self, workspace: Workspace, stage: PlannedStage, status: StageStatus) -> StageStatus:
        """Refine a stage's status by SLURM's, which is queried once for all stages."""
        return self._watch(workspace).look(stage, status)

    def _watch(self, workspace: Workspace) -> Watch:
        if workspace.root not in self._watches:
            self._watches[workspace.root] = Watch(workspace)
        return self._watches[workspace.root]


def _threads(options: Options, config: SlurmConfig) -> int:
    """CPU threads of a stage: one, as with the local launcher, so that results do not depend on where it runs."""
    on_cpu = options.device == "cpu" or (options.device == "auto" and config.gpus == 0)
    return options.threads or (1 if on_cpu else 0)


def _limit_s(config: SlurmConfig) -> float:
    """Seconds that the training of a cohort may take."""
    return 60 * minutes(config.resources("student").time) * _OF_THE_LIMIT


def _within(
    specs: Mapping[str, StageSpec],
    workspace: Workspace,
    config: SlurmConfig,
    with_evaluation: Callable[[Sequence[str]], float] = lambda keys: 1.0,
) -> Callable[[Sequence[str]], bool]:
    """Whether students fit together into a job's time and memory, as measured in the rehearsal; yes where it was not.

    The memory of a job counts for stages that were rehearsed on a CPU; on a GPU, that of the device does.

    Args:
        with_evaluation: the time of students together with their evaluations, relative to that of their training.
    """
    from harness.workspace.trials import cohort_bytes, cohort_ms, stage_trial

    limit_s, memory = _limit_s(config), memory_bytes(config.resources("student").mem)
    trials = {key: stage_trial(workspace, key) for key in specs}

    def fits(keys: Sequence[str]) -> bool:
        known = [trial for key in keys if (trial := trials[key]) is not None and not trial.problem]
        if len(known) < len(keys):
            return True
        iterations = specs[keys[0]].recipe.iterations
        room = known[0].device_bytes or max(0, memory - _INTERPRETER_BYTES if memory else 0)
        in_time = iterations * cohort_ms(known) / 1000 * with_evaluation(keys) <= limit_s
        return in_time and (not room or cohort_bytes(known) <= _OF_MEMORY * room)

    return fits


def _todo(plan: Plan, keys: Iterable[str]) -> list[PlannedStage]:
    nodes = [plan.nodes[key] for key in keys]
    return [PlannedStage(node.key, node.name, node.spec.kind, node.parents) for node in nodes]


def _parents(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {key: node.parents for key, node in plan.nodes.items()}


def _collect_command(options: Options) -> list[str]:
    database = options.database
    if "://" not in database:
        database = str(Path(database).resolve())
    return ["collect", "--workspace", str(options.workspace.root.resolve()), "--db", database]


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as saved in a submission, with absolute paths, since `retry` may be called from another folder."""
    files = ("config", "slurm_config")
    return {name: str(Path(str(v)).resolve()) if name in files else v for name, v in settings.items()}
