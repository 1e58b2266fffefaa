"""Whole networks of segmentation_models_pytorch, as written by its `save_pretrained`; the name is the architecture.

`smp_model:DeepLabV3Plus.resnet34` is `smp.DeepLabV3Plus("resnet34")`; other fields of a saved configuration (decoder
channels, ...) are passed as options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import segmentation_models_pytorch as smp
from torch import nn

from backbones.weights import unknown
from backbones.whole import NetworkFamily, Taps

ARCHITECTURES: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
_NOT_OPTIONS = ("classes", "encoder_name", "encoder_weights", "in_channels", "activation", "aux_params")


class SmpModelFamily(NetworkFamily):
    """Whole models of SMP: `ARCHITECTURE.ENCODER`."""

    name: ClassVar[str] = "smp_model"
    summary: ClassVar[str] = "SMP's whole models, ARCHITECTURE.ENCODER, as save_pretrained writes them"

    def encoders(self) -> Sequence[str]:
        """One name per architecture; any encoder of SMP may follow the dot."""
        return sorted(f"{name}.resnet34" for name in ARCHITECTURES)

    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        architecture, _, inner = encoder.partition(".")
        if architecture not in ARCHITECTURES or not inner:
            return unknown(encoder, self.name, self.encoders())
        if not inner.startswith("tu-") and inner not in smp.encoders.get_encoder_names():
            return unknown(inner, "smp", smp.encoders.get_encoder_names())
        return None

    def module(self, name: str, classes: int, options: Mapping[str, Any]) -> tuple[nn.Module, Taps]:
        architecture, _, inner = name.partition(".")
        if reason := self.unsupported_reason(name, 0):
            raise ValueError(reason)
        try:
            module = ARCHITECTURES[architecture](encoder_name=inner, encoder_weights=None, classes=classes, **options)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"smp_model:{name} cannot be built: {error}") from error
        encoder: Any = module.get_submodule("encoder")
        multiple = int(encoder.output_stride) if getattr(module, "requires_divisible_input_shape", True) else 1
        return module, Taps("segmentation_head.0", ("encoder",), multiple=multiple)


def saved_model(folder: Path) -> tuple[str, dict[str, Any], int, Path]:
    """The contents of a folder written by `save_pretrained`: (ARCHITECTURE.ENCODER, options, classes, weights file).

    Raises:
        ValueError: the folder is of another kind, or SMP does not know the architecture.
    """
    config, weights = folder / "config.json", folder / "model.safetensors"
    if not config.is_file() or not weights.is_file():
        raise ValueError(f"{folder} is not an SMP model: it needs config.json and model.safetensors")
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        architecture, encoder = str(said.pop("_model_class")), str(said["encoder_name"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config} was not written by SMP's save_pretrained: it has no {error}") from error
    if architecture not in ARCHITECTURES:
        raise ValueError(unknown(architecture, "smp_model", ARCHITECTURES))
    if int(said.get("in_channels", 3)) != 3:
        raise ValueError(f"{folder} has {said['in_channels']} input channels; images have 3")
    options = {name: value for name, value in said.items() if name not in _NOT_OPTIONS and not name.startswith("_")}
    return f"{architecture}.{encoder}", options, int(said.get("classes", 1)), weights
