"""Is all of a method's state saved? A fresh one, loaded in the middle of training, must go on exactly."""

from __future__ import annotations

import io
from collections.abc import Iterator

import torch
from torch import nn

from harness.conformance.subject import (
    Broken,
    Subject,
    adversary_parameters,
    backward,
    some_terms,
    total_of,
    values_of,
)
from harness.distiller import Combined
from harness.training.randomness import reseed
from methods.base import Step


def resumable(subject: Subject) -> None:
    """A method saved in the middle of training and loaded into a fresh one goes on exactly as if nothing had been."""
    some_terms(subject)
    case = subject.cases[0]
    built = subject.build(subject.full, case, torch.float32)
    for number in range(2):
        _train_once(built, subject.step(case, number, dtype=torch.float32))
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    fresh = subject.build(subject.full, case, torch.float32, seed=99)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for number in range(2, 5):
        ours = _train_once(built, subject.step(case, number, dtype=torch.float32))
        theirs = _train_once(fresh, subject.step(case, number, dtype=torch.float32))
        for name, value in ours.items():
            if value != theirs[name]:
                raise Broken(
                    f"{name} is {theirs[name]} after loading, {value} without, {number - 1} steps later: "
                    "keep all state in parameters and buffers (register_buffer)"
                )


def _train_once(built: Combined, step: Step) -> dict[str, float]:
    """One plain gradient step on adapters, then on adversaries; what the terms were."""
    values = values_of(built, step)
    built.zero_grad()
    backward(total_of(built, values))
    adversarial = adversary_parameters(built)
    _descend(p for p in built.parameters() if id(p) not in adversarial)
    seen = {f"term '{name}'": float(value.detach()) for name, value in values.items()}
    for method, adversary in built.adversaries():
        adversary.zero_grad()
        reseed(4, "adversary")
        loss = built.adversary_loss(adversary, step)
        backward(loss)
        _descend(adversary.parameters())
        seen[f"the adversary's loss of {method.name}"] = float(loss.detach())
    return seen


@torch.no_grad()
def _descend(parameters: Iterator[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.sub_(parameter.grad / parameter.grad.norm().clamp_min(1e-12), alpha=1e-2)
