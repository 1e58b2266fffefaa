"""torchvision's whole segmentation models, DeepLabV3, FCN and LR-ASPP, with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn
from torchvision.models import get_model, list_models, segmentation

from backbones.base import Weights
from backbones.weights import load_checked, unknown
from backbones.whole import NetworkFamily, Taps


class TorchvisionFamily(NetworkFamily):
    """Any model of `torchvision.models.segmentation`, without its auxiliary head."""

    name: ClassVar[str] = "torchvision"
    summary: ClassVar[str] = "torchvision's whole segmentation models: deeplabv3, fcn, lraspp, with a head of their own"

    def encoders(self) -> Sequence[str]:
        return sorted(list_models(module=segmentation))

    def module(self, name: str, classes: int, options: Mapping[str, Any]) -> tuple[nn.Module, Taps]:
        if name not in self.encoders():
            raise ValueError(unknown(name, "torchvision", self.encoders()))
        fixed = {} if name.startswith("lraspp") else {"aux_loss": False}
        module = get_model(name, weights=None, weights_backbone=None, num_classes=classes, **{**options, **fixed})
        return module, _taps(name, module)

    def pretrained(self, name: str, module: nn.Module, weights: Weights) -> None:
        if weights.source == "file" and weights.file is not None:
            load_checked(module.get_submodule("backbone"), weights.file, f"the encoder of torchvision:{name}")
            return
        super().pretrained(name, module, weights)


def _taps(name: str, module: nn.Module) -> Taps:
    """The classifier is the last convolution; the ends of the encoder's stages follow torchvision."""
    encoder = dict(module.get_submodule("backbone").named_children())
    if "layer1" in encoder:
        stages = ["layer1", "layer2", "layer3", "layer4"]
    else:
        # MobileNetV3 marks the first block of each new stride; the block before it gives the last map of its stage.
        marked = [int(place) for place, block in encoder.items() if getattr(block, "_is_cn", False)]
        stages = [str(place) for place in (0, *marked, max(int(place) for place in encoder))]
    features = tuple(f"backbone.{stage}" for stage in stages)
    if name.startswith("lraspp"):
        # The outputs of two classifiers are summed; one of them reads the encoder's last map.
        both = ("classifier.low_classifier", "classifier.high_classifier")
        return Taps("classifier", features, last="classifier.cbr", classifiers=both)
    classifier = module.get_submodule("classifier")
    convolutions = [place for place, part in classifier.named_children() if isinstance(part, nn.Conv2d)]
    return Taps(f"classifier.{convolutions[-1]}", features)
