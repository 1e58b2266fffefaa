"""1x1 convolutions by oneDNN: bit for bit what torch computes with 16 images, and only while gradients are computed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from harness.numerics.check import check
from harness.numerics.choose import choose_numerics
from harness.numerics.convolutions import ConvCase
from harness.numerics.kernels import own_convolve, use_own_kernels
from harness.numerics.pointwise import PointwiseConv2d, is_pointwise

CPU = torch.device("cpu")
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


def convolution(bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(64, 40, 1, bias=bias).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def own(module: nn.Conv2d) -> nn.Conv2d:
    twin = copy.deepcopy(module)
    use_own_kernels(twin)
    assert type(twin) is PointwiseConv2d
    return twin


def images(count: int) -> Tensor:
    x = torch.randn(count, 64, 12, 15, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def results(module: nn.Conv2d, count: int, half: bool = False) -> list[Tensor]:
    """Output, and gradients of the input and of each parameter."""
    x = images(count)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = module(x)
    y.backward(torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y.dtype))
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@onednn
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_with_sixteen_images_torch_computes_the_same_bits(bias: bool, half: bool) -> None:
    plain = convolution(bias)
    found, expected = results(own(plain), 16, half), results(plain, 16, half)
    assert len(found) == 3 + bias
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(found, expected, strict=True))


@onednn
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_with_few_images_they_are_those_of_each_image_among_many(bias: bool) -> None:
    plain = convolution(bias)
    twin = own(plain)
    many = results(plain, 16)
    few = twin(images(16)[:4])
    assert torch.equal(few, many[0][:4])


def test_values_and_gradients_are_torchs_to_rounding() -> None:
    plain = convolution(True)
    for found, expected in zip(results(own(plain), 3), results(plain, 3), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_without_gradients_they_are_torchs_bit_for_bit() -> None:
    plain = convolution(True)
    with torch.inference_mode():
        assert torch.equal(own(plain)(images(3)), plain(images(3)))


@pytest.mark.parametrize("batch", [1, 2])
def test_the_guard_checks_the_kernel_that_trains(batch: int) -> None:
    case = ConvCase((1, 1), (1, 1), (0, 0), (1, 1), 1, 24, 16, (9, 31), batch)
    assert is_pointwise(case)
    (finding,) = check([case], CPU, "fp32", True, convolve=own_convolve)
    assert finding.right and finding.own and finding.what.endswith(", oneDNN")


class Mixed(nn.Module):
    """One of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 8, 1)
        self.strided, self.grouped = nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(8, 8, 1, groups=2)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.point, self.strided, self.grouped, self.wide, self.depthwise):
            x = layer(x)
        return x


def test_the_decision_says_how_many() -> None:
    network = Mixed()
    decision = choose_numerics(network, (40, 44), 2, CPU, "fp32", True)
    assert decision.kernels == "own gradients of 1 dilated depthwise convolution; oneDNN for 1 1x1 convolution"
    decision.apply(network)
    kinds = ["PointwiseConv2d", "Conv2d", "Conv2d", "DenseConv2d", "DepthwiseConv2d"]
    assert [type(module).__name__ for module in network.children()] == kinds
    half = choose_numerics(Mixed(), (40, 44), 2, CPU, "bf16", False)
    assert "oneDNN" not in half.kernels  # torch's own choice there
