"""The numerics guard: it sees every convolution, catches what is wrong, and falls back to what is right."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import StageFailed
from harness.numerics import check as numerics
from harness.numerics.check import TOLERANCE, Cache, Finding, check
from harness.numerics.choose import choose_numerics
from harness.numerics.convolutions import ConvCase, Convolve, count_convolutions, reduced_case, torch_convolve
from harness.numerics.reference import reference_convolution, relative_error

CPU = torch.device("cpu")
DENSE = ConvCase((3, 3), (1, 1), (1, 1), (1, 1), 1, 8, 16, (12, 14), 2)
DILATED = ConvCase((3, 3), (1, 1), (2, 2), (2, 2), 16, 16, 16, (36, 36), 2)
"""The kind that AVX-512 bf16 CPUs get wrong in bf16 channels_last."""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test measures for itself."""
    monkeypatch.setattr(numerics, "_PROCESS", {})


class Small(nn.Module):
    """Dense, depthwise dilated, functional and transposed convolutions, one of them twice, and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.first = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.again = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16, bias=False)
        self.drop = nn.Dropout(0.5)
        self.up = nn.ConvTranspose2d(16, 4, 4, stride=2, padding=1)
        self.weight = nn.Parameter(torch.ones(5, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.drop(self.again(self.first(self.norm(self.stem(images)))))
        return F.conv2d(self.up(x), self.weight)


class _WrongGradient(torch.autograd.Function):
    """A convolution whose forward pass is right and whose weight gradient is not."""

    @staticmethod
    def forward(ctx, x, weight, case, factor):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.case, ctx.factor = case, factor
        return torch_convolve(case, x, weight)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        with torch.enable_grad():
            leaves = tuple(t.detach().to(gradient.dtype).requires_grad_() for t in ctx.saved_tensors)
            y = torch_convolve(ctx.case, *leaves)
            x_gradient, weight_gradient = torch.autograd.grad(y, leaves, gradient)
        return x_gradient.float(), ctx.factor * weight_gradient.float(), None, None


def wrong(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    """Ten per cent too much weight gradient for dilated convolutions, right for the others."""
    return _WrongGradient.apply(x, weight, case, 1.1 if max(case.dilation) > 1 else 1.0)  # type: ignore[no-any-return]


def test_every_convolution_is_found_once_with_its_size() -> None:
    cases = count_convolutions(Small(), (40, 48), batch=8)
    assert len(cases) == 4  # the two dilated ones differ in their bias alone
    by_kind = {case.kind: case for case in cases}
    assert set(by_kind) == {"3x3, stride 2", "depthwise 3x3, dilation 2", "transposed 4x4, stride 2", "1x1"}
    assert by_kind["3x3, stride 2"].size == (40, 48)
    dilated = by_kind["depthwise 3x3, dilation 2"]
    assert (dilated.size, dilated.groups, dilated.padding, dilated.batch) == ((20, 24), 16, (2, 2), 8)
    up = by_kind["transposed 4x4, stride 2"]
    assert (up.in_channels, up.out_channels, up.size) == (16, 4, (20, 24))
    assert by_kind["1x1"].size == (40, 48)  # functional, in no module


def test_looking_leaves_no_trace() -> None:
    network = Small().train()
    network.norm.eval()  # somebody's frozen batch norm
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    choose_numerics(network, (16, 16), 2, CPU, "bf16", False)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training and network.drop.training and not network.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_modules_that_take_no_images_give_their_own_dry_run() -> None:
    translator = nn.Sequential(nn.Conv2d(8, 4, 3, stride=2), nn.ConvTranspose2d(4, 8, 3, stride=2))
    cases = count_convolutions(translator, (0, 0), 4, run=lambda: translator(torch.zeros(1, 8, 9, 9)))
    assert [case.transposed for case in cases] == [True, False] or [case.transposed for case in cases] == [False, True]
    assert {case.size for case in cases} == {(9, 9), (4, 4)}


@pytest.mark.parametrize("seed", range(40))
def test_the_truth_is_what_torch_computes_in_float64(seed: int) -> None:
    pick = random.Random(seed)
    kernel = (pick.choice([1, 2, 3, 5]), pick.choice([1, 3]))
    stride = (pick.choice([1, 2, 3]), pick.choice([1, 2]))
    transposed = seed % 3 == 0
    case = ConvCase(
        kernel=kernel,
        stride=stride,
        padding=(pick.choice([0, 1]), pick.choice([0, 1, 2])) if min(kernel) > 1 else (0, 0),
        dilation=(pick.choice([1, 2]), pick.choice([1, 3])),
        groups=pick.choice([1, 2, 4]),
        in_channels=pick.choice([4, 8]),
        out_channels=pick.choice([4, 12]),
        size=(pick.choice([12, 13, 15]), pick.choice([11, 14, 16])),
        batch=2,
        transposed=transposed,
        output_padding=(pick.randrange(stride[0]), pick.randrange(stride[1])) if transposed else (0, 0),
    )
    x = torch.randn(2, case.in_channels, *case.size, dtype=torch.float64)
    ends = (case.in_channels, case.out_channels) if transposed else (case.out_channels, case.in_channels)
    weight = torch.randn(ends[0], ends[1] // case.groups, *kernel, dtype=torch.float64)
    ours, torchs = reference_convolution(case, x, weight), torch_convolve(case, x, weight)
    assert ours.shape == torchs.shape
    assert torch.allclose(ours, torchs, rtol=1e-12, atol=1e-12)
    if not transposed:
        assert case.macs == ours.numel() * case.in_channels // case.groups * kernel[0] * kernel[1]


def test_fp32_is_right_here_in_both_layouts() -> None:
    for channels_last in (False, True):
        for finding in check([DENSE, DILATED], CPU, "fp32", channels_last):
            assert finding.right, str(finding)
            assert max(finding.errors.values()) < 1e-5


def _independent(case: ConvCase, precision: torch.dtype, layout: torch.memory_format) -> bool:
    """Whether a module of that convolution trains rightly, found without any code of the guard."""
    torch.manual_seed(1)
    arguments = (case.in_channels, case.out_channels, case.kernel)
    options = {"padding": case.padding, "dilation": case.dilation, "groups": case.groups, "bias": False}
    module = nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]
    truth = nn.Conv2d(*arguments, **options).double()  # type: ignore[arg-type]
    truth.load_state_dict(module.state_dict())
    x = torch.randn(case.batch, case.in_channels, *case.size)
    gradient = torch.randn(case.batch, case.out_channels, *case.size)
    truth(x.double()).backward(gradient.double())
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    with torch.autocast("cpu", dtype=precision):
        y = module(x.contiguous(memory_format=layout))
    y.backward(gradient.to(y.dtype).contiguous(memory_format=layout))
    assert module.weight.grad is not None and truth.weight.grad is not None
    error = (module.weight.grad.double() - truth.weight.grad).norm() / truth.weight.grad.norm()
    return bool(error < 0.05)


def test_dilated_depthwise_in_bf16_channels_last_is_judged_as_an_independent_comparison_does() -> None:
    """Wrong on CPUs with AVX-512 bf16, right on others: the guard must say which this is."""
    right = _independent(DILATED, torch.bfloat16, torch.channels_last)
    (finding,) = check([DILATED], CPU, "bf16", True)
    assert finding.right == right, str(finding)
    network = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
    run = lambda: network(torch.zeros(1, 16, 36, 36))  # noqa: E731
    decision = choose_numerics(network, (36, 36), 2, CPU, "bf16", True, run=run, convolve=torch_convolve)
    assert decision.channels_last == right
    assert bool(decision.note) != right
    if not right:
        assert finding.wrong == ["weight gradient"]
        assert _independent(DILATED, torch.bfloat16, torch.contiguous_format)
        assert (decision.precision, decision.channels_last) == ("bf16", False)
        assert "bf16 channels_last gives a wrong weight gradient" in decision.note


def test_a_wrong_weight_gradient_is_caught_and_only_where_it_is() -> None:
    dense, dilated = check([DENSE, DILATED], CPU, "bf16", False, convolve=wrong)
    assert dense.right
    assert dilated.wrong == ["weight gradient"]
    assert dilated.weight_gradient == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_wrong(value: float) -> None:
    def spoilt(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
        y = torch_convolve(case, x, weight)
        return torch.where(torch.arange(y.shape[-1]) == 3, y * value, y)

    (finding,) = check([DENSE], CPU, "fp32", False, convolve=spoilt)
    assert "output" in finding.wrong and not finding.right


def _broken_in(*combinations: tuple[torch.dtype, bool]) -> Convolve:
    """Twice the output, in those combinations of dtype and channels_last."""

    def convolve(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
        y = torch_convolve(case, x, weight)
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        return y * 2 if (y.dtype, channels_last) in combinations else y

    return convolve


BF16_LAST, BF16, FP32_LAST, FP32 = (
    (torch.bfloat16, True),
    (torch.bfloat16, False),
    (torch.float32, True),
    (torch.float32, False),
)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ([], ("bf16", True)),
        ([BF16_LAST], ("bf16", False)),
        ([BF16_LAST, BF16], ("fp32", True)),
        ([BF16_LAST, BF16, FP32_LAST], ("fp32", False)),
    ],
)
def test_the_next_right_combination_is_used(broken: list[tuple[torch.dtype, bool]], expected: tuple[str, bool]) -> None:
    network = nn.Conv2d(3, 8, 3)
    decision = choose_numerics(network, (12, 12), 2, CPU, "bf16", True, convolve=_broken_in(*broken))
    assert (decision.precision, decision.channels_last) == expected
    assert bool(decision.note) == bool(broken)
    assert decision.findings[-1].right
    for name in ("bf16 contiguous", "fp32 channels_last")[: max(len(broken) - 1, 0)]:
        assert f"{name} is wrong too" in decision.note


def test_when_nothing_is_right_the_stage_fails_with_a_sentence() -> None:
    network = nn.Conv2d(3, 8, 3)
    with pytest.raises(StageFailed, match="no precision and memory layout"):
        choose_numerics(network, (12, 12), 2, CPU, "bf16", True, convolve=_broken_in(BF16_LAST, BF16, FP32_LAST, FP32))


def test_what_cannot_be_run_is_not_right() -> None:
    def not_implemented(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'Half'")
        return torch_convolve(case, x, weight)

    decision = choose_numerics(nn.Conv2d(3, 8, 3), (12, 12), 2, CPU, "fp16", False, convolve=not_implemented)
    assert decision.precision == "fp32"
    assert "cannot run (not implemented for 'Half')" in decision.note


def test_capped_sizes_keep_what_the_fault_depends_on() -> None:
    big = ConvCase((3, 3), (1, 1), (4, 4), (4, 4), 968, 968, 968, (129, 129), 16)
    small = reduced_case(big, CPU)
    assert small.size[1] == 129  # columns
    assert small.size[0] >= 2 * 9  # twice the reach
    assert (small.in_channels, small.groups) == (136, 136) and small.in_channels % 64 == 968 % 64
    assert small.dilation == big.dilation and small.macs < big.macs / 100
    assert reduced_case(DENSE, CPU) == DENSE


def test_findings_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "numerics.json"
    first = check([DENSE], CPU, "bf16", True, Cache(file))
    monkeypatch.setattr(numerics, "_PROCESS", {})

    def never(*_: object) -> Finding:
        raise AssertionError("measured again")

    monkeypatch.setattr(numerics, "_measure", never)
    assert check([DENSE], CPU, "bf16", True, Cache(file)) == first
    assert [path.name for path in file.parent.iterdir()] == ["numerics.json"]
    for other in (("bf16", False), ("fp32", True)):  # another combination is another finding
        with pytest.raises(AssertionError, match="measured again"):
            check([DENSE], CPU, other[0], other[1], Cache(file))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="measured again"):
        check([replace(DENSE, dilation=(2, 2))], CPU, "bf16", True, Cache(file))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with pytest.raises(AssertionError, match="measured again"):
            check([DENSE], CPU, "bf16", True, Cache(file))
    finally:
        torch.set_num_threads(threads)


def test_two_writers_lose_nothing_and_damage_costs_only_time(tmp_path: Path) -> None:
    file = tmp_path / "numerics.json"
    file.write_text('{"half": ')
    one, two = Cache(file), Cache(file)
    check([DENSE], CPU, "fp32", True, one)
    check([DENSE], CPU, "fp32", False, two)
    assert len(json.loads(file.read_text())) == 2


def test_injected_convolutions_are_never_remembered(tmp_path: Path) -> None:
    file = tmp_path / "numerics.json"
    (bad,) = check([DILATED], CPU, "fp32", False, Cache(file), convolve=wrong)
    (good,) = check([DILATED], CPU, "fp32", False, Cache(file))
    assert good.right and not bad.right


def test_relative_error_is_norm_over_norm() -> None:
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert relative_error(torch.tensor([3.0, 4.5]), truth) == pytest.approx(0.1)
    assert math.isnan(relative_error(torch.tensor([math.nan, 4.0]), truth))


def test_tolerances_leave_room_for_rounding_and_not_for_a_fault() -> None:
    for precision, epsilon in (("bf16", 2**-8), ("fp16", 2**-11), ("fp32", 2**-24)):
        assert epsilon < TOLERANCE[precision] < 0.05


def test_mobilenet_at_stride_8_is_decided_and_every_finding_of_the_decision_is_right() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("mobilenetv2_100", features_only=True, output_stride=8, pretrained=False)
    decision = choose_numerics(network, (64, 96), 4, CPU, "bf16", True)
    used = [
        f for f in decision.findings if (f.precision, f.channels_last) == (decision.precision, decision.channels_last)
    ]
    assert len(used) >= 20 and all(finding.right for finding in used)
    assert any(max(finding.case.dilation) == 4 and finding.case.groups > 1 for finding in used)
