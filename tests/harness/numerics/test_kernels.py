"""Gradients of our own for dilated depthwise convolutions: right everywhere, and torch's forward pass bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.numerics import choose as choosing
from harness.numerics.check import TOLERANCE, check
from harness.numerics.choose import choose_numerics
from harness.numerics.convolutions import ConvCase, torch_convolve
from harness.numerics.kernels import DepthwiseConv2d, depthwise, has_own_gradients, own_convolve, use_own_kernels

CPU = torch.device("cpu")
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def case(
    kernel: tuple[int, int] = (3, 3),
    dilation: tuple[int, int] = (2, 2),
    padding: tuple[int, int] | None = None,
    size: tuple[int, int] = (9, 11),
    channels: int = 6,
) -> ConvCase:
    """Depthwise, stride 1, "same" padding unless another is given."""
    same = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    return ConvCase(kernel, (1, 1), padding or same, dilation, channels, channels, channels, size, 2)


CASES = [
    case(),
    case(size=(8, 8)),
    case(dilation=(4, 4), size=(36, 33), channels=64),  # wide enough to show the fault of torch's
    case(dilation=(2, 4), size=(12, 31)),
    case(dilation=(1, 3)),
    case(kernel=(3, 5), dilation=(2, 2)),
    case(kernel=(5, 5), dilation=(2, 2), size=(30, 30)),
    case(kernel=(2, 3), dilation=(2, 2), padding=(1, 2)),
    case(padding=(0, 0)),
    case(padding=(3, 1)),
    case(dilation=(12, 12), size=(5, 7)),  # most taps see nothing but padding
    case(dilation=(36, 36), size=(7, 7)),
]


@pytest.mark.parametrize("conv", CASES, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
def test_they_are_right(conv: ConvCase, precision: Any, channels_last: bool) -> None:
    assert has_own_gradients(conv)
    (finding,) = check([conv], CPU, precision, channels_last, convolve=own_convolve)
    assert finding.right and finding.own, str(finding)
    assert max(finding.errors.values()) < TOLERANCE[precision] / 4


@pytest.mark.parametrize("conv", CASES, ids=str)
def test_they_are_derivatives(conv: ConvCase) -> None:
    conv = replace(conv, groups=2, in_channels=2, out_channels=2, batch=1, size=(min(conv.size[0], 8), conv.size[1]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, *conv.size, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, *conv.kernel, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True)

    def call(*inputs: Tensor) -> Tensor:
        return depthwise(*inputs, conv.padding, conv.dilation)

    assert torch.autograd.gradcheck(call, (x, weight, bias), fast_mode=True)


def module(bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(64, 64, 3, padding=2, dilation=2, groups=64, bias=bias)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_outputs_are_those_of_torch_bit_for_bit(layout: torch.memory_format, bf16: bool, bias: bool) -> None:
    plain = module(bias).to(memory_format=layout)  # type: ignore[call-overload]
    own = copy.deepcopy(plain)
    use_own_kernels(own)
    x = torch.randn(2, 64, 36, 36).contiguous(memory_format=layout).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected, found = plain(x), own(x)
    assert expected.dtype == found.dtype and torch.equal(expected, found)
    assert expected.stride() == found.stride()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert torch.equal(plain(x), own(x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_get_gradients_in_their_own_precision_under_autocast(layout: torch.memory_format) -> None:
    truth = module().double()
    own = module().to(memory_format=layout)  # type: ignore[call-overload]
    use_own_kernels(own)
    x = torch.randn(2, 64, 36, 36).contiguous(memory_format=layout).requires_grad_()
    exact = x.detach().double().requires_grad_()
    gradient = torch.randn(2, 64, 36, 36)
    truth(exact).backward(gradient.double())
    with torch.autocast("cpu", torch.bfloat16):
        y = own(x)
    y.backward(gradient.bfloat16())  # contiguous, whatever the layout of the map
    assert truth.bias is not None and own.bias is not None
    for found, expected in ((x, exact), (own.weight, truth.weight), (own.bias, truth.bias)):
        assert found.grad is not None and expected.grad is not None
        assert found.grad.dtype == torch.float32
        assert (found.grad - expected.grad).norm() < 2e-2 * expected.grad.norm()


class Mixed(nn.Module):
    """What has gradients of our own, twice, and much that has not; `also` runs the same convolution as a function."""

    def __init__(self, also: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.others = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, padding_mode="reflect"),
            nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=8),
            nn.Conv2d(16, 8, 3, padding=2, dilation=2, stride=2, groups=8),
            nn.Conv2d(8, 8, 3, padding=5, dilation=2, groups=8),
        )
        self.also = also

    def forward(self, images: Tensor) -> Tensor:
        x = self.second(self.first(torch.cat((images, images, images[:, :2]), dim=1)))
        if self.also:
            x = F.conv2d(x, self.second.weight, None, 1, 2, 2, 8)
        result: Tensor = self.others(x)
        return result


def test_names_and_weights_stay_and_only_what_suits_is_changed() -> None:
    network = Mixed()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    use_own_kernels(network)
    use_own_kernels(network)
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert [m for m in network.modules() if isinstance(m, DepthwiseConv2d)] == [network.first, network.second]
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):  # noqa: S301
        assert type(copied.first) is DepthwiseConv2d and isinstance(copied.first, nn.Conv2d)
        Mixed().load_state_dict(copied.state_dict())


def broken(where: Callable[[Tensor], bool]) -> Callable[[ConvCase, Tensor, Tensor], Tensor]:
    def convolve(conv: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
        y = own_convolve(conv, x, weight)
        return y * 2 if where(y) else y

    return convolve


def test_the_decision_says_how_many_and_applies_them() -> None:
    network = Mixed()
    decision = choose_numerics(network, (40, 44), 2, CPU, "fp32", True)
    assert (decision.precision, decision.channels_last, decision.note) == ("fp32", True, "")
    assert decision.kernels.startswith("own gradients of 2 dilated depthwise convolutions")
    assert sum(finding.own for finding in decision.findings) == 1
    assert type(network.first) is nn.Conv2d
    decision.apply(network)
    assert type(network.first) is DepthwiseConv2d


def test_where_torch_is_wrong_the_decision_says_so() -> None:
    conv = case(size=(40, 44), channels=64)
    (torchs,) = check([conv], CPU, "bf16", True)
    network = nn.Conv2d(64, 64, 3, padding=2, dilation=2, groups=64)
    run = lambda: network(torch.zeros(1, 64, 40, 44))  # noqa: E731
    decision = choose_numerics(network, (40, 44), 2, CPU, "bf16", True, run=run)
    assert (decision.precision, decision.channels_last, decision.note) == ("bf16", True, "")
    assert ("torch's weight gradient is wrong in bf16 channels_last" in decision.kernels) == (not torchs.right)
    assert "own gradients of 1 dilated depthwise convolution" in decision.kernels


def test_where_ours_are_wrong_torchs_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "own_convolve", broken(lambda y: True))
    network = Mixed()
    decision = choose_numerics(network, (12, 14), 2, CPU, "fp32", True)
    assert (decision.precision, decision.channels_last, decision.note, decision.kernels) == ("fp32", True, "", "")
    decision.apply(network)
    assert type(network.first) is nn.Conv2d


def test_what_also_runs_as_a_function_is_compared_with_torchs_gradients_too() -> None:
    """Only modules can be given other gradients."""
    conv = case(size=(40, 44), channels=8)
    found = {}
    for also in (False, True):
        decision = choose_numerics(Mixed(also), (40, 44), 2, CPU, "fp32", True)
        found[also] = {finding.own for finding in decision.findings if finding.case == conv}
    assert found == {False: {True}, True: {False, True}}


def test_injected_convolutions_are_all_that_is_compared() -> None:
    decision = choose_numerics(Mixed(), (12, 14), 2, CPU, "fp32", True, convolve=torch_convolve)
    assert decision.kernels == "" and not any(finding.own for finding in decision.findings)
