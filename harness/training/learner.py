"""Training of one stage, step by step: objective, optimisers, progress, checkpoint and events."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import Backbone
from harness.data.loading import Batch
from harness.errors import StageFailed
from harness.numerics.modes import autocast
from harness.specs.spec import Precision, Recipe
from harness.system.guard import guard_process
from harness.system.memory import out_of_memory
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.distributed import process_count
from harness.training.fused import match_layouts
from harness.training.gradients import pulls
from harness.training.objective import WHOLE, Losses, Part, SegmentationObjective
from harness.training.optimizers import (
    discriminators,
    make_discriminator_optimizer,
    make_optimizer,
    parameters_of,
    step_discriminator,
)
from harness.training.progress import STEPS_KEPT, Progress, median
from harness.training.schedule import lr_factor
from harness.training.teacher import Teacher, TeacherMaps
from harness.training.timing import Piece, Share, total
from harness.workspace.events import Events
from results.record import Best


@dataclass
class Control:
    """Checkpointing, validation and monitoring of a run, which do not change its result.

    Attributes:
        checkpoint: file of the checkpoint, or None.
        checkpoint_every: iterations between checkpoints; 0 for only at interruption.
        validate: computes mIoU on the validation split, for `recipe.validate_every`.
        gradients_every: iterations between records of each term's gradient; 0 for none.
    """

    events: Events
    checkpoint: Path | None = None
    checkpoint_every: int = 0
    validate: Callable[[], Best] | None = None
    main_process: bool = True
    gradients_every: int = 0


def _slices(count: int, parts: int) -> list[slice]:
    """Slices of `count` images in at most `parts` consecutive parts of nearly equal size."""
    bounds = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a]


def _added(parts: Sequence[Losses], discriminators: dict[str, Tensor]) -> Losses:
    """The losses of a batch from those of its parts."""
    first, *rest = parts
    total, terms = first.total, dict(first.terms)
    for losses in rest:
        total = total + losses.total
        terms = {name: value + losses.terms[name] for name, value in terms.items()}
    return Losses(total, terms, discriminators)


class Learner:
    """Trains an objective by a recipe, batch by batch, from its checkpoint if there is one.

    Args:
        objective: returns `Losses` for (images, labels, iteration, iterations, teacher's maps, part of the batch).
        wrapped: the wrapped objective to call instead (several processes).
        recipe: training settings.
        device: device of the objective.
        precision, channels_last: as allowed by the numerics guard.
        reads: the backbone for which the batch's images are normalised; needed with a teacher.
    """

    def __init__(
        self,
        objective: nn.Module,
        recipe: Recipe,
        device: torch.device,
        precision: Precision,
        channels_last: bool,
        control: Control,
        wrapped: nn.Module | None = None,
        reads: Backbone | None = None,
    ) -> None:
        self.objective, self.recipe, self.device, self.control = objective, recipe, device, control
        self.call = wrapped or objective
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.precision, self.reads = precision, reads
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.optimizer = make_optimizer(objective, recipe)
        self.discriminators = [
            (m.name, module, make_discriminator_optimizer(m, module)) for m, module in discriminators(objective)
        ]
        self.pending: list[Losses] = []
        self._steps: list[Piece] = []
        self._asked: list[Piece] = []
        self._computed: list[Piece] = []
        self._wall_ms: deque[float] = deque(maxlen=STEPS_KEPT)
        self.progress = Progress()
        self._restore()
        self.call.train()

    @property
    def ended(self) -> bool:
        """Whether all iterations are done."""
        return self.progress.iteration >= self.recipe.iterations

    @property
    def needs_teacher(self) -> bool:
        """Whether its objective reads a teacher's maps."""
        return bool(getattr(self.objective, "needs_teacher", False))

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is due."""
        every = self.control.checkpoint_every
        return bool(every) and self.progress.iteration % every == 0 and not self.ended

    @property
    def validates(self) -> bool:
        """Whether an evaluation on the validation split is due."""
        every = self.recipe.validate_every
        return bool(every and self.control.validate) and self.progress.iteration % every == 0

    def step(self, batch: Batch, teacher: Teacher | None, copy: bool = False) -> None:
        """Take one step on a batch; the losses are kept until `look`.

        Args:
            copy: copy the batch, because others share it and third-party code may modify it.

        Raises:
            StageFailed: a method's code raised.
        """
        with Piece(self.device) as copying:
            images = batch.images.to(self.device, memory_format=self.layout, copy=copy)
            labels = batch.labels.to(self.device, copy=copy)
        rate = lr_factor(self.recipe.schedule, self.progress.iteration, self.recipe.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.lr * group["scale"] * rate
        slices = _slices(len(images), self.recipe.accumulate)
        found: list[Losses] = []
        for rows, part in zip(slices, self._parts(labels, slices), strict=True):
            maps = self._ask(teacher, images[rows], rows)
            with Piece(self.device) as work, self._gradients_stay_here(last=rows is slices[-1]):
                found.append(self._backward(images[rows], labels[rows], maps, part))
            self._steps.append(work)
            if teacher is not None and len(slices) > 1 and not copy:
                teacher.forget()
        with Piece(self.device) as work:
            discriminators = self._update()
        self._steps += [copying, work]
        self.pending.append(_added(found, discriminators))
        self.progress.iteration += 1
        self.progress.samples_seen += len(images)

    def _parts(self, labels: Tensor, slices: Sequence[slice]) -> list[Part]:
        """The weight of each part of this process's batch in the loss of the global batch."""
        processes = process_count()
        if len(slices) == 1 and processes == 1:
            return [WHOLE]
        amounts = [self.objective.amount(labels[rows]) for rows in slices]  # type: ignore[operator]
        totals = torch.stack([torch.stack(amounts).sum().float(), torch.tensor(float(len(labels))).to(labels.device)])
        if processes > 1:
            torch.distributed.all_reduce(totals)
            totals /= processes  # the average over processes must equal the whole
        loss, images = totals.where(totals > 0, 1.0)
        return [
            Part(number, amount / loss, (rows.stop - rows.start) / images)
            for number, (amount, rows) in enumerate(zip(amounts, slices, strict=True))
        ]

    def _ask(self, teacher: Teacher | None, images: Tensor, rows: slice) -> TeacherMaps | None:
        """The teacher's maps of a part of the batch; records their time."""
        if not self.needs_teacher:
            return None
        assert teacher is not None and self.reads is not None
        return teacher.maps(images, self.reads, self.precision, (rows.start, rows.stop))

    def _gradients_stay_here(self, last: bool) -> AbstractContextManager[None]:
        """Skip the exchange of gradients between processes except for the last part of the batch."""
        wrapped = isinstance(self.call, nn.parallel.DistributedDataParallel)
        return self.call.no_sync() if wrapped and not last else nullcontext()  # type: ignore[operator, no-any-return]

    def _backward(self, images: Tensor, labels: Tensor, maps: TeacherMaps | None, part: Part) -> Losses:
        """Add a part's gradients; return its terms, weighted as parts of the whole."""
        with autocast(self.device, self.precision), guard_process():
            place = () if part is WHOLE else (part,)
            losses: Losses = self.call(images, labels, self.progress.iteration, self.recipe.iterations, maps, *place)
        if part.number == 0:
            self._look_at_gradients(losses)
        self._propagate(losses.total)
        if maps is not None:
            for piece in maps.asked:
                piece.askers += 1
            self._asked += maps.asked
            self._computed += maps.computed
        terms = {name: value.detach() for name, value in losses.terms.items()}
        if part is not WHOLE:
            share_of = self.objective.share_of
            terms = {name: value * share_of(name, part) for name, value in terms.items()}  # type: ignore[operator]
        return Losses(losses.total.detach(), terms)

    def _propagate(self, loss: Tensor) -> None:
        """Add the gradients of a loss.

        Raises:
            StageFailed: autograd cannot, for what a method did to the graph; the message names the methods.
        """
        try:
            self.scaler.scale(loss).backward()
        except RuntimeError as error:
            methods = "+".join(name for name in _methods_of(self.objective))
            if not methods or out_of_memory(error) or "CUDA" in str(error):
                raise
            what = f"the backward pass through the terms of {methods} failed: {' '.join(str(error).split())[:300]}"
            raise StageFailed(what, f"check it with `harness check-method {methods.partition('+')[0]}`") from error

    def _update(self) -> dict[str, Tensor]:
        """Step all optimisers; return the discriminators' losses."""
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters_of(self.optimizer), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # Gradients and maps are freed at once, because other learners take their steps before the next one here.
        self.optimizer.zero_grad(set_to_none=True)
        return self._step_discriminators()

    def _look_at_gradients(self, losses: Losses) -> None:
        every, iteration = self.control.gradients_every, self.progress.iteration
        if not every or iteration % every or not isinstance(self.objective, SegmentationObjective):
            return
        found = pulls(losses.terms, self.objective.weights, self.objective.network.parameters())
        self.control.events.write(
            "gradients",
            iteration=iteration,
            norms={name: pull.norm for name, pull in found.items()},
            cosines={name: None if math.isnan(pull.cosine) else pull.cosine for name, pull in found.items()},
        )

    def _step_discriminators(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if not isinstance(self.objective, SegmentationObjective):
            return found
        for method, module, optimizer in self.discriminators:
            with autocast(self.device, self.precision):
                loss = self.objective.discriminator_loss(module)
            step_discriminator(optimizer, loss, skip_overflow=self.scaler.is_enabled())
            found[method] = loss.detach()
        self.objective.forget()
        return found

    def read(self) -> list[tuple[float, dict[str, float], dict[str, float]]]:
        """Losses of the steps since the last call, in one transfer: (total, terms, discriminators' losses)."""
        pending, self.pending = self.pending, []
        if not pending:
            return []
        names, methods = list(pending[0].terms), list(pending[0].discriminators)
        rows = [[p.total, *(p.terms[n] for n in names), *(p.discriminators[m] for m in methods)] for p in pending]
        values = torch.stack([torch.stack([value.float() for value in row]) for row in rows]).tolist()
        split = 1 + len(names)
        return [(v[0], dict(zip(names, v[1:split])), dict(zip(methods, v[split:]))) for v in values]

    def step_seconds(self) -> float:
        """Seconds of the steps since the last `look`, including values computed for other learners."""
        return total(self._steps)

    def share(self, loading: float, students: int, wall: float) -> Share:
        """The time of the steps since the last `look`; see `Share`."""
        own = total(self._steps) - total(self._computed)
        paid = sum(piece.seconds / piece.askers for piece in self._asked)
        share = Share(own, total(self._asked), loading, paid, students, wall)
        for pieces in (self._steps, self._asked, self._computed):
            pieces.clear()
        return share

    def look(self, share: Share) -> None:
        """Read the losses, accumulate losses and time, and report progress.

        Raises:
            StageFailed: a loss is no longer finite.
        """
        rows = self.read()
        if not rows:
            return
        first = self.progress.iteration - len(rows)
        for offset, (loss, terms, own) in enumerate(rows):
            self._stop_at_nan(first + offset, loss, terms, own)
            self._sum(first + offset, terms)
        self.progress.took(share, len(rows))
        self._wall_ms.append(1000 * share.wall / len(rows))
        if self.control.events.due() or self.ended:
            self._report(rows[-1][0], rows[-1][1])

    def _report(self, loss: float, terms: dict[str, float]) -> None:
        progress, iterations = self.progress, self.recipe.iterations
        wall_ms = median(list(self._wall_ms))
        self.control.events.write(
            "progress",
            iteration=progress.iteration,
            iterations=iterations,
            loss=round(loss, 5),
            terms={name: round(value, 6) for name, value in terms.items()},
            lr=self.optimizer.param_groups[0]["lr"],
            step_ms=round(progress.median_step_ms(), 2),
            eta_s=round((iterations - progress.iteration) * wall_ms / 1000, 1),
        )

    def _stop_at_nan(
        self, iteration: int, loss: float, terms: Mapping[str, float], discriminator_losses: Mapping[str, float]
    ) -> None:
        distiller = getattr(self.objective, "distiller", None)
        hint = "lower the learning rate or the weights, or set precision fp32; a retry will not help"
        if not math.isfinite(loss):
            listed = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            blame = distiller.describe_nonfinite(terms) if distiller is not None else ""
            because = f"; {blame}" if blame else ""
            raise StageFailed(f"the loss is {loss} at iteration {iteration} ({listed}){because}", hint)
        for method, value in discriminator_losses.items():
            if distiller is not None and not math.isfinite(value):
                raise StageFailed(
                    f"{distiller.describe_nonfinite_discriminator(method, value)} at iteration {iteration}", hint
                )

    def _sum(self, iteration: int, terms: dict[str, float]) -> None:
        iterations = self.recipe.iterations
        tenth = max(1, iterations // 10)
        if iteration < tenth:
            self.progress.first = {n: self.progress.first.get(n, 0.0) + v for n, v in terms.items()}
            self.progress.first_count += 1
        if iteration >= iterations - tenth:
            self.progress.last = {n: self.progress.last.get(n, 0.0) + v for n, v in terms.items()}
            self.progress.last_count += 1

    def validate(self) -> None:
        """Evaluate on the validation split, and remember the best."""
        assert self.control.validate
        found = self.control.validate()
        found.iteration = self.progress.iteration
        self.control.events.write("validation", **found.model_dump())
        if self.progress.best is None or found.miou > self.progress.best["miou"]:
            self.progress.best = found.model_dump()

    def state(self) -> dict[str, Any]:
        """The complete state of the run, for a checkpoint."""
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminators": [optimizer.state_dict() for *_, optimizer in self.discriminators],
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
        }

    def save(self) -> None:
        """Write the checkpoint, if a file is given."""
        if not (self.control.checkpoint and self.control.main_process):
            return
        save_checkpoint(self.control.checkpoint, self.state())
        self.control.events.write("checkpoint", iteration=self.progress.iteration)

    def _restore(self) -> None:
        file = self.control.checkpoint
        state = load_checkpoint(file) if file else None
        if not state:
            return
        try:
            self._load(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            what = f"{file} does not fit: other code of the harness or of a method wrote it"
            remedy = "go on with that code, or delete the file to train from the beginning"
            raise StageFailed(f"{what} ({' '.join(str(error).split())[:200]})", remedy) from error
        self.control.events.write("resume", iteration=self.progress.iteration)

    def _load(self, state: dict[str, Any]) -> None:
        """Set what `state` returned."""
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        for (*_, optimizer), saved in zip(self.discriminators, state["discriminators"], strict=True):
            optimizer.load_state_dict(saved)
        match_layouts(self.optimizer)
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])


def _methods_of(objective: nn.Module) -> list[str]:
    """Names of the methods whose terms are in an objective."""
    spec = objective.distiller.spec if isinstance(objective, SegmentationObjective) else None
    return [part.name for part in spec.parts] if spec else []
