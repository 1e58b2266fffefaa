"""Encoders: the maps they declare are the maps they give, dilation is what it should be, refusals say why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones.base import BackboneFamily, Weights
from backbones.smp_family import SmpFamily, dilate
from backbones.smp_family import _create as create_smp
from backbones.timm_family import TimmFamily

FAMILIES: dict[str, BackboneFamily] = {"timm": TimmFamily(), "smp": SmpFamily()}
CAN = {
    "timm:mobilenetv2_035": (4, 8, 16, 32),
    "timm:resnet10t": (8, 16, 32),
    "timm:convnext_atto": (8, 16, 32),
    "timm:hrnet_w18_small": (32,),
    "timm:vit_tiny_patch16_224": (16,),
    "timm:fastvit_t8": (32,),
    "smp:mobilenet_v2": (4, 8, 16, 32),
    "smp:resnet18": (4, 8, 16, 32),
    "smp:tu-mobilenetv2_035": (4, 8, 16, 32),
    "smp:vgg11": (32,),
    "smp:mit_b0": (8, 16, 32),
}
SMALL = ("timm:mobilenetv2_035", "timm:convnext_atto", "smp:mobilenet_v2", "smp:tu-mobilenetv2_035")


def _split(word: str) -> tuple[BackboneFamily, str]:
    family, _, encoder = word.partition(":")
    return FAMILIES[family], encoder


@pytest.mark.parametrize("word", CAN)
def test_strides_that_can_be_had_and_reasons_for_the_others(word: str) -> None:
    family, encoder = _split(word)
    reasons = {stride: family.unsupported_reason(encoder, stride) for stride in (4, 8, 16, 32)}
    assert tuple(stride for stride, reason in reasons.items() if reason is None) == CAN[word]
    for stride, reason in reasons.items():
        if reason is not None:
            assert encoder in reason and str(stride) in reason
            with pytest.raises(ValueError, match="stride"):
                family.build(encoder, stride, Weights())


@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
@pytest.mark.parametrize("word", SMALL)
def test_maps_are_those_declared(word: str, size: tuple[int, int]) -> None:
    family, encoder = _split(word)
    for stride in CAN[word]:
        backbone = family.build(encoder, stride, Weights()).eval()
        with torch.no_grad():
            maps = backbone(torch.rand(1, 3, *size))
        assert tuple(x.shape[1] for x in maps) == backbone.channels
        assert backbone.strides[-1] == stride
        for x, s in zip(maps, backbone.strides, strict=True):
            # Encoders without padding round down, the others up.
            assert x.shape[2] in (size[0] // s, -(-size[0] // s))
            assert x.shape[3] in (size[1] // s, -(-size[1] // s))
        assert backbone.dilation and len(backbone.mean) == len(backbone.std) == 3


def test_maps_with_channels_last_come_as_channels_first() -> None:
    backbone = TimmFamily().build("swin_tiny_patch4_window7_224", 32, Weights()).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]


@pytest.mark.parametrize(("encoder", "dense"), [("mobilenetv2_035", 4), ("mobilenetv2_035", 8), ("resnet18", 8)])
def test_a_dilated_encoder_gives_the_strided_map_on_a_denser_grid(encoder: str, dense: int) -> None:
    """Atrous convolution computes the same features: every n-th position of the dense map is the coarse map."""
    torch.manual_seed(0)
    coarse = TimmFamily().build(encoder, 32, Weights()).eval()
    fine = TimmFamily().build(encoder, dense, Weights()).eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        a, b = coarse(images)[-1], fine(images)[-1]
    step = 32 // dense
    assert a.std() > 0
    torch.testing.assert_close(b[:, :, ::step, ::step], a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("encoder", ["mobilenet_v2", "resnet18"])
def test_our_dilation_is_smps_where_smp_has_one(encoder: str, stride: int) -> None:
    # Not for SMP's efficientnet-*: its table begins the stage of stride 32 some blocks too early.
    with torch.device("meta"):
        ours, theirs = create_smp(encoder, 32), create_smp(encoder, stride)
        dilate(ours, stride)
    assert _convolutions(ours) == _convolutions(theirs)


def _convolutions(module: nn.Module) -> dict[str, tuple[object, ...]]:
    """Stride, dilation and padding of every convolution that has a window."""
    return {
        name: (m.stride, m.dilation, m.padding)
        for name, m in module.named_modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    }


def test_normalisation_is_the_encoders_own() -> None:
    assert TimmFamily().build("tf_efficientnet_lite0", 32, Weights()).mean == (0.5, 0.5, 0.5)
    assert SmpFamily().build("tu-tf_efficientnet_lite0", 32, Weights()).std == (0.5, 0.5, 0.5)
    assert TimmFamily().build("resnet10t", 32, Weights()).mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(("word", "near"), [("timm:mobilenetv2_10", "mobilenetv2_100"), ("smp:resnet-18", "resnet18")])
def test_unknown_encoders_are_answered_with_near_ones(word: str, near: str) -> None:
    family, encoder = _split(word)
    reason = family.unsupported_reason(encoder, 16)
    assert reason is not None and near in reason
    with pytest.raises(ValueError, match="did you mean"):
        family.build(encoder, 16, Weights())


def test_names_are_listed_sorted_and_at_once() -> None:
    for family in FAMILIES.values():
        names = list(family.encoders())
        assert names == sorted(names) and len(names) == len(set(names)) > 50
