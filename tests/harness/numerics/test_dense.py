"""Weight gradients of large dense convolutions on small maps: right, and all else is torch's bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.numerics.check import check
from harness.numerics.choose import choose_numerics
from harness.numerics.convolutions import ConvCase
from harness.numerics.dense import DenseConv2d, dense, has_large_weight
from harness.numerics.kernels import own_convolve, use_own_kernels

CPU = torch.device("cpu")


def case(size: int = 6, dilation: int = 1, stride: int = 1, batch: int = 2) -> ConvCase:
    return ConvCase(
        (3, 3), (stride, stride), (dilation, dilation), (dilation, dilation), 1, 96, 64, (size, size), batch
    )


@pytest.mark.parametrize("conv", [case(), case(dilation=4), case(stride=2), case(size=1)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
def test_they_are_right(conv: ConvCase, channels_last: bool) -> None:
    assert has_large_weight(conv)
    (finding,) = check([conv], CPU, "fp32", channels_last, convolve=own_convolve)
    assert finding.right and finding.what.endswith(", own weight gradient")
    assert max(finding.errors.values()) < 1e-5


def test_on_large_maps_the_weight_is_not_large() -> None:
    assert not has_large_weight(case(size=36)) and not has_large_weight(case(batch=64))


def gradients(module: nn.Conv2d, images: Tensor) -> tuple[Tensor, ...]:
    """The output; gradients of input, weight and bias."""
    x = images.clone(memory_format=torch.channels_last).requires_grad_()
    y = module(x)
    y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape).contiguous(memory_format=torch.channels_last))
    found = (x.grad, module.weight.grad, module.bias.grad) if module.bias is not None else (x.grad, module.weight.grad)
    return y.detach(), *(each for each in found if each is not None)


@pytest.mark.parametrize("dilation", [1, 2])
def test_output_and_input_gradient_are_torchs_bit_for_bit(dilation: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(96, 64, 3, padding=dilation, dilation=dilation)
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = copy.deepcopy(plain)
    use_own_kernels(own)
    assert type(own) is DenseConv2d
    images = torch.randn(2, 96, 6, 7)
    found, expected = gradients(own, images), gradients(plain, images)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for a, b in zip(found[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert own.weight.grad is not None and own.weight.grad.stride() == own.weight.stride()
    with torch.no_grad():
        assert torch.equal(own(images), plain(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(own(images), plain(images))


def test_they_are_derivatives() -> None:
    """In float64 the convolution is torch's throughout."""
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *leaves: dense(*leaves, None, (1, 1), (1, 1), (1, 1)), (x, weight))


def test_the_decision_says_how_many() -> None:
    network = nn.Sequential(nn.Conv2d(3, 96, 3, stride=8, padding=1), nn.Conv2d(96, 64, 3, padding=1))
    decision = choose_numerics(network, (40, 40), 2, CPU, "fp32", True)
    assert decision.kernels == "own weight gradients of 1 large dense convolution"
    assert choose_numerics(network, (40, 40), 2, CPU, "fp32", False).kernels == ""
