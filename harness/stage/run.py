"""Run stages from their jobs to their records: a single stage, or several students of one teacher in lock-step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from backbones.base import Network
from harness.data.decoded import decoded
from harness.data.loading import Batch, Loader, training_loader
from harness.errors import HarnessError
from harness.planning.cohorts import unlike
from harness.plugins.method_calls import checked_health
from harness.plugins.registries import METHODS
from harness.stage.context import Context
from harness.stage.largest import evaluate_noise
from harness.stage.member import Member, build_member
from harness.stage.record import conclude, training_record
from harness.stage.shared import Shared, open_shared
from harness.system.devices import usable_cores
from harness.system.memory import out_of_memory
from harness.training.loop import CohortLoop, CohortTooLarge, Interrupted
from harness.training.randomness import derive_seed
from harness.workspace.events import Events
from harness.workspace.files import now
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job
from methods.base import Translator
from results.record import Cost

Left = Callable[[int, BaseException], None]
"""Callback for a stage that ended without a record: its index among the tasks, and the error."""


def run_stages(tasks: Sequence[tuple[Job, AttemptFolder]], should_stop: Callable[[], bool], left: Left) -> None:
    """Train stages to the end, each from its checkpoint if there is one, and write their records.

    Args:
        tasks: students that can be trained together, or one stage of any kind.
        left: called for each stage that fails or is interrupted; the others continue.

    Raises:
        HarnessError: a problem that the user can fix and that concerns all of them (data, a plugin).
        CohortTooLarge: out of memory; fewer stages at once may fit.
    """
    if reason := unlike([job.stage for job, _ in tasks]):
        raise HarnessError(f"these stages cannot be trained together: {reason}", "run them one by one")
    shared = open_shared(tasks[0][0])
    run = _Run(shared, tasks, should_stop, left, now())
    try:
        run.build()
        for place in run.train():
            run.conclude(place)
    finally:
        shared.processes.barrier()
        shared.processes.close()
        for member in run.members.values():
            member.context.events.close()


class _Run:
    """The stages of one call, by index."""

    def __init__(
        self,
        shared: Shared,
        tasks: Sequence[tuple[Job, AttemptFolder]],
        should_stop: Callable[[], bool],
        left: Left,
        started: str,
    ) -> None:
        self.members: dict[int, Member] = {}
        self._shared, self._tasks, self._started = shared, tasks, started
        self._should_stop, self._left = should_stop, left
        self._costs: dict[str, Cost] = {}

    @property
    def _several(self) -> bool:
        return len(self.members) > 1

    def build(self) -> None:
        """Build all stages; those that cannot be built leave the cohort."""
        shared = self._shared
        for place, (job, attempt) in enumerate(self._tasks):
            events = Events(attempt.events if shared.processes.main else None)
            context = Context(job, attempt, shared.dataset, shared.device, shared.processes, events, costs=self._costs)
            events.write("start", name=job.name, device=str(shared.device))
            try:
                member = build_member(context, shared)
                _try_largest(member)
                self.members[place] = member
            except (Exception, SystemExit) as error:
                events.close()
                self._fails(place, error)

    def train(self) -> list[int]:
        """Train all stages; return the indices of those that finished."""
        places = {member.learner: place for place, member in self.members.items()}
        loop = CohortLoop(
            list(places),
            self._shared.teacher,
            self._should_stop,
            self._shared.processes,
            lambda learner, error: self._left(places[learner], error),
        )
        try:
            if loop.training():
                loop.run(make_batches(self._shared, self._tasks[0][0], loop.start))
        except Interrupted as error:
            for learner in loop.alive():
                self._left(places[learner], error)
            return []
        return [places[learner] for learner in loop.alive()]

    def conclude(self, place: int) -> None:
        """Evaluate, measure and write the record of a stage that finished training."""
        member = self.members[place]
        context, progress = member.context, member.learner.progress
        if not context.processes.main:
            return
        if self._several and self._should_stop():
            self._left(place, Interrupted(f"stopped at iteration {progress.iteration}, before its evaluation"))
            return
        try:
            training = training_record(context, progress, member.decision, member.weights)
            if isinstance(member.trained, Translator):
                training.health = self._health(member)
            record = conclude(context, member.trained, progress, training, self._started)
        except (Exception, SystemExit) as error:
            self._fails(place, error)
            return
        context.events.write("done", miou=record.metrics.miou if record.metrics else None)

    def _fails(self, place: int, error: BaseException) -> None:
        """Remove a failed stage from the cohort; if several run out of memory, stop all."""
        if out_of_memory(error) and len(self._tasks) > 1:
            raise CohortTooLarge(f"{len(self._tasks)} students together: {error}") from error
        if self._shared.processes.size > 1:
            raise error
        self._left(place, error)

    def _health(self, member: Member) -> dict[str, float]:
        """The translator's diagnostics on new training batches."""
        context, translator, teacher = member.context, member.trained, self._shared.teacher
        assert isinstance(translator, Translator) and teacher is not None and context.spec.translator is not None
        loader = training_loader(
            context.dataset.split("train"),
            context.spec.recipe,
            mean=teacher.backbone.mean,
            std=teacher.backbone.std,
            seed=derive_seed(context.spec.seed, "health"),
            iterations=1,
        )
        images = next(iter(loader)).images.to(context.device)
        translator.eval()
        teacher.forget()
        with torch.no_grad():
            maps = teacher.maps(images, teacher.backbone, "fp32")
            health = checked_health(METHODS.get(context.spec.translator.method), lambda: translator.health(maps))
        context.events.write("health", **health)
        return health


def _try_largest(member: Member) -> None:
    """Evaluate the largest image before the first iteration, if nobody has tried that here."""
    context, size = member.context, member.context.job.largest_image
    fresh = member.learner.progress.iteration == 0 and member.learner.recipe.iterations > 0
    if size and fresh and context.processes.main and isinstance(member.trained, Network):
        found = evaluate_noise(member, size, 1)
        if found.tiled:
            context.events.write("note", text=f"an image of {size[0]}x{size[1]} is evaluated in tiles, for memory")


def loader_workers(job: Job, device: torch.device, processes: int) -> int:
    """The number of data-loading processes: the requested one; by default 0 on a CPU, which is busy training, and
    with a GPU the stage's share of the cores minus one.

    Args:
        processes: number of processes that train the stage together.
    """
    if job.loader_workers is not None:
        return job.loader_workers
    if device.type == "cpu":
        return 0
    return max(1, usable_cores(sharing=(job.workers_beside + 1) * processes) - 1)


def make_batches(shared: Shared, job: Job, start: int) -> Loader[Batch]:
    """The training batches from an iteration on, equal for all members of the job's cohort."""
    assert shared.reads is not None
    return training_loader(
        decoded(shared.dataset.split("train"), job.stage.dataset, "train"),
        job.stage.recipe,
        mean=shared.reads.mean,
        std=shared.reads.std,
        seed=derive_seed(job.stage.seed, "data"),
        start_iteration=start,
        workers=loader_workers(job, shared.device, shared.processes.size),
        device=shared.device,
        rank=shared.processes.rank,
        world_size=shared.processes.size,
        classes=len(shared.dataset.classes),
    )
