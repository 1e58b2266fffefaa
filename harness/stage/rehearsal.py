"""Trial of a stage on its device: real batches and one evaluation of the largest image; nothing is kept.

Teachers and translators that do not exist yet are stood in for by untrained ones: shapes, memory and time are theirs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter

from backbones.base import Network
from harness.cost.memory import LiveBytes
from harness.errors import HarnessError
from harness.specs.spec import StageSpec
from harness.stage.context import Context
from harness.stage.largest import evaluate_noise
from harness.stage.member import Member, build_member
from harness.stage.run import make_batches
from harness.stage.shared import Shared, open_shared
from harness.system.devices import device_name
from harness.system.memory import out_of_memory
from harness.training.learner import Learner
from harness.training.teacher import Teacher
from harness.workspace.events import Events
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job
from harness.workspace.trials import Trial, TrialJob

_AGAIN_S = 2.0
"""If the first step takes longer than this, in seconds, no second one is timed; the first is a warm-up."""


@dataclass
class Rehearsing:
    """Runs trials of stages one after the other; what they share is loaded once.

    Args:
        parents: key -> what it is.
    """

    parents: Mapping[str, StageSpec]
    _first: Shared | None = None
    _teachers: dict[str, Teacher] = field(default_factory=dict)

    def try_out(self, asked: TrialJob) -> Trial:
        """Two steps of training and one evaluation.

        Raises:
            HarnessError: the stage cannot be run so; the sentence says why and what to do.
        """
        shared = self._shared(asked.job)
        try:
            member = self._member(asked.job, shared)
            trial = Trial(name=asked.job.name, device=device_name(shared.device), device_bytes=_memory(shared.device))
            if member.learner.recipe.iterations:
                trial = trial.model_copy(update=self._train(member, shared))
            if asked.images and isinstance(member.trained, Network):
                found = evaluate_noise(member, asked.image, asked.images)
                trial = trial.model_copy(update={"at_once": found.batch, "tiled": found.tiled})
            return trial
        finally:
            del shared
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _shared(self, job: Job) -> Shared:
        if self._first is None:
            self._first = open_shared(job)
        key = job.stage.parents.get("teacher", "")
        found = Shared(self._first.dataset, self._first.device, self._first.processes)
        if teacher := self._teachers.get(key):
            found.teacher, found._teacher_key = teacher, key
        return found

    def _member(self, job: Job, shared: Shared) -> Member:
        # Compiling takes minutes and changes neither shapes nor, by much, memory.
        recipe = job.stage.recipe.model_copy(update={"compile": False})
        job = job.model_copy(
            update={"stage": job.stage.model_copy(update={"recipe": recipe}), "loader_workers": 0},
        )
        attempt = AttemptFolder(Path(job.workspace) / "checks" / "trials" / "0")
        context = Context(job, attempt, shared.dataset, shared.device, shared.processes, Events(None), self.parents)
        member = build_member(context, shared)
        if shared.teacher is not None:
            self._teachers = {job.stage.parents["teacher"]: shared.teacher}
        return member

    def _train(self, member: Member, shared: Shared) -> dict[str, float | int]:
        """A step, and a second one that is timed unless the first took long."""
        learner, teacher = member.learner, shared.teacher
        batch = next(iter(make_batches(shared, member.context.job, 0))).to(shared.device)
        try:
            began = time.perf_counter()
            with _most_bytes(shared.device) as most:
                _step(learner, batch, teacher)
            share = learner.share(0.0, 1, 0.0)
            if time.perf_counter() - began < _AGAIN_S:
                _step(learner, batch, teacher)
                share = learner.share(0.0, 1, 0.0)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            recipe = learner.recipe
            crop = "x".join(str(side) for side in recipe.crop)
            raise HarnessError(
                f"memory runs out in training, with a batch of {recipe.batch_size} crops of {crop}",
                f"the same batch in more parts (--set accumulate={2 * recipe.accumulate}), "
                f"--set batch_size={max(1, recipe.batch_size // 2)}, a smaller crop, or --set precision=bf16",
            ) from None
        return {
            "own_ms": 1000 * share.own,
            "teacher_ms": 1000 * share.teacher,
            "held_bytes": _held(learner),
            "step_bytes": most[0],
            "teacher_bytes": _bytes(teacher.network.parameters()) if teacher is not None else 0,
        }


def _step(learner: Learner, batch: object, teacher: Teacher | None) -> None:
    if teacher is not None:
        teacher.forget()
    learner.step(batch, teacher)  # type: ignore[arg-type]
    learner.read()  # waits for the device


@contextmanager
def _most_bytes(device: torch.device) -> Iterator[list[int]]:
    """Peak memory of the block in bytes, beyond what was allocated before; known when it has ended."""
    most = [0]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield most
        most[0] = torch.cuda.max_memory_allocated(device) - before
        return
    with LiveBytes() as live:
        yield most
    most[0] = live.peak


def _held(learner: Learner) -> int:
    """Bytes that stay allocated between steps."""
    optimizers = [learner.optimizer, *(optimizer for *_, optimizer in learner.discriminators)]
    states = [value for each in optimizers for value in tree_iter(list(each.state.values()))]
    return _bytes([*learner.objective.parameters(), *learner.objective.buffers(), *states])


def _bytes(values: Iterable[object]) -> int:
    storages = [value.untyped_storage() for value in values if isinstance(value, Tensor)]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return 0
