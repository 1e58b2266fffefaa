"""Whole networks of torchvision and SMP: the maps are read off, the weights come in, the numbers are their own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import segmentation

from backbones.base import Weights
from backbones.build import build_network
from backbones.network_weights import load_network
from backbones.probe import measure_sizes
from backbones.smp_model_family import SmpModelFamily, saved_model
from backbones.torchvision_family import TorchvisionFamily
from backbones.whole import NetworkFamily, OwnHead, Taps, WholeNetwork

CLASSES = 5
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def theirs() -> nn.Module:
    torch.manual_seed(0)
    return segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES).eval()


@pytest.mark.parametrize(
    ("name", "stride"),
    [("deeplabv3_mobilenet_v3_large", 16), ("lraspp_mobilenet_v3_large", 16), ("fcn_resnet50", 8)],
)
def test_torchvisions_numbers(name: str, stride: int) -> None:
    network = build_network(TorchvisionFamily(), OwnHead, name, stride, CLASSES, Weights()).eval()
    assert isinstance(network, WholeNetwork)
    with torch.no_grad():
        maps, expected = network(IMAGES), network.module(IMAGES)["out"]
    resized = F.interpolate(maps.logits, size=IMAGES.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected, atol=1e-5, rtol=0)
    sizes = measure_sizes(network)
    assert sizes.strides[-1] == stride and sizes.classes == CLASSES
    assert sizes.features == tuple(x.shape[1] for x in maps.features) and sizes.last == maps.last.shape[1]


def test_a_network_saved_by_torchvision_comes_in(tmp_path: Path) -> None:
    """As its authors wrap it: DataParallel's names, half precision, an auxiliary head, inside a checkpoint."""
    model = theirs()
    state = {f"module.{name}": value for name, value in model.half().state_dict().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "model.pth")
    network = TorchvisionFamily().network("lraspp_mobilenet_v3_large", 16, CLASSES, Weights()).eval()
    load_network(network, tmp_path / "model.pth", "lraspp")
    with torch.no_grad():
        expected = model.float()(IMAGES)["out"]
        found = F.interpolate(network(IMAGES).logits, size=IMAGES.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["DeepLabV3Plus", "FPN", "Unet"])
def test_a_network_saved_by_smp_comes_in(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"decoder_channels": 64} if architecture == "DeepLabV3Plus" else {}
    model = getattr(smp, architecture)("resnet18", encoder_weights=None, classes=CLASSES, **options).eval()
    model.save_pretrained(str(tmp_path / "saved"))
    name, found_options, classes, file = saved_model(tmp_path / "saved")
    assert name == f"{architecture}.resnet18" and classes == CLASSES
    stride = 16 if architecture == "DeepLabV3Plus" else 32
    network = SmpModelFamily().network(name, stride, classes, Weights(), found_options).eval()
    load_network(network, file, name)
    with torch.no_grad():
        maps, expected = network(IMAGES), model(IMAGES)
        _, upsample, activation = network.module.get_submodule("segmentation_head").children()
    torch.testing.assert_close(activation(upsample(maps.logits)), expected, atol=1e-5, rtol=0)
    if options:
        assert maps.last.shape[1] == 64


def test_sizes_that_smp_refuses_are_padded_and_cut() -> None:
    network = SmpModelFamily().network("FPN.resnet18", 32, CLASSES, Weights()).eval()
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 50, 70))
    assert [tuple(x.shape[-2:]) for x in maps.features] == [(25, 35), (13, 18), (7, 9), (4, 5), (2, 3)]
    assert maps.logits.shape == (1, CLASSES, 13, 18)


def test_our_own_networks_come_in_from_another_workspace(tmp_path: Path) -> None:
    from backbones.heads import Linear
    from backbones.timm_family import TimmFamily

    first, second = (build_network(TimmFamily(), Linear, "mobilenetv2_035", 32, CLASSES, Weights()) for _ in range(2))
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    load_network(second, tmp_path / "weights.safetensors", "mobilenetv2_035")
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_classes_in_another_order(tmp_path: Path) -> None:
    model = theirs()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    network = TorchvisionFamily().network("lraspp_mobilenet_v3_large", 16, 2, Weights())
    with pytest.raises(ValueError, match="has 5 classes, the data set has 2: map one to the other"):
        load_network(network, tmp_path / "w.safetensors", "lraspp")


