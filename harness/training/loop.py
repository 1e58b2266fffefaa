"""The one training loop. It knows an objective, a recipe and a stream of batches; nothing of methods."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.data.loading import Batch
from harness.errors import HarnessError, StageFailed
from harness.plugins.method_calls import display_name
from harness.specs.spec import Recipe
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.distributed import average_gradients
from harness.training.objective import Losses, SegmentationObjective
from harness.training.schedule import lr_factor
from harness.workspace.events import Events
from results.record import Best, TermLog

CHECK_EVERY = 10
"""Iterations between two looks at the losses on a GPU: each makes it wait. A CPU looks every time."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is saved."""


@dataclass
class Progress:
    """What a run has done so far; part of the checkpoint."""

    iteration: int = 0
    samples_seen: int = 0
    seconds: float = 0.0
    step_ms: list[float] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    first_count: int = 0
    last_count: int = 0
    best: dict[str, Any] | None = None

    def terms(self, weights: dict[str, float]) -> dict[str, TermLog]:
        """Mean of each term over the first and the last tenth of the iterations."""
        return {
            name: TermLog(
                weight=weights.get(name, 1.0),
                first=self.first[name] / max(1, self.first_count),
                last=self.last.get(name, 0.0) / max(1, self.last_count),
            )
            for name in self.first
        }

    def median_step_ms(self) -> float:
        """Median milliseconds of an iteration, data loading included."""
        return statistics.median(self.step_ms) if self.step_ms else 0.0


@dataclass
class Control:
    """How a run is watched and stopped; nothing in here changes its result.

    Attributes:
        should_stop: asked after every iteration; true saves a checkpoint and raises `Interrupted`.
        checkpoint: file, or None to write none.
        checkpoint_every: iterations between two checkpoints; 0 for only at interruption.
        validate: gives mIoU on the validation split, for `recipe.validate_every`.
    """

    events: Events
    should_stop: Callable[[], bool] = lambda: False
    checkpoint: Path | None = None
    checkpoint_every: int = 0
    validate: Callable[[], Best] | None = None
    main_process: bool = True


