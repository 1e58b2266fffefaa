"""Heads on backbones: every pair said to be possible runs, at even and odd sizes, and learns; the others say why."""

from __future__ import annotations

import inspect

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from backbones import heads
from backbones.base import Backbone, BackboneFamily, Head, Weights
from backbones.build import build_network, build_on_meta, measure_sizes
from backbones.smp_family import SmpFamily
from backbones.timm_family import TimmFamily
from harness.builders.models import model_unsupported_reason
from harness.specs.spec import ModelSpec

HEADS: dict[str, type[Head]] = {
    cls.name: cls for _, cls in inspect.getmembers(heads, inspect.isclass) if issubclass(cls, Head) and cls is not Head
}
STRIDES = (4, 8, 16, 32)
ENCODERS: list[tuple[BackboneFamily, str, int]] = [
    *((TimmFamily(), "mobilenetv2_035", stride) for stride in STRIDES),
    *((SmpFamily(), "resnet18", stride) for stride in (4, 32)),
]
OUTPUT = {"linear": None, "aspp": None, "pspnet": None, "deeplabv3plus": 4, "fpn": 4, "unet": 1}


def test_these_are_the_heads() -> None:
    assert set(HEADS) == set(OUTPUT)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("family", "encoder", "stride"), ENCODERS, ids=lambda value: getattr(value, "name", value))
def test_every_possible_pair_runs_and_learns(family: BackboneFamily, encoder: str, head: str, stride: int) -> None:
    reason = model_unsupported_reason(ModelSpec(family=family.name, encoder=encoder, head=head, stride=stride))
    if reason is not None:
        # Every other head fits every stride of these encoders.
        assert head in ("unet", "fpn") and stride < 32
        assert encoder in reason and "4, 8, 16 and 32" in reason
        with pytest.raises(ValueError):
            build_network(family, HEADS[head], encoder, stride, 5, Weights())
        return
    network = build_network(family, HEADS[head], encoder, stride, 5, Weights())
    sizes = measure_sizes(network)
    assert (sizes.classes, sizes.strides[-1]) == (5, stride)
    assert sizes.logits_stride == sizes.last_stride == (OUTPUT[head] or stride) == network.head.stride
    assert sizes.last == network.head.last_channels
    for height, width in ((64, 64), (65, 97)):
        with torch.no_grad():
            maps = network.eval()(torch.rand(1, 3, height, width))
        assert maps.logits.shape[:2] == (1, 5) and maps.last.shape[:2] == (1, sizes.last)
        assert maps.logits.shape[2:] == maps.last.shape[2:]
        for length, side in zip(maps.logits.shape[2:], (height, width), strict=True):
            assert abs(length - side / sizes.logits_stride) <= 1
        assert tuple(x.shape[1] for x in maps.features) == sizes.features
    network.train()(torch.rand(2, 3, 32, 32)).logits.square().mean().backward()
    without = [name for name, p in network.head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.backbone.parameters())


@pytest.mark.parametrize("head", ["unet", "deeplabv3plus"])
def test_encoders_without_a_map_of_stride_two(head: str) -> None:
    network = build_network(TimmFamily(), HEADS[head], "convnext_atto", 32, 5, Weights()).eval()
    assert network.backbone.strides == (4, 8, 16, 32)
    with torch.no_grad():
        logits = network(torch.rand(1, 3, 64, 96)).logits
    assert logits.shape == (1, 5, 64 // (OUTPUT[head] or 1), 96 // (OUTPUT[head] or 1))


@pytest.mark.parametrize("head", HEADS)
def test_last_is_what_the_classifier_reads(head: str) -> None:
    network = build_network(TimmFamily(), HEADS[head], "mobilenetv2_035", 32, 3, Weights()).train()
    seen: list[tuple[Tensor, Tensor]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    maps = network(torch.rand(2, 3, 64, 64))
    read, given = seen[-1]
    assert read is maps.last and given is maps.logits
    if head == "linear":
        assert maps.last is maps.features[-1]


def test_atrous_rates_follow_the_output_stride() -> None:
    assert [heads.atrous_rates(s) for s in STRIDES] == [(24, 48, 72), (12, 24, 36), (6, 12, 18), (3, 6, 9)]
    for name in ("aspp", "deeplabv3plus"):
        for stride in STRIDES:
            network = build_on_meta(TimmFamily(), HEADS[name], "mobilenetv2_035", stride, 2)
            found = {m.dilation[0] for m in network.head.modules() if isinstance(m, nn.Conv2d)} - {1}
            assert found == set(heads.atrous_rates(stride))


class _Given(Backbone):
    """The encoder of an SMP model, in the house's form."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.channels, self.strides = tuple(encoder.out_channels[1:]), (2, 4, 8, 16, 32)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.encoder(images)[1:])


@pytest.mark.parametrize(
    ("head", "theirs", "scale"),
    [("fpn", smp.FPN, 4), ("unet", smp.Unet, 1)],
)
def test_unet_and_fpn_compute_what_smp_does(head: str, theirs: type[nn.Module], scale: int) -> None:
    torch.manual_seed(0)
    model = theirs("resnet18", encoder_weights=None, classes=3).eval()
    backbone = _Given(model.encoder)
    ours = HEADS[head](backbone.channels, backbone.strides, 3).eval()
    ours.decoder.load_state_dict(model.decoder.state_dict())
    ours.classifier.load_state_dict(model.segmentation_head[0].state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        logits, _ = ours(backbone(images))
        expected = model.segmentation_head[0](model.decoder(model.encoder(images)))
    assert logits.shape[2:] == (64 // scale, 96 // scale)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16])
def test_aspp_computes_what_smps_deeplabv3_does(stride: int) -> None:
    torch.manual_seed(0)
    model = smp.DeepLabV3(
        "resnet18",
        encoder_weights=None,
        encoder_output_stride=stride,
        decoder_atrous_rates=heads.atrous_rates(stride),
        classes=3,
    ).eval()
    network = build_network(SmpFamily(), heads.Aspp, "resnet18", stride, 3, Weights()).eval()
    network.backbone.encoder.load_state_dict(model.encoder.state_dict())
    network.head.decoder.load_state_dict(model.decoder.state_dict())
    network.head.classifier.load_state_dict(model.segmentation_head[0].state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.segmentation_head[0](model.decoder(model.encoder(images)))
        torch.testing.assert_close(network(images).logits, expected, rtol=1e-4, atol=1e-5)


def test_sizes_are_found_without_touching_the_network() -> None:
    network = build_network(TimmFamily(), heads.Linear, "mobilenetv2_100", 16, 21, Weights()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sizes = measure_sizes(network)
    assert (sizes.features, sizes.strides) == ((16, 24, 32, 96, 320), (2, 4, 8, 16, 16))
    assert (sizes.classes, sizes.last, sizes.last_stride, sizes.logits_stride) == (21, 320, 16, 16)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
