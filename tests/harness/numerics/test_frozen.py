"""Packed convolutions of a frozen network: the same bits, but for 1x1 convolutions, which are right to rounding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.numerics import frozen
from harness.numerics.frozen import FrozenConv2d, pack_convolutions

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
LAYOUTS = [torch.contiguous_format, torch.channels_last]
KINDS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 4, "dilation": 4, "bias": False},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "strided 1x1": {"kernel_size": 1, "stride": 2},
    "7x7": {"kernel_size": 7, "stride": 2, "padding": 3},
    "depthwise": {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 32},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 4},
}


def pair(layout: torch.memory_format, **kind: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A convolution, and the same one packed."""
    torch.manual_seed(0)
    plain = nn.Conv2d(32, 32, **kind).requires_grad_(False).to(memory_format=layout)  # type: ignore[arg-type, call-overload]
    packed = copy.deepcopy(plain)
    pack_convolutions(packed)
    return plain, packed


def packed_for(module: nn.Conv2d) -> int:
    """The number of shapes of inputs for which it is packed."""
    assert isinstance(module, FrozenConv2d)
    return sum(way is not None for way in (module._ways or {}).values())


def maps(layout: torch.memory_format, count: int = 2, size: tuple[int, int] = (24, 20)) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 32, *size, generator=generator).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@torch.no_grad()
def test_they_give_the_same_bits(kind: dict[str, int], layout: torch.memory_format) -> None:
    plain, packed = pair(layout, **kind)
    for x in (maps(layout), maps(layout, 3, (31, 33))):
        expected, found = plain(x), packed(x)
        assert torch.equal(found, expected) and found.stride() == expected.stride()
    assert packed_for(packed) == (2 if layout is torch.channels_last else 0)


@torch.no_grad()
def test_a_convolution_of_zeros_is_packed_too() -> None:
    _, packed = pair(torch.channels_last, kernel_size=3, bias=False)
    packed.weight.zero_()
    assert not packed(maps(torch.channels_last)).any() and packed_for(packed) == 1


@torch.no_grad()
def test_a_1x1_convolution_has_the_bits_that_torch_gives_it_among_many_images() -> None:
    plain, packed = pair(torch.channels_last, kernel_size=1)
    many = maps(torch.channels_last, 16)
    assert torch.equal(packed(many[:3]), plain(many)[:3])
    torch.testing.assert_close(packed(many[:3]), plain(many[:3]), rtol=1e-5, atol=1e-5)


def test_with_gradients_or_in_half_precision_they_are_torchs() -> None:
    plain, packed = pair(torch.channels_last, kernel_size=3, padding=1)
    x = maps(torch.channels_last)
    assert torch.equal(packed(x), plain(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(packed(x), plain(x))
    assert packed_for(packed) == 0


@torch.no_grad()
def test_where_they_are_wrong_torchs_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = frozen._packed
    monkeypatch.setattr(frozen, "_packed", lambda *args: lambda *inputs: right(*args)(*inputs) * 1.01)
    plain, packed = pair(torch.channels_last, kernel_size=3, padding=1)
    x = maps(torch.channels_last)
    assert torch.equal(packed(x), plain(x)) and torch.equal(packed(x), plain(x))


def test_only_plain_convolutions_are_packed() -> None:
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
    )
    names = list(layers.state_dict())
    pack_convolutions(layers)
    assert [type(layer) for layer in layers] == [FrozenConv2d, nn.Conv2d, nn.Conv2d]
    assert list(layers.state_dict()) == names
