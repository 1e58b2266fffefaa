"""Random maps of a student and a teacher on one step, and methods built for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.conformance.cases import RandomMaps
from harness.conformance.terms import compute_terms
from harness.plugins.registries import METHODS
from methods.base import IGNORE, Method, Sizes, Step, Translator

CLASSES = 5


def maps(
    seed: int, batch: int = 2, channels: int = 6, grid: tuple[int, int] = (6, 8), dtype: torch.dtype = torch.float64
) -> RandomMaps:
    """Random maps on one grid; `last` is not the deepest backbone map, which has one channel more."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(batch, c, *grid, generator=generator, dtype=dtype) for c in (CLASSES, channels, channels + 1)]
    return RandomMaps.of(made)


def sizes(found: RandomMaps, stride: int = 8) -> Sizes:
    """Of maps that are all at one stride."""
    return Sizes(
        classes=found.logits.shape[1],
        last=found.last.shape[1],
        last_stride=stride,
        logits_stride=stride,
        features=tuple(x.shape[1] for x in found.features),
        strides=(stride,) * len(found.features),
    )


def tracked(found: RandomMaps) -> RandomMaps:
    """The same values as leaves that collect gradients."""
    return RandomMaps.of([x.detach().clone().requires_grad_() for x in found.tensors()])


@dataclass(frozen=True)
class Pair:
    """A step, and the sizes of its student's and its teacher's maps."""

    step: Step
    student: Sizes
    teacher: Sizes

    def with_labels(self, labels: Tensor) -> Pair:
        """The same with other labels."""
        return replace(self, step=replace(self.step, labels=labels))

    def tracked(self) -> Pair:
        """The same with student maps that collect gradients."""
        assert isinstance(self.step.student, RandomMaps)
        return replace(self, step=replace(self.step, student=tracked(self.step.student)))

    def student_gradients(self) -> list[Tensor]:
        """Of the student's maps that have one."""
        assert isinstance(self.step.student, RandomMaps)
        return [x.grad for x in self.step.student.tensors() if x.grad is not None]


def pair(student: RandomMaps, teacher: RandomMaps, stride: int = 8, teacher_stride: int = 8, seed: int = 0) -> Pair:
    """Maps with images and labels that fit the student's stride; a tenth of the labels is ignored."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, height, width = student.logits.shape
    labels = torch.randint(0, classes, (batch, height * stride, width * stride), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = IGNORE
    images = torch.randn(batch, 3, height * stride, width * stride, generator=generator).to(student.logits.dtype)
    return Pair(Step(student, teacher, images, labels), sizes(student, stride), sizes(teacher, teacher_stride))


def network(
    generator: torch.Generator,
    batch: int,
    size: tuple[int, int],
    strides: tuple[int, ...],
    widths: tuple[int, ...],
    last: int,
) -> tuple[RandomMaps, Sizes]:
    """Random maps of a network: a backbone map for every stride, `last` and logits at the last stride."""

    def draw(width: int, stride: int) -> Tensor:
        grid = [-(-side // stride) for side in size]
        return torch.randn(batch, width, *grid, generator=generator, dtype=torch.float64)

    stride = strides[-1]
    found = RandomMaps(
        logits=2 * draw(CLASSES, stride),
        last=draw(last, stride),
        features=tuple(draw(w, s) for w, s in zip(widths, strides, strict=True)),
    )
    return found, Sizes(CLASSES, last, stride, stride, widths, strides)


def networks(seed: int = 0, batch: int = 2, size: tuple[int, int] = (32, 48), same: bool = False) -> Pair:
    """A student at stride 16 with three maps, a teacher at stride 8 with four; `same`: of equal channels and stride."""
    generator = torch.Generator().manual_seed(seed)
    student, student_sizes = (
        network(generator, batch, size, (4, 8, 8), (4, 6, 8), 8)
        if same
        else network(generator, batch, size, (4, 8, 16), (4, 6, 10), 6)
    )
    teacher, teacher_sizes = network(generator, batch, size, (2, 4, 8, 8), (3, 4, 6, 8), 8)
    labels = torch.randint(-1, CLASSES, (batch, *size), generator=generator)
    labels = labels.masked_fill(labels < 0, IGNORE)
    images = torch.randn(batch, 3, *size, generator=generator, dtype=torch.float64)
    return Pair(Step(student, teacher, images, labels, 0, 10), student_sizes, teacher_sizes)


def build(
    method: str | type[Method],
    given: Pair,
    *terms: str,
    active: Collection[str] | None = None,
    translator: Translator | None = None,
    seed: int = 0,
    **params: Any,
) -> Method:
    """A method of the maps' type for a pair.

    Args:
        terms, active: the terms that are on; those that have a weight, if neither is given.
        translator: what it has learned; an untrained one if it wants one and none is given.
        params: of the method; a discriminator is narrow, unless its width is given.
    """
    cls = METHODS.get(method) if isinstance(method, str) else method
    chosen = cls.Params.model_validate(narrow(cls, params))
    on = frozenset(terms or ({t for t, w in cls.weights(chosen).items() if w} if active is None else active))
    dtype = given.step.student.logits.dtype
    torch.manual_seed(seed)
    key = cls.translator_key(chosen, on, given.student, given.teacher)
    if key is not None and translator is None:
        translator = cls.build_translator(key, given.teacher).to(dtype).eval().requires_grad_(False)
    return cls(chosen, on, given.student, given.teacher, translator).to(dtype)


def narrow(cls: type[Method], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, with a narrow discriminator for methods that have one: it is built sooner."""
    return {"adv_width": 4, **params} if "adv_width" in cls.Params.model_fields else params


def values(method: Method, given: Pair, seed: int = 1) -> dict[str, Tensor]:
    """The terms, with randomness seeded as a trainer does."""
    torch.manual_seed(seed)
    return method(given.step)


def terms_of(name: str, params: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """`compute_terms` with identity adapters."""
    return compute_terms(name, narrow(METHODS.get(name), params), arrays, identity_adapters=True)


def array(x: Tensor) -> np.ndarray:
    """As NumPy, for a formula written out."""
    result: np.ndarray = x.detach().numpy()
    return result