class Trainer:
    """Trains an objective by a recipe.

    Args:
        objective: gives `Losses` for (images, labels, iteration, iterations).
        wrapped: the objective as it is called, when something is wrapped around it (several processes).
        recipe: how to train.
        device: where.
        precision, channels_last: as the numerics guard allows them.
    """

    def __init__(
        self,
        objective: nn.Module,
        recipe: Recipe,
        device: torch.device,
        precision: str,
        channels_last: bool,
        control: Control,
        wrapped: nn.Module | None = None,
    ) -> None:
        self.objective, self.recipe, self.device, self.control = objective, recipe, device, control
        self.call = wrapped or objective
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.precision = precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.optimizer = make_optimizer(objective, recipe)
        self.discriminators = [
            (m.name, module, make_discriminator_optimizer(m, module)) for m, module in discriminators(objective)
        ]
        self._look_every = 1 if device.type == "cpu" else CHECK_EVERY
        self.progress = Progress()
        self._restore()

    def run(self, batches: Iterable[Batch]) -> Progress:
        """Train to the end.

        Args:
            batches: from the iteration at which the run stands.

        Raises:
            Interrupted: asked to stop; the checkpoint is saved.
            StageFailed: the loss is no longer finite.
        """
        self.call.train()
        pending: list[Losses] = []
        began = time.perf_counter()
        for batch in batches:
            pending.append(self._iterate(batch.images, batch.labels))
            self.progress.iteration += 1
            self.progress.samples_seen += len(batch.images)
            ended = self.progress.iteration == self.recipe.iterations
            asked = self.control.should_stop()
            saves = asked or (
                self.control.checkpoint_every and self.progress.iteration % self.control.checkpoint_every == 0
            )
            if ended or saves or len(pending) >= self._look_every:
                self._look(pending, time.perf_counter() - began)
                pending, began = [], time.perf_counter()
            if self._validates():
                self._validate()
                began = time.perf_counter()
            if saves and not ended:
                self.save()
                began = time.perf_counter()
            if asked and not ended:
                raise Interrupted(f"stopped at iteration {self.progress.iteration}")
        return self.progress

    def save(self) -> None:
        """Write the checkpoint, if there is a file for it."""
        if not (self.control.checkpoint and self.control.main_process):
            return
        state = {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminators": [optimizer.state_dict() for *_, optimizer in self.discriminators],
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
        }
        save_checkpoint(self.control.checkpoint, state)
        self.control.events.write("checkpoint", iteration=self.progress.iteration)

    def _restore(self) -> None:
        state = load_checkpoint(self.control.checkpoint) if self.control.checkpoint else None
        if not state:
            return
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        for (*_, optimizer), saved in zip(self.discriminators, state["discriminators"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        self.control.events.write("resume", iteration=self.progress.iteration)

    def _iterate(self, images: Tensor, labels: Tensor) -> Losses:
        images = images.to(self.device, non_blocking=True, memory_format=self.layout)
        labels = labels.to(self.device, non_blocking=True)
        iteration, iterations = self.progress.iteration, self.recipe.iterations
        self._set_learning_rate(lr_factor(self.recipe.schedule, iteration, iterations))
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses: Losses = self.call(images, labels, iteration, iterations)
        self.scaler.scale(losses.total).backward()
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(_parameters(self.optimizer), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        discriminator_losses: dict[str, Tensor] = {}
        for method, module, optimizer in self.discriminators:
            with self._autocast():
                loss = cast(SegmentationObjective, self.objective).discriminator_loss(module)
            step_discriminator(optimizer, loss, skip_overflow=self.scaler.is_enabled())
            discriminator_losses[method] = loss.detach()
        terms = {name: value.detach() for name, value in losses.terms.items()}
        return Losses(losses.total.detach(), terms, discriminator_losses)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def _set_learning_rate(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.lr * group["scale"] * factor

    def _stop_at_nan(
        self, iteration: int, loss: float, terms: Mapping[str, float], discriminator_losses: Mapping[str, float]
    ) -> None:
        distiller = getattr(self.objective, "distiller", None)
        hint = "lower the learning rate or the weights, or set precision fp32; trying again will not help"
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

    def _look(self, pending: list[Losses], seconds: float) -> None:
        """Read the losses of the latest iterations, all in one transfer; stop at NaN; log."""
        names, methods = list(pending[0].terms), list(pending[0].discriminators)
        rows = [[p.total, *(p.terms[n] for n in names), *(p.discriminators[m] for m in methods)] for p in pending]
        values = torch.stack([torch.stack([value.float() for value in row]) for row in rows]).tolist()
        progress, total = self.progress, self.recipe.iterations
        first = progress.iteration - len(pending)
        for offset, (loss, *terms) in enumerate(values):
            named = dict(zip(names, terms[: len(names)], strict=True))
            self._stop_at_nan(first + offset, loss, named, dict(zip(methods, terms[len(names) :], strict=True)))
            self._sum(first + offset, total, named)
        progress.seconds += seconds
        progress.step_ms = [*progress.step_ms, 1000 * seconds / len(pending)][-400:]
        if self.control.events.due() or progress.iteration == total:
            step_ms = progress.median_step_ms()
            self.control.events.write(
                "progress",
                iteration=progress.iteration,
                iterations=total,
                loss=round(values[-1][0], 5),
                terms={n: round(v, 6) for n, v in zip(names, values[-1][1:])},
                lr=self.optimizer.param_groups[0]["lr"],
                step_ms=round(step_ms, 2),
                eta_s=round((total - progress.iteration) * step_ms / 1000, 1),
            )

    def _sum(self, iteration: int, total: int, terms: dict[str, float]) -> None:
        tenth = max(1, total // 10)
        if iteration < tenth:
            self.progress.first = {n: self.progress.first.get(n, 0.0) + v for n, v in terms.items()}
            self.progress.first_count += 1
        if iteration >= total - tenth:
            self.progress.last = {n: self.progress.last.get(n, 0.0) + v for n, v in terms.items()}
            self.progress.last_count += 1

    def _validates(self) -> bool:
        every = self.recipe.validate_every
        return bool(every and self.control.validate and self.progress.iteration % every == 0)

    def _validate(self) -> None:
        assert self.control.validate
        found = self.control.validate()
        found.iteration = self.progress.iteration
        self.control.events.write("validation", **found.model_dump())
        if self.progress.best is None or found.miou > self.progress.best["miou"]:
            self.progress.best = found.model_dump()


def make_optimizer(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over all that the objective trains but discriminators; heads and adapters have their own scale."""
    excluded = {id(p) for _, module in discriminators(objective) for p in module.parameters()}
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad and id(parameter) not in excluded:
            (backbone if name.startswith("network.backbone.") else rest).append(parameter)
    o = recipe.optimizer
    groups = [{"params": backbone, "scale": 1.0}, {"params": rest, "scale": o.head_lr}]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise HarnessError("there is nothing to train: the network has no parameters")
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=o.lr, momentum=o.momentum, nesterov=o.nesterov, weight_decay=o.weight_decay)
    return torch.optim.AdamW(groups, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay)


def discriminators(objective: nn.Module) -> list[tuple[Any, nn.Module]]:
    """(method, discriminator) of every method that has one."""
    distiller = getattr(objective, "distiller", None)
    return distiller.discriminators() if distiller is not None else []


def make_discriminator_optimizer(method: Any, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a method prescribes for its discriminator."""
    recipe = dict(method.discriminator_recipe)
    name = recipe.pop("name", "adam")
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    who = f"method {display_name(type(method))}: discriminator_recipe"
    if name not in kinds:
        raise HarnessError(f"{who} names the optimiser '{name}', which is unknown", f"known: {', '.join(kinds)}")
    try:
        return kinds[name](module.parameters(), **recipe)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"{who} = {dict(method.discriminator_recipe)} makes no optimiser: {error}") from error


def step_discriminator(optimizer: torch.optim.Optimizer, loss: Tensor, skip_overflow: bool) -> None:
    """One step of a discriminator, with gradients averaged over processes.

    Args:
        skip_overflow: leave the step out where a gradient is not finite, as the gradient scaler does for the student.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = _parameters(optimizer)
    average_gradients(parameters)
    if skip_overflow:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return
    optimizer.step()


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
