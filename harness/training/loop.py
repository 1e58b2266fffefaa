"""The training loop: learners in lock-step over the same batches, with one teacher pass for all. Often there is one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch

from harness.data.loading import Batch
from harness.errors import StageFailed
from harness.system.memory import out_of_memory
from harness.system.waiting import StoppedWaiting
from harness.training.distributed import Processes
from harness.training.learner import Learner
from harness.training.prefetch import on_device
from harness.training.teacher import Teacher

CHECK_EVERY = 10
"""Iterations between reads of the losses on a GPU, each of which synchronises. On a CPU they are read every time."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is saved."""


class CohortTooLarge(Exception):
    """Memory ran out while several stages were trained together; smaller cohorts may fit."""


class CohortLoop:
    """Trains learners together. Each takes its step on every batch in turn, so that memory is needed for one student's
    step and the teacher's maps. Learners do not affect each other: each ends with the weights of a separate run.

    Args:
        learners: the learners; those that are behind catch up first.
        teacher: their teacher, if any of them needs one.
        should_stop: called after every step; if true, all are saved and `Interrupted` is raised.
        processes: the processes that train each of them together.
        left: called with a learner that failed, and the error.

    Attributes:
        failed: learner -> error. The others continued.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        teacher: Teacher | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        processes: Processes | None = None,
        left: Callable[[Learner, BaseException], None] = lambda learner, error: None,
    ) -> None:
        self.learners, self.teacher = list(learners), teacher
        self.failed: dict[Learner, BaseException] = {}
        self._should_stop, self._processes, self._left = should_stop, processes or Processes(), left
        self._together = len(self.learners) > 1
        self._asked = False
        self._began = 0.0
        device = self.learners[0].device if self.learners else torch.device("cpu")
        self._look_every = 1 if device.type == "cpu" else CHECK_EVERY

    @property
    def start(self) -> int:
        """The first iteration for which a batch is needed: that of the learner furthest behind."""
        return min(learner.progress.iteration for learner in self.training())

    def run(self, batches: Iterable[Batch]) -> None:
        """Train to the end.

        Args:
            batches: from iteration `start`.

        Raises:
            Interrupted: asked to stop; the checkpoints are saved.
            CohortTooLarge: memory ran out; all checkpoints are saved except that of the learner in whose step it did.
        """
        if not self.training():
            return
        iteration = self.start
        self._began = time.perf_counter()
        for batch in self._arriving(batches):
            self._iterate(batch, iteration)
            iteration += 1
            self._after(iteration)
            if not self.training():
                break

    def _arriving(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches. On a stop request during a wait, all learners are saved, since they are between iterations."""
        try:
            yield from on_device(batches, self.learners[0].device)
        except StoppedWaiting:
            self._look()
            self._save(self.alive())
            iteration = min((learner.progress.iteration for learner in self.alive()), default=0)
            raise Interrupted(f"stopped at iteration {iteration}, waiting for data") from None

    def training(self) -> list[Learner]:
        """The learners with iterations left."""
        return [learner for learner in self.learners if learner not in self.failed and not learner.ended]

    def alive(self) -> list[Learner]:
        """The learners that have not failed."""
        return [learner for learner in self.learners if learner not in self.failed]

    def _iterate(self, batch: Batch, iteration: int) -> None:
        """A step of every learner at this iteration, until asked to stop; the others catch up later."""
        if self.teacher is not None:
            self.teacher.forget()
        for learner in self.training():
            if learner.progress.iteration != iteration or (self._asked and self._processes.size == 1):
                continue
            self._guarded(learner, partial(learner.step, batch, self.teacher, copy=self._together))
            if self._processes.size == 1:
                self._asked = self._asked or self._should_stop()

    def _after(self, iteration: int) -> None:
        """Work between iterations: reading losses, evaluations, checkpoints, the end."""
        if self._processes.size > 1:
            self._asked = self._processes.any(self._should_stop(), self.learners[0].device)
        here = [learner for learner in self.alive() if learner.progress.iteration == iteration and learner.pending]
        due = any(
            learner.ended or learner.saves or learner.validates or len(learner.pending) >= self._look_every
            for learner in here
        )
        if due or self._asked:
            self._look()
        for learner in here:
            if learner not in self.failed and learner.validates:
                self._guarded(learner, learner.validate)
        if self._asked and (self._together or self.training()):
            self._save(self.alive())
            raise Interrupted(f"stopped at iteration {iteration}")
        # Learners that have ended wait for each other's evaluation, so their weights are saved first.
        self._save([each for each in here if each.saves or (each.ended and self._together)])
        if due:
            self._began = time.perf_counter()

    def _look(self) -> None:
        """Read the results of the latest steps and distribute their time."""
        wall = time.perf_counter() - self._began
        here = [learner for learner in self.alive() if learner.pending]
        passes = sum(piece.seconds for piece in self.teacher.passes) if self.teacher is not None else 0.0
        if self.teacher is not None:
            self.teacher.passes.clear()
        rest = max(0.0, wall - passes - sum(learner.step_seconds() for learner in here))
        for learner in here:
            share = learner.share(rest, len(here), wall)
            self._guarded(learner, partial(learner.look, share), agreed=True)
        if self._processes.size > 1:
            self._agree(here)

    def _agree(self, learners: Sequence[Learner]) -> None:
        """Remove a learner that failed in one process from all processes."""
        for learner in learners:
            if self._processes.any(learner in self.failed, learner.device) and learner not in self.failed:
                self._leave(learner, StageFailed("it failed in another process"))

    def _guarded(self, learner: Learner, act: Callable[[], None], agreed: bool = False) -> None:
        """Run an action for one learner; if it raises, that learner leaves and the others continue.

        Args:
            agreed: whether all processes agree on failures afterwards. Otherwise the others would wait forever, so all
                must end.
        """
        try:
            act()
        except (Exception, SystemExit) as error:
            if self._processes.size > 1 and not agreed:
                raise
            if out_of_memory(error) and len(self.alive()) > 1:
                self._save([each for each in self.alive() if each is not learner])
                raise CohortTooLarge(f"{len(self.alive())} students together: {_first_line(error)}") from error
            self._leave(learner, error)

    def _leave(self, learner: Learner, error: BaseException) -> None:
        self.failed[learner] = error
        self._left(learner, error)

    def _save(self, learners: Sequence[Learner]) -> None:
        for learner in learners:
            if learner in self.failed:
                continue
            try:
                learner.save()
            except Exception as error:
                self._leave(learner, error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
