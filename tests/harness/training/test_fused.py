"""Fused optimisers: torch's bits in any layout, without copies of gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from harness.training.fused import FusedAdamW, FusedSGD, match_layouts

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "fused": True}
ADAMW = {"lr": 0.1, "weight_decay": 0.01, "fused": True}
KINDS = [(torch.optim.SGD, FusedSGD, SGD), (torch.optim.AdamW, FusedAdamW, ADAMW)]


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        torch.manual_seed(step)
        for parameter in network.parameters():
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(("plain", "fused", "options"), KINDS, ids=["SGD", "AdamW"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_weights_and_state_are_torchs_bit_for_bit(
    plain: Any, fused: Any, options: dict[str, Any], layout: torch.memory_format
) -> None:
    expected, found = layers(), layers().to(memory_format=layout)  # type: ignore[call-overload]
    theirs, ours = plain(expected.parameters(), **options), fused(found.parameters(), **options)
    train(expected, theirs, 3)
    train(found, ours, 3)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
        for name, value in theirs.state[b].items():
            assert torch.equal(ours.state[a][name], value)
    assert found[0].weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(("plain", "fused", "options"), KINDS, ids=["SGD", "AdamW"])
def test_no_gradient_is_copied(plain: Any, fused: Any, options: dict[str, Any]) -> None:
    network = layers().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = fused(network.parameters(), **options)
    train(network, optimizer, 1)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        train(network, optimizer, 1, first=1)
    assert "aten::clone" not in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize(("plain", "fused", "options"), KINDS, ids=["SGD", "AdamW"])
def test_a_checkpoint_in_another_layout_goes_on_right(plain: Any, fused: Any, options: dict[str, Any]) -> None:
    straight = layers()
    optimizer = fused(straight.parameters(), **options)
    train(straight, optimizer, 2)
    other = copy.deepcopy(straight).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    resumed = fused(other.parameters(), **options)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    match_layouts(resumed)
    train(straight, optimizer, 2, first=2)
    train(other, resumed, 2, first=2)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), other.parameters(), strict=True))
