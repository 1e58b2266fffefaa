"""Check that all state of a method is saved: a new instance loaded in mid-training must continue exactly."""

from __future__ import annotations

import io
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.builders.distiller import Distiller
from harness.conformance.cases import Case, RandomMaps
from harness.conformance.method_under_test import (
    MethodUnderTest,
    PropertyViolated,
    backward,
    discriminator_parameters,
    some_terms,
    total_of,
    values_of,
)
from harness.training.randomness import seed_all
from methods.base import Method, Step

STEPS = 8
SAVED_AFTER = (1, 3, 6)
_KEEP = "keep all state in parameters and buffers (register_buffer), created in setup"


def resumable(subject: MethodUnderTest) -> None:
    """A method saved in mid-training and loaded into a new instance continues exactly like the original."""
    some_terms(subject)
    case = subject.cases[0]
    built = subject.build(subject.full, case, torch.float32)
    saved: dict[int, io.BytesIO] = {}
    seen: list[dict[str, float]] = []
    for number in range(STEPS):
        if number in SAVED_AFTER:
            torch.save(built.state_dict(), saved.setdefault(number, io.BytesIO()))
        seen.append(_train_once(built, _step(subject, case, number)))
    for first, file in saved.items():
        fresh = _loaded(subject, case, file)
        for number in range(first, STEPS):
            _expect_same(_train_once(fresh, _step(subject, case, number)), seen[number], first, number)
        _expect_no_other_state(built, fresh)


def _step(subject: MethodUnderTest, case: Case, number: int) -> Step:
    return subject.step(case, number, dtype=torch.float32, iteration=number)


def _loaded(subject: MethodUnderTest, case: Case, file: io.BytesIO) -> Distiller:
    """A new instance, built under another seed, with the saved state loaded."""
    fresh = subject.build(subject.full, case, torch.float32, seed=99)
    file.seek(0)
    try:
        fresh.load_state_dict(torch.load(file, weights_only=True))
    except RuntimeError as error:
        raise PropertyViolated(
            f"its saved state does not fit a new instance: {' '.join(str(error).split())}; {_KEEP}"
        ) from error
    return fresh


def _expect_same(theirs: Mapping[str, float], ours: Mapping[str, float], first: int, number: int) -> None:
    for name, value in ours.items():
        if value != theirs[name]:
            raise PropertyViolated(
                f"{name} is {theirs[name]} in step {number + 1} when it was saved after step {first} and loaded, "
                f"{value} otherwise: {_KEEP}"
            )


def _expect_no_other_state(built: Distiller, fresh: Distiller) -> None:
    """After the same step, any remaining difference comes from earlier steps and was not saved."""
    for method, other in zip(built.parts.values(), fresh.parts.values(), strict=True):
        ours, theirs = (dict(_contents(part)) for part in (method, other))
        for path in sorted(ours.keys() | theirs.keys()):
            if ours.get(path) != theirs.get(path):
                raise PropertyViolated(f"self.{path} depends on earlier steps and is not saved: {_KEEP}")


# What stands in plain attributes --------------------------------------------------------------------------------------


def hidden_parameters(method: Method, given: Iterable[Tensor]) -> Iterator[str]:
    """Paths of plain attributes with trainable tensors, which are therefore neither trained nor saved.

    Args:
        given: tensors of the step, which the method may keep.
    """
    translator = method.translator
    known = {id(x) for x in (*method.modules(), *method.parameters(), *given)}
    known |= {id(x) for x in (*translator.modules(), *translator.parameters())} if translator is not None else set()
    for path, value in _attributes(method):
        if id(value) in known:
            continue
        if isinstance(value, nn.Module) and any(p.requires_grad for p in value.parameters()):
            yield path
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            yield path


def _attributes(method: nn.Module) -> Iterator[tuple[str, Any]]:
    """(path, value) of all plain attributes of a method and its submodules."""
    ordinary = set(vars(nn.Module()))
    for path, module in method.named_modules():
        shared = {name: value for name, value in vars(type(module)).items() if isinstance(value, list | dict | deque)}
        for name, value in {**shared, **vars(module)}.items():
            if name not in ordinary and not name.startswith("__"):
                yield from _leaves(f"{path}.{name}".strip("."), value, depth=5)


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple | deque):
        inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, Tensor | nn.Module | random.Random | type) or not hasattr(value, "__dict__"):
        yield path, value
        return
    else:
        inner = [(f"{path}.{name}", item) for name, item in vars(value).items()]
    for name, item in inner if depth else ():
        yield from _leaves(name, item, depth - 1)


def _contents(method: nn.Module) -> Iterator[tuple[str, object]]:
    """(path, comparable value) of plain attributes and buffers; values that cannot be compared are omitted."""
    for path, value in (*_attributes(method), *method.named_buffers()):
        if isinstance(value, Tensor):
            raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            yield path, (value.dtype, tuple(value.shape), raw)
        elif isinstance(value, np.ndarray):
            yield path, (value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, torch.Generator):
            yield path, value.get_state().numpy().tobytes()
        elif isinstance(value, random.Random):
            yield path, value.getstate()
        elif isinstance(value, np.random.Generator):
            yield path, repr(value.bit_generator.state)
        elif isinstance(value, str | bytes | int | float | set | frozenset | None):
            yield path, repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)


# One step -------------------------------------------------------------------------------------------------------------


def _train_once(built: Distiller, step: Step) -> dict[str, float]:
    """One gradient step on adapters, then on discriminators; return the values of the terms."""
    values = values_of(built, step)
    built.zero_grad()
    backward(total_of(built, values))
    adversarial = discriminator_parameters(built)
    _descend(p for p in built.parameters() if id(p) not in adversarial)
    seen = {f"term '{name}'": float(value.detach()) for name, value in values.items()}
    assert isinstance(step.student, RandomMaps)
    grads = [tensor.grad.double().norm() for tensor in step.student.tensors() if tensor.grad is not None]
    seen["the student's gradient"] = float(torch.stack(grads).norm()) if grads else 0.0
    for method, discriminator in built.discriminators():
        discriminator.zero_grad()
        seed_all(4, "discriminator")
        loss = built.discriminator_loss(discriminator, step)
        backward(loss)
        _descend(discriminator.parameters())
        seen[f"the discriminator's loss of {method.name}"] = float(loss.detach())
    return seen


@torch.no_grad()
def _descend(parameters: Iterator[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.sub_(parameter.grad / parameter.grad.norm().clamp_min(1e-12), alpha=1e-2)
