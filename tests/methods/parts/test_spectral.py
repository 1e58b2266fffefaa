"""Convolutions under spectral norm: those of torch's parametrization."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from methods.parts.discriminator import SelfAttention
from methods.parts.spectral import SpectralConv2d


def both(kernel: int = 3) -> tuple[nn.Module, SpectralConv2d]:
    """Torch's and ours, from the same random numbers."""
    torch.manual_seed(0)
    theirs = spectral_norm(nn.Conv2d(5, 7, kernel, 2, padding=kernel // 2))
    after = torch.rand(1)
    torch.manual_seed(0)
    ours = SpectralConv2d(5, 7, kernel, 2, padding=kernel // 2)
    assert torch.equal(torch.rand(1), after)
    return theirs.double(), ours.double()


def maps(count: int = 4) -> Tensor:
    return torch.randn(count, 5, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("kernel", [1, 3])
def test_values_gradients_and_estimates_are_torchs(kernel: int) -> None:
    theirs, ours = both(kernel)
    for step in range(3):
        found, expected = ours(maps(2 + step)), theirs(maps(2 + step))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        for y in (found, expected):
            y.square().sum().backward()
    estimate = theirs.parametrizations.weight[0]  # type: ignore[union-attr, index]
    torch.testing.assert_close(ours.u, estimate._u, rtol=1e-12, atol=1e-12)
    original = theirs.parametrizations.weight.original  # type: ignore[union-attr]
    assert ours.weight.grad is not None and ours.bias.grad is not None
    torch.testing.assert_close(ours.weight.grad, original.grad.flatten(1), rtol=1e-12, atol=1e-12)  # type: ignore[union-attr]
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-12, atol=1e-12)
    theirs.eval()
    ours.eval()
    before = ours.u.clone()
    torch.testing.assert_close(ours(maps()), theirs(maps()), rtol=1e-12, atol=1e-12)
    assert torch.equal(ours.u, before)


@pytest.mark.parametrize("layer", [both()[1], SelfAttention(5).double()], ids=["convolution", "attention"])
def test_parts_are_passed_as_if_one_after_the_other(layer: nn.Module) -> None:
    if isinstance(layer, SelfAttention):
        nn.init.constant_(layer.gain, 0.5)
    together, apart = layer, copy.deepcopy(layer)
    first, second = maps(3), maps(3) * 2 + 1
    found = together(torch.cat((first, second)), 2)
    expected = torch.cat((apart(first), apart(second)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for y in (found, expected):
        y.pow(3).sum().backward()
    for ours, theirs in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10)
    for a, b in zip(together.buffers(), apart.buffers(), strict=True):
        assert torch.equal(a, b)
