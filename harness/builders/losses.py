"""Losses by their specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from harness.errors import HarnessError
from harness.losses.base import Loss, LossParams, inverse_frequencies
from harness.plugins.registries import LOSSES
from harness.specs.recipes import KINDS, RecipeFile
from harness.specs.spec import Kind, LossSpec
from results.invalid import first_invalid


def with_losses(recipe: RecipeFile, classes: int) -> RecipeFile:
    """The recipe with the losses of its stages checked: only parameters that are not at their defaults, with sources.

    Raises:
        HarnessError: an unknown loss or parameter, a value that does not fit, or weights that are not one a class.
    """

    def of(kind: Kind) -> dict[str, Any]:
        fields = {name: value for name, value in recipe.kinds.get(kind, {}).items() if name != "loss"}
        return fields | {"loss": _resolved(recipe.for_kind(kind).loss, classes).model_dump()}

    common = {name: value for name, value in recipe.common.items() if name != "loss"}
    return RecipeFile(recipe.name, recipe.summary, common, {kind: of(kind) for kind in KINDS})


def _resolved(spec: LossSpec, classes: int) -> LossSpec:
    params = _params(spec)
    given = params.class_weights
    if isinstance(given, tuple) and len(given) != classes:
        raise HarnessError(
            f"loss '{spec.name}': {len(given)} class weights were given, and there are {classes} classes",
            "give one for each, in their order, or write inverse",
        )
    plain = params.model_dump(mode="json", exclude_defaults=True)
    return spec.model_copy(update={"params": plain, "source": LOSSES.entry(spec.name).source})


def _params(spec: LossSpec) -> LossParams:
    cls = LOSSES.get(spec.name)
    try:
        return cls.Params.model_validate(spec.params)
    except ValidationError as error:
        invalid = first_invalid(error)
        known = ", ".join(cls.Params.model_fields)
        raise HarnessError(f"loss '{spec.name}': {invalid.where}: {invalid.what}", f"parameters: {known}") from error


def build_loss(spec: LossSpec, frequencies: Callable[[], Sequence[int]]) -> Loss:
    """The loss of a specification.

    Args:
        frequencies: gives the pixels of each class in the training labels; asked only where they are needed.

    Raises:
        HarnessError: there is no such loss, or its parameters do not fit.
    """
    params = _params(spec)
    weights: Tensor | None = None
    if params.class_weights == "inverse":
        weights = inverse_frequencies(frequencies())
    elif params.class_weights is not None:
        weights = torch.tensor(params.class_weights)
    return LOSSES.get(spec.name)(params, weights)
