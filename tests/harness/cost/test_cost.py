"""Costs: fvcore, closed form and torch's own counter agree; nothing is silently zero; measuring leaves no trace."""

from __future__ import annotations

import json
import math

import pytest
import torch
import typer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from backbones.base import Backbone, Head, Network
from backbones.probe import meta_copy
from harness.builders.models import build_model, model_sizes, model_unsupported_reason
from harness.cli.backbones import backbones as backbones_command
from harness.cli.cost import cost as cost_command
from harness.cost import HEADLINE, count_macs, measure_cost, measure_latency, parameters, peak_memory, shape_macs
from harness.cost.forward import fitting_size, forward_macs
from harness.cost.memory import LiveBytes
from harness.errors import HarnessError
from harness.numerics.frozen import pack_convolutions
from harness.specs.spec import parse_model

CPU = torch.device("cpu")
STUDENT = "timm:mobilenetv2_100/linear"
GMACS = {4: (29.89, 29.894), 8: (7.93, 7.932), 16: (2.51, 2.510), 32: (1.55, 1.546)}
"""MobileNetV2 with a 1x1 classifier of 21 classes at 513x513: closed form, and fvcore's count of convolutions."""


def closed_form(network: Network, size: tuple[int, int]) -> float:
    """Sum over convolutions of output positions x output channels x window x input channels of a group."""
    twin, total = meta_copy(network).eval(), 0

    def count(module: nn.Conv2d, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * math.prod(module.kernel_size) * module.in_channels // module.groups

    for module in twin.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        twin(torch.empty(1, 3, *size, device="meta"))
    return float(total)


@pytest.mark.parametrize("stride", GMACS)
def test_the_papers_student_costs_what_closed_form_says(stride: int) -> None:
    network = build_model(parse_model(f"{STUDENT}@{stride}"), 21)
    form, fvcore = GMACS[stride]
    counted = count_macs(network, (513, 513))
    assert counted.headline == closed_form(network, (513, 513)) == shape_macs(network, (513, 513))
    assert round(counted.headline / 1e9, 2) == form
    assert round(counted.by_operator["conv"] / 1e9, 3) == fvcore
    assert counted.headline == counted.by_operator["conv"]
    assert set(counted.by_operator) == {"conv", "batch_norm"}
    # Batch norm is counted, but not in the headline.
    assert 0 < counted.by_operator["batch_norm"] < 0.06 * counted.headline
    assert set(counted.uncounted) == {"aten::add", "aten::hardtanh_"}
    assert forward_macs(f"{STUDENT}@{stride}", (513, 513), 21) == counted.headline


@pytest.mark.parametrize(
    "word",
    [
        "timm:resnet10t/aspp@32",
        "timm:mobilenetv2_035/deeplabv3plus@32",
        "timm:convnext_atto/pspnet@16",
        "timm:vit_tiny_patch16_224/linear@16",
        "smp:resnet18/unet@32",
        "smp:mit_b0/fpn@32",
    ],
)
def test_fvcore_agrees_with_torchs_counter_which_counts_two_a_mac(word: str) -> None:
    """Convolutions, linear layers and attention, each by two counters that share no code."""
    network = build_model(parse_model(word), 7).eval()
    counted = count_macs(network, (64, 96))
    # Torch's counter has no formula for the fused attention of CPUs: it must be made of matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 64, 96))
    assert counter.get_total_flops() == pytest.approx(2 * counted.headline, rel=1e-9)
    assert shape_macs(network, (64, 96)) == pytest.approx(counted.headline, rel=1e-9)
    assert set(counted.by_operator) & HEADLINE
    assert all(times > 0 for times in counted.uncounted.values()) and counted.uncounted


def test_dilation_is_seen_and_costs_grow_with_the_grid() -> None:
    costs = [forward_macs(f"timm:mobilenetv2_035/linear@{s}", (128, 128)) for s in (4, 8, 16, 32)]
    assert costs[0] > 3 * costs[1] > 6 * costs[2] and costs[2] > costs[3]


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = build_model(parse_model("timm:mobilenetv2_035/linear@16"), 4).train()
    frozen = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cost = measure_cost(network, (64, 96), CPU, "bf16", channels_last=True)
    assert network.training and not frozen.training and not any(p.grad is not None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert cost.input_size == (64, 96) and cost.dilation == "timm output_stride"
    assert cost.parameters == parameters(network) == sum(p.numel() for p in network.parameters())
    assert cost.latency is not None and cost.latency.precision == "bf16" and cost.latency.batch == 1
    assert 0 < cost.latency.median_ms <= cost.latency.p95_ms
    assert cost.latency.threads == torch.get_num_threads() and cost.latency.device
    assert cost.macs == cost.macs_by_operator["conv"] < sum(cost.macs_by_operator.values())
    assert measure_cost(network, (64, 96), CPU, latency=False).latency is None


def test_a_slow_network_is_timed_less_often() -> None:
    network = build_model(parse_model("timm:mobilenetv2_035/linear@32"), 4)
    assert measure_latency(network, (32, 32), CPU, runs=3, warmup=1, seconds=60).runs == 3
    assert measure_latency(network, (32, 32), CPU, runs=50, seconds=0).runs == 1


class _Wide(Backbone):
    """Two convolutions of known size, the first map gone when the last is made."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 64, 1, bias=False), nn.Conv2d(64, 2, 1, bias=False)
        self.channels, self.strides, self.dilation = (2,), (1,), ""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.b(self.a(images))]


class _Same(Head):
    name, summary, stride, last_channels = "same", "", 1, 2

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        return features[-1], features[-1]


def test_peak_memory_is_what_lives_at_once() -> None:
    network = Network(_Wide(), _Same((), (), 2), 2)
    pixels, weights = 10 * 20, 3 * 64 + 64 * 2
    # Image, first map and second map live together, and the weights always.
    assert peak_memory(network, (10, 20), CPU) == 4 * (weights + pixels * (3 + 64 + 2))


def test_storages_are_followed_to_their_end() -> None:
    live = LiveBytes()
    with live:
        x = torch.zeros(1000)
        view = x[10:]
        y = x + 1
        assert live.now == 8000
        del x
        assert live.now == 8000
        del view, y
    assert (live.now, live.peak) == (0, 8000)


def test_peak_memory_grows_with_the_size_and_a_finer_stride() -> None:
    coarse = build_model(parse_model("timm:mobilenetv2_035/aspp@32"), 4)
    fine = build_model(parse_model("timm:mobilenetv2_035/aspp@4"), 4)
    small, large = (peak_memory(coarse, size, CPU) for size in ((64, 64), (128, 128)))
    assert small < large < peak_memory(fine, (128, 128), CPU)
    assert small > 4 * parameters(coarse)


def test_models_by_their_word() -> None:
    spec = parse_model("timm:resnet10t/linear@8")
    sizes = model_sizes(spec, 6)
    assert (sizes.classes, sizes.stride, sizes.last, sizes.features[-1]) == (6, 8, 512, 512)
    assert model_sizes(spec, 9).classes == 9
    assert model_unsupported_reason(spec) is None
    assert "stride" in str(model_unsupported_reason(parse_model("timm:resnet10t/linear@4")))
    assert "unet needs maps" in str(model_unsupported_reason(parse_model("timm:resnet10t/unet@8")))
    for refuse in (model_sizes, build_model):
        with pytest.raises(HarnessError, match="stride"):
            refuse(parse_model("timm:resnet10t/linear@4"), 6)
    with pytest.raises(HarnessError, match="stride"):
        forward_macs("timm:resnet10t/linear@4", (64, 64))
    with pytest.raises(HarnessError, match="stride"):
        build_model(parse_model("timm:resnet10t/linear@4"), 6)
    with pytest.raises(HarnessError, match="did you mean"):
        build_model(parse_model("timm:resnet10/linear@8"), 6)
    with pytest.raises(HarnessError, match="did you mean linear"):
        model_unsupported_reason(parse_model("timm:resnet10t/linea@8"))


def _cli(*arguments: str):  # type: ignore[no-untyped-def]
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("cost")(cost_command)
    app.command("backbones")(backbones_command)
    return CliRunner().invoke(app, list(arguments))


def test_cost_command() -> None:
    said = _cli("cost", "timm:resnet10t", "--strides", "4,16", "--size", "64x96", "--json")
    assert said.exit_code == 0
    data = json.loads(said.stdout)
    assert data["size"] == [64, 96] and "1 MAC = 2 FLOPs" in data["note"]
    impossible, possible = data["models"]
    assert "stride" in impossible["reason"] and "macs" not in impossible
    assert possible["flops"] == 2 * possible["macs"] == 2 * forward_macs("timm:resnet10t/linear@16", (64, 96), 21)
    table = _cli("cost", "timm:resnet10t/linear@16", "--size", "64", "--latency").stdout
    assert "1 MAC = 2 FLOPs" in table and "not counted" in table and "p95" in table
    assert _cli("cost", "timm:resnet10t/linear@4").exit_code == 1
    for wrong in (["--size", "huge"], ["--strides", "x"], ["--precision", "fp8"]):
        assert isinstance(_cli("cost", "timm:resnet10t", *wrong).exception, HarnessError)


def test_backbones_command() -> None:
    data = json.loads(_cli("backbones", "timm:mobilenetv2_035", "--json").stdout)
    assert data["verified"]
    found = {family["name"]: family["encoders"] for family in data["families"]}
    assert found["timm"] == [{"name": "mobilenetv2_035", "strides": [4, 8, 16, 32], "reasons": {}}]
    assert not found["smp"]
    everything = json.loads(_cli("backbones", "--json").stdout)
    assert not everything["verified"] and sum(len(f["encoders"]) for f in everything["families"]) > 1000
    assert {"linear", "aspp", "deeplabv3plus", "pspnet", "unet", "fpn"} <= {h["name"] for h in everything["heads"]}
    assert "strides 8, 16, 32" in _cli("backbones", "timm:resnet10t").stdout
    assert "no encoder matches" in _cli("backbones", "nosuchthing").stdout


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("picky:fours/linear@32", [68, 68]),
        ("timm:swin_tiny_patch4_window7_224@32", [65, 65]),
        ("smp:mit_b0/fpn@32", [65, 65]),
    ],
)
def test_a_size_that_an_encoder_does_not_take_is_rounded_up_and_said(model: str, size: list[int], picky: str) -> None:
    app = typer.Typer()
    app.command()(cost_command)
    found = CliRunner().invoke(app, [model, "--size", "65", "--json"])
    assert found.exit_code == 0, found.output
    (row,) = json.loads(found.output)["models"]
    assert row["macs"] > 0 and row.get("size", [65, 65]) == size
    assert ("note" in row) == (size != [65, 65])
    if model.startswith("timm:"):
        return  # large, and said as of the others
    shown = CliRunner().invoke(app, [model, "--size", "65"])
    assert shown.exit_code == 0 and ("it does not accept images of 65x65" in " ".join(shown.output.split())) == (
        "note" in row
    )


def test_sizes_that_fit_are_left_as_they_are(picky: str) -> None:
    assert fitting_size(parse_model("timm:test_efficientnet/linear@16"), (33, 47)) == (33, 47)
    assert fitting_size(parse_model("timm:swin_tiny_patch4_window7_224/linear@32"), (50, 64)) == (50, 64)
    assert fitting_size(parse_model(picky), (50, 64)) == (52, 64)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_packed_weights_of_a_frozen_convolution_are_counted_while_they_live() -> None:
    convolution = nn.Conv2d(32, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pack_convolutions(convolution)
    x = torch.randn(2, 32, 12, 12).contiguous(memory_format=torch.channels_last)
    weights = convolution.weight.numel() * 4
    with torch.no_grad(), LiveBytes() as live:
        y = convolution(x)
        assert live.now == weights + y.numel() * 4
        convolution._ways.clear()
        assert live.now == y.numel() * 4