@pytest.mark.parametrize("stride", [16])
def test_classes_picked_by_number(tmp_path: Path, stride: int) -> None:
    torch.manual_seed(0)
    model = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    network = TorchvisionFamily().network("deeplabv3_mobilenet_v3_large", stride, 3, Weights()).eval()
    load_network(network, tmp_path / "w.safetensors", "deeplabv3", classes=[4, 0, 2])
    with torch.no_grad():
        whole = model(IMAGES)["out"]
        found = F.interpolate(network(IMAGES).logits, size=IMAGES.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, whole[:, [4, 0, 2]], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="has no class 9"):
        load_network(network, tmp_path / "w.safetensors", "deeplabv3", classes=[9, 0, 2])


def test_another_network_is_refused_by_name_and_number(tmp_path: Path) -> None:
    state = theirs().state_dict()
    short = dict(list(state.items())[:-2])
    save_file(short, tmp_path / "short.safetensors")
    network = TorchvisionFamily().network("lraspp_mobilenet_v3_large", 16, CLASSES, Weights())
    with pytest.raises(ValueError, match=rf"{len(state) - len(short)} of its {len(state)} tensors are missing"):
        load_network(network, tmp_path / "short.safetensors", "lraspp")
    save_file(state | {"decoder.extra": torch.zeros(1)}, tmp_path / "long.safetensors")
    with pytest.raises(ValueError, match=r"1 belong to another network, first decoder\.extra"):
        load_network(network, tmp_path / "long.safetensors", "lraspp")
    wide = copy.copy(state)
    name = "backbone.0.0.weight"
    wide[name] = torch.zeros(8, 3, 3, 3)
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors have another shape, first backbone.0.0.weight: \(8, 3, 3, 3\)"):
        load_network(network, tmp_path / "wide.safetensors", "lraspp")


class Tiny(NetworkFamily):
    """What a plugin writes."""

    name = "tiny"
    summary = "a network of two convolutions"

    def encoders(self) -> list[str]:
        return ["two"]

    def module(self, name: str, classes: int, options: object) -> tuple[nn.Module, Taps]:
        module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))
        return module, Taps("2", ("1",))


def test_a_plugin_says_a_module_and_its_taps() -> None:
    network = build_network(Tiny(), OwnHead, "two", 4, CLASSES, Weights())
    maps = network(IMAGES)
    assert maps.logits.shape == (2, CLASSES, 16, 24) and maps.last.shape == (2, 4, 16, 24)
    assert torch.equal(maps.features[0], maps.last)
    maps.logits.square().mean().backward()
    with pytest.raises(ValueError, match="output stride 4, not 8: write tiny:two@4"):
        build_network(Tiny(), OwnHead, "two", 8, CLASSES, Weights())
    with pytest.raises(ValueError, match="has no imagenet weights"):
        build_network(Tiny(), OwnHead, "two", 4, CLASSES, Weights("imagenet"))


def test_heads_and_families_that_do_not_go_together() -> None:
    from backbones.heads import Linear
    from backbones.timm_family import TimmFamily

    with pytest.raises(ValueError, match="without a head"):
        build_network(TimmFamily(), OwnHead, "mobilenetv2_035", 32, CLASSES, Weights())
    with pytest.raises(ValueError, match="own head: write two/own@4"):
        build_network(Tiny(), Linear, "two", 4, CLASSES, Weights())


def test_a_folder_that_smp_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it needs config\.json and model\.safetensors"):
        saved_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18"}')
    with pytest.raises(ValueError, match="was not written by SMP's save_pretrained"):
        saved_model(tmp_path)
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18", "_model_class": "Unett"}')
    with pytest.raises(ValueError, match="did you mean Unet"):
        saved_model(tmp_path)
