"""The optimisers of a run: one for the student with its adapters, one per discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.plugins.method_calls import display_name
from harness.specs.spec import Recipe
from harness.training.distributed import average_gradients
from harness.training.fused import FusedAdamW, FusedSGD


def make_optimizer(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over all trainable parameters except discriminators; heads and adapters have a learning-rate factor.

    Uses torch's fused optimisers, with one pass over memory. On a CPU the weights equal those of the unfused form
    to 1e-7, with SGD mostly bit for bit. In fp16 the unfused form is used, because the gradient scaler would unscale
    inside the fused step.
    """
    excluded = {id(p) for _, module in discriminators(objective) for p in module.parameters()}
    o = recipe.optimizer
    scales = _layer_scales(objective, o.layer_decay) if o.layer_decay < 1 else {}
    backbone: dict[float, list[nn.Parameter]] = {}
    rest: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad or id(parameter) in excluded:
            continue
        if name.startswith(_BACKBONE):
            backbone.setdefault(scales.get(name, 1.0), []).append(parameter)
        else:
            rest.append(parameter)
    groups: list[dict[str, Any]] = [{"params": params, "scale": scale} for scale, params in backbone.items()]
    groups += [{"params": rest, "scale": o.head_lr}] if rest else []
    if not groups:
        raise HarnessError("there is nothing to train: the network has no parameters")
    fused = True if recipe.precision != "fp16" and _can_fuse(groups) else None
    if o.name == "sgd":
        return FusedSGD(
            groups, lr=o.lr, momentum=o.momentum, nesterov=o.nesterov, weight_decay=o.weight_decay, fused=fused
        )
    return FusedAdamW(groups, lr=o.lr, betas=o.betas, weight_decay=o.weight_decay, fused=fused)


_BACKBONE = "network.backbone."


def _layer_scales(objective: nn.Module, decay: float) -> dict[str, float]:
    """Name of a backbone parameter -> factor of its learning rate, decay^(layers - layer)."""
    layers = layers_of(objective.get_submodule(_BACKBONE[:-1]))
    count = max(layers.values(), default=0) + 1
    return {f"{_BACKBONE}{name}": decay ** (count - layer) for name, layer in layers.items()}


def layers_of(backbone: nn.Module) -> dict[str, int]:
    """Name of each parameter -> its layer, from 0: by timm's table for transformers (stem, blocks, last norm with the
    last block), otherwise one layer per block, in the order of the modules."""
    for place, module in backbone.named_modules():
        if callable(table := getattr(module, "group_matcher", None)):
            return _by_table(backbone, place, module, table(coarse=False))
    found: dict[str, int] = {}
    blocks: dict[str, int] = {}
    for name, _ in backbone.named_parameters():
        parts = name.split(".")[:-1]
        numbers = [i for i, part in enumerate(parts) if part.isdigit()]
        block = ".".join(parts[: numbers[min(1, len(numbers) - 1)] + 1] if numbers else parts)
        found[name] = blocks.setdefault(block, len(blocks))
    return found


def _by_table(backbone: nn.Module, place: str, module: nn.Module, table: dict[str, Any]) -> dict[str, int]:
    own = group_with_matcher(module.named_parameters(), table, reverse=True)
    before = f"{place}." if place else ""
    last = max(own.values(), default=0)
    inner = {f"{before}{name}": int(layer) for name, layer in own.items()}
    return {name: inner.get(name, last) for name, _ in backbone.named_parameters()}


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
        skip_overflow: skip the step if a gradient is not finite, as the gradient scaler does for the student.
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
    """All parameters of an optimiser."""
    return [p for group in optimizer.param_groups for p in group["params"]]
