"""Maps, sizes, steps and built methods for the tests of the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.conformance.terms import compute_terms
from harness.plugins.registries import METHODS
from methods.base import IGNORE, Method, Sizes, Step


@dataclass(frozen=True)
class FakeMaps:
    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]


def maps(
    seed: int, batch: int = 2, classes: int = 5, channels: int = 6, grid: tuple[int, int] = (6, 8), **kind: Any
) -> FakeMaps:
    """Random maps; `last` is not the deepest backbone map, which has one channel more."""
    generator = torch.Generator().manual_seed(seed)

    def random(wide: int) -> Tensor:
        return torch.randn(batch, wide, *grid, generator=generator, dtype=kind.get("dtype", torch.float64))

    return FakeMaps(random(classes), random(channels), (random(channels + 1),))


def sizes(found: FakeMaps, stride: int = 8) -> Sizes:
    return Sizes(
        classes=found.logits.shape[1],
        last=found.last.shape[1],
        last_stride=stride,
        logits_stride=stride,
        features=tuple(x.shape[1] for x in found.features),
        strides=(stride,) * len(found.features),
    )


def step(student: FakeMaps, teacher: FakeMaps, stride: int = 8, seed: int = 0) -> Step:
    """A step whose images and labels fit student maps of that stride; a tenth of the labels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = student.logits.shape
    labels = torch.randint(0, classes, (batch, height * stride, width * stride), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = IGNORE
    images = torch.randn(batch, 3, height * stride, width * stride, generator=generator).to(student.logits.dtype)
    return Step(student, teacher, images, labels)


def build(
    name: str,
    student: FakeMaps,
    teacher: FakeMaps,
    active: set[str] | None = None,
    stride: int = 8,
    teacher_stride: int = 8,
    **params: Any,
) -> Method:
    """A method with its translator, if it has one; the terms that have a weight, unless others are named."""
    cls = METHODS.get(name)
    chosen = cls.Params.model_validate(narrow(name, params))
    terms = frozenset(active if active is not None else {t for t, w in cls.weights(chosen).items() if w})
    small, large = sizes(student, stride), sizes(teacher, teacher_stride)
    torch.manual_seed(0)
    key = cls.translator_key(chosen, terms, small, large)
    dtype = student.logits.dtype
    translator = None
    if key is not None:
        translator = cls.build_translator(key, large).to(dtype).eval().requires_grad_(False)
    return cls(chosen, terms, small, large, translator).to(dtype)


def narrow(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, with a narrow discriminator for methods that have one: it is built sooner."""
    return {"adv_width": 4, **params} if "adv_width" in METHODS.get(name).Params.model_fields else params


def terms_of(name: str, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """`compute_terms` with identity adapters."""
    return compute_terms(name, narrow(name, params), arrays, identity_adapters=True)


def wanting(found: FakeMaps) -> FakeMaps:
    """The same values as leaves that collect gradients."""
    return FakeMaps(
        found.logits.clone().requires_grad_(),
        found.last.clone().requires_grad_(),
        tuple(x.clone().requires_grad_() for x in found.features),
    )
