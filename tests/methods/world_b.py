"""Maps, steps and built methods for the tests of ifvd, dsd, cirkd, mgd, dist, maskd and afdcd; the golden inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import IGNORE, Method, Sizes, Step, Translator

CLASSES = 5


@dataclass(frozen=True)
class Given:
    """Maps made by hand."""

    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]

    def each(self, change: Callable[[Tensor], Tensor]) -> Given:
        """The same with every map changed."""
        return Given(change(self.logits), change(self.last), tuple(change(x) for x in self.features))

    def all(self) -> list[Tensor]:
        """All maps."""
        return [self.logits, self.last, *self.features]


def wave(function: Callable[[np.ndarray], np.ndarray], *shape: int) -> np.ndarray:
    """`function` of the flat C-order index, in a shape."""
    return function(np.arange(int(np.prod(shape)), dtype=np.float64)).reshape(shape)


def golden() -> dict[str, np.ndarray]:
    """The inputs of the golden values: logits LS and LT, features FS and FT, labels Y."""
    return {
        "student_logits": wave(lambda k: 2 * np.sin(0.37 * k), 2, 19, 8, 16),
        "teacher_logits": wave(lambda k: 2 * np.cos(0.23 * k + 0.5), 2, 19, 8, 16),
        "student_features": wave(lambda k: np.sin(0.11 * k), 2, 8, 8, 16),
        "teacher_features": wave(lambda k: np.cos(0.07 * k), 2, 8, 8, 16),
        "labels": ((np.arange(2 * 64 * 128) // 97) % 20 - 1).reshape(2, 64, 128),
    }


def network(
    generator: torch.Generator,
    batch: int,
    size: tuple[int, int],
    strides: tuple[int, ...],
    widths: tuple[int, ...],
    last: int,
) -> tuple[Given, Sizes]:
    """Random maps of a network: a backbone map for every stride, `last` and logits at the last stride."""

    def draw(width: int, stride: int) -> Tensor:
        grid = [-(-side // stride) for side in size]
        return torch.randn(batch, width, *grid, generator=generator, dtype=torch.float64)

    stride = strides[-1]
    maps = Given(
        logits=2 * draw(CLASSES, stride),
        last=draw(last, stride),
        features=tuple(draw(w, s) for w, s in zip(widths, strides, strict=True)),
    )
    return maps, Sizes(CLASSES, last, stride, stride, widths, strides)


@dataclass(frozen=True)
class World:
    """A step with the sizes of its maps."""

    step: Step
    student: Sizes
    teacher: Sizes

    def to(self, dtype: torch.dtype) -> World:
        """The same in another precision."""

        def change(maps: Any) -> Given:
            result: Given = maps.each(lambda x: x.to(dtype))
            return result

        step = self.step
        return replace(
            self,
            step=replace(
                step, student=change(step.student), teacher=change(step.teacher_maps), images=step.images.to(dtype)
            ),
        )

    def with_labels(self, labels: Tensor) -> World:
        """The same with other labels."""
        return replace(self, step=replace(self.step, labels=labels))

    def tracked(self) -> World:
        """The same with student maps that collect gradients."""
        assert isinstance(self.step.student, Given)
        maps = self.step.student.each(lambda x: x.detach().clone().requires_grad_())
        return replace(self, step=replace(self.step, student=maps))

    def student_gradients(self) -> list[Tensor]:
        """Of the student's maps that have one."""
        assert isinstance(self.step.student, Given)
        return [x.grad for x in self.step.student.all() if x.grad is not None]


def world(seed: int = 0, batch: int = 2, size: tuple[int, int] = (32, 48), same: bool = False) -> World:
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
    return World(Step(student, teacher, images, labels, 0, 10), student_sizes, teacher_sizes)


def build(
    cls: type[Method],
    given: World,
    *terms: str,
    translator: Translator | None = None,
    seed: int = 0,
    **params: Any,
) -> Method:
    """A method in float64 for a world, with these terms active (all, if none is named)."""
    torch.manual_seed(seed)
    active = frozenset(terms or cls.terms)
    return cls(cls.Params(**params), active, given.student, given.teacher, translator).double()


def values(method: Method, given: World, seed: int = 1) -> dict[str, Tensor]:
    """The terms, with randomness seeded as a trainer does."""
    torch.manual_seed(seed)
    return method(given.step)


def array(x: Tensor) -> np.ndarray:
    """As NumPy, for an oracle."""
    result: np.ndarray = x.detach().numpy()
    return result


