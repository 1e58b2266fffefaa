"""The optimisers of a run: one of the student with all that it learns with, one of each discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.plugins.method_calls import display_name
from harness.specs.spec import Recipe
from harness.training.distributed import average_gradients


def make_optimizer(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over all that the objective trains but discriminators; heads and adapters have their own scale.

    Fused, for all runs alike: one pass over memory instead of several. On a CPU weights are those of the plain form to
    1e-7, with SGD mostly bit for bit. In fp16 the gradient scaler would unscale inside the fused step: there the plain
    form is used.
    """
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
    fused = True if recipe.precision != "fp16" and _can_fuse(groups) else None
    if o.name == "sgd":
        return torch.optim.SGD(
            groups, lr=o.lr, momentum=o.momentum, nesterov=o.nesterov, weight_decay=o.weight_decay, fused=fused
        )
    return torch.optim.AdamW(groups, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, fused=fused)


def _can_fuse(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether torch has fused steps for these parameters: real floating point, on a CPU or a CUDA GPU."""
    return all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
        for group in groups
        for parameter in group["params"]
    )


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
    parameters = parameters_of(optimizer)
    average_gradients(parameters)
    if skip_overflow:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return
    optimizer.step()


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All that an optimiser steps."""
    return [p for group in optimizer.param_groups for p in group["params"]]
