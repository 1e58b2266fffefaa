"""Winograd's algorithm: right, on any grid and dilation, and used where it is faster."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.numerics.convolutions import ConvCase
from harness.numerics.frozen import pack_convolutions
from harness.numerics.reference import relative_error
from harness.numerics.winograd import Winograd, is_faster

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
LARGE = ConvCase((3, 3), (1, 1), (4, 4), (4, 4), 1, 512, 512, (16, 16), 4)


@pytest.mark.parametrize("size", [(16, 16), (13, 18), (3, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (3, 1)], ids=str)
@torch.no_grad()
def test_it_is_right(size: tuple[int, int], dilation: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(32, 48, 3, padding=dilation, dilation=dilation)
    convolve = Winograd(module.weight, dilation, (2, *size))
    for batch in (2, 3):  # packed for two images, right for three
        x = torch.randn(batch, 32, *size).contiguous(memory_format=torch.channels_last)
        truth = nn.functional.conv2d(x.double(), module.weight.double(), None, 1, dilation, dilation)
        found = convolve(x, None)
        assert relative_error(found, truth) < 5e-6 and found.is_contiguous(memory_format=torch.channels_last)
        assert module.bias is not None
        assert torch.equal(convolve(x, module.bias), found + module.bias.view(-1, 1, 1))


def test_it_is_faster_for_many_channels_and_maps_that_tiles_fill() -> None:
    assert is_faster(LARGE) and is_faster(replace(LARGE, padding=(2, 2), dilation=(2, 2), in_channels=256))
    for other in (
        {"kernel": (1, 1)},
        {"stride": (2, 2)},
        {"padding": (0, 0)},
        {"groups": 2},
        {"out_channels": 128},
        {"in_channels": 4096},
        {"padding": (12, 12), "dilation": (12, 12)},
        {"size": (5, 5)},
    ):
        assert not is_faster(replace(LARGE, **other))


@torch.no_grad()
def test_a_frozen_network_uses_it() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(256, 256, 3, padding=2, dilation=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 256, 16, 16).contiguous(memory_format=torch.channels_last)
    expected = plain(x)
    pack_convolutions(plain)
    assert relative_error(plain(x), expected.double()) < 5e-6
    assert plain._ways is not None and isinstance(plain._ways[x.shape], Winograd)