# --- what every method must do ---------------------------------------------------------------------------------------

Make = Callable[[World], Method]
"""Builds the method, all terms active, in float64."""


def check_declared(method: Method, given: World) -> None:
    """The terms are those that are active: finite scalars."""
    found = values(method, given)
    assert set(found) == method.active
    for name, value in found.items():
        assert value.shape == (), name
        assert torch.isfinite(value), name


def check_gradients(make: Make, expect_parameters: bool) -> None:
    """Gradients are finite, reach the student and every learned tensor of the method, and leave the teacher alone."""
    given = world().tracked()
    before = [x.clone() for x in given.step.teacher.all()]  # type: ignore[union-attr]
    method = make(given)
    torch.stack(list(values(method, given).values())).sum().backward()
    found = given.student_gradients()
    assert found and all(torch.isfinite(x).all() for x in found) and any(x.abs().max() > 0 for x in found)
    discriminator = set(method.get_discriminator().parameters()) if method.get_discriminator() is not None else set()  # type: ignore[union-attr]
    learned = {name: p for name, p in method.named_parameters() if p not in discriminator}
    assert bool(learned) == expect_parameters
    for name, parameter in learned.items():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in discriminator)
    for x, y in zip(before, given.step.teacher.all(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(x, y) and y.grad is None


def check_derivative(make: Make) -> None:
    """The gradients of all terms with respect to all of the student's maps are those of finite differences."""
    given = world(11, size=(32, 48), same=True).tracked()
    method = make(given).eval()

    def loss(*maps: Tensor) -> Tensor:
        torch.manual_seed(1)
        step = replace(given.step, student=Given(maps[0], maps[1], maps[2:]))
        return torch.stack(list(method(step).values()))

    assert isinstance(given.step.student, Given)
    assert torch.autograd.gradcheck(loss, tuple(given.step.student.all()), fast_mode=True)


def check_edges(make: Make) -> None:
    """Odd sizes, a batch of one, one position, no label at all: finite terms and gradients."""
    cases = {
        "odd": world(size=(37, 51)),
        "one image": world(batch=1),
        "tiny": world(batch=2, size=(8, 8)),
        "no labels": world().with_labels(torch.full((2, 32, 48), IGNORE)),
        "one class": world().with_labels(torch.zeros(2, 32, 48, dtype=torch.int64)),
    }
    for name, case in cases.items():
        given = case.tracked()
        found = values(make(given), given)
        total = torch.stack(list(found.values())).sum()
        assert torch.isfinite(total), name
        if total.requires_grad:
            total.backward()
        assert all(torch.isfinite(x).all() for x in given.student_gradients()), name


def check_precision(make: Make, relative: Mapping[str, float] | None = None, rtol: float = 0.03) -> None:
    """float32 within 1e-4 of float64, bf16 maps under autocast within a few per cent; losses come in float32."""
    given = world(3)
    method = make(given)
    state = copy.deepcopy(method.state_dict())
    exact = {name: float(value.detach()) for name, value in values(method, given).items()}
    method.load_state_dict(state)
    single = values(method.float(), given.to(torch.float32))
    method.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = values(method, given.to(torch.bfloat16))
    for name, value in exact.items():
        assert single[name].dtype == half[name].dtype == torch.float32, name
        tolerance = (relative or {}).get(name, rtol)
        in_single, in_half = float(single[name].detach()), float(half[name].detach())
        assert abs(in_single - value) <= 1e-4 * abs(value) + 1e-7, (name, in_single, value)
        assert abs(in_half - value) <= tolerance * abs(value) + 1e-6, (name, in_half, value)


def check_seeded(make: Make) -> None:
    """The same seeds give the same bits."""
    given = world(5)
    first, second = values(make(given), given), values(make(given), given)
    assert all(torch.equal(first[name], second[name]) for name in first)


def check_permutable(make: Make) -> None:
    """Terms do not change when the images of a batch change places."""
    given = world(7, batch=3)
    order = torch.tensor([2, 0, 1])
    step = given.step
    assert isinstance(step.student, Given) and isinstance(step.teacher, Given)
    moved = replace(
        given,
        step=replace(
            step,
            student=step.student.each(lambda x: x[order]),
            teacher=step.teacher.each(lambda x: x[order]),
            images=step.images[order],
            labels=step.labels[order],
        ),
    )
    method = make(given)
    here, there = values(method, given), values(method, moved)
    for name in here:
        torch.testing.assert_close(here[name], there[name], rtol=1e-10, atol=1e-12)
