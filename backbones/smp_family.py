"""Encoders from segmentation_models_pytorch (SMP), dilated by SMP's rule."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar

import timm
from segmentation_models_pytorch import encoders as smp
from segmentation_models_pytorch.encoders import _utils as smp_utils
from torch import Tensor, nn

from backbones.base import Backbone, BackboneFamily, Weights
from backbones.probe import map_sizes, meta_copy, on_meta, stride_of
from backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_from_file,
    hub,
    load_checked,
    no_hub,
    quiet,
    unknown,
)


class SmpBackbone(Backbone):
    """An SMP encoder, without the input image and the empty placeholders in SMP's list of maps."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, images: Tensor) -> list[Tensor]:
        # VGG-like encoders return a map of stride 1 where others return the image itself.
        maps = self.encoder(images)
        return [x for x in maps if x is not images and x.shape[1] > 0]


def _create(encoder: str, stride: int, weights: Any = None, **options: Any) -> nn.Module:
    """SMP's encoder at strides 8, 16 and 32; `tu-` encoders at any stride that timm supports; stride 4 by `dilate`."""
    wide = stride == 4 and not encoder.startswith("tu-")
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        built: nn.Module = smp.get_encoder(
            encoder, in_channels=3, depth=5, weights=weights, output_stride=32 if wide else stride, **options
        )
    if wide:
        dilate(built, 4)
    return built


def dilate(encoder: nn.Module, target: int) -> None:
    """SMP's rule for output strides, extended to any stride (SMP stops at 8).

    Every convolution whose output has stride s > target gets stride 1 and dilation s / target. SMP reads the stages
    from a table that begins at stride 16; here each convolution's stride is measured in a forward pass.

    Raises:
        ValueError: a convolution's stride exceeds 2, so dilation cannot replace it.
    """
    strides: dict[str, int] = {}
    twin = meta_copy(encoder).eval()

    def see(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            before, strides[name] = stride_of(inputs[0]), stride_of(output)
            if strides[name] > max(target, 2 * before):
                raise ValueError(f"{name} has stride {strides[name] // before}, which dilation cannot replace")

        return hook

    for name, module in twin.named_modules():
        if isinstance(module, nn.Conv2d) and (module.kernel_size != (1, 1) or module.stride != (1, 1)):
            module.register_forward_hook(see(name))
    map_sizes(lambda x: [m for m in twin(x) if m.shape[1] > 0])
    modules = dict(encoder.named_modules())
    for name, stride in strides.items():
        if stride > target:
            smp_utils.replace_strides_with_dilation(modules[name], stride // target)


@lru_cache(maxsize=4096)
def probe(encoder: str, stride: int) -> tuple[tuple[int, ...], tuple[int, ...]] | str:
    """Channels and strides of an encoder's maps at an output stride, or the reason why it cannot be built."""
    try:
        backbone = on_meta(lambda: SmpBackbone(_create(encoder, stride).eval()))
        channels, strides = map_sizes(backbone)
    except Exception as error:  # any exception of SMP is the reason
        cause = " ".join(str(error).split())[:160] or _refusal(encoder, error)
        return f"smp:{encoder} cannot be built at stride {stride}: {cause}"
    if strides[-1] != stride:
        return f"smp:{encoder} cannot be dilated to stride {stride}: its last map has stride {strides[-1]}"
    return channels, strides


def _refusal(encoder: str, error: Exception) -> str:
    """The reason behind an exception without a message."""
    refused = encoder.startswith("tu-") and isinstance(error, AssertionError)
    return "timm cannot dilate it so far" if refused else type(error).__name__


class SmpFamily(BackboneFamily):
    """SMP's own encoders, and timm's with the prefix `tu-`."""

    name: ClassVar[str] = "smp"
    summary: ClassVar[str] = "SMP's encoders, strides by make_dilated; timm's as tu-NAME"

    def encoders(self) -> Sequence[str]:
        """SMP's own names. timm's, as `tu-NAME`, are accepted too but not listed."""
        return sorted(smp.get_encoder_names())

    def unsupported_reason(self, encoder: str, stride: int) -> str | None:
        if encoder.startswith("tu-"):
            if not timm.is_model(encoder[3:]):
                return unknown(encoder[3:], "timm (for smp:tu-)", timm.list_models())
        elif encoder not in smp.get_encoder_names():
            return unknown(encoder, "smp", smp.get_encoder_names())
        found = probe(encoder, stride)
        return found if isinstance(found, str) else None

    def build(self, encoder: str, stride: int, weights: Weights) -> Backbone:
        reason = self.unsupported_reason(encoder, stride)
        found = probe(encoder, stride) if reason is None else reason
        if isinstance(found, str):
            raise ValueError(found)
        backbone = SmpBackbone(_weighted(encoder, stride, weights))
        backbone.channels, backbone.strides = found
        backbone.dilation = _path(encoder, stride)
        backbone.mean, backbone.std = _normalisation(encoder, weights)
        return backbone


def _path(encoder: str, stride: int) -> str:
    if stride == 32:
        return "native"
    if encoder.startswith("tu-"):
        return "timm output_stride, by smp"
    return "smp make_dilated, carried to 4" if stride == 4 else "smp make_dilated"


def _normalisation(encoder: str, weights: Weights) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std: timm's for `tu-` encoders; SMP's for weights from its hub; otherwise ImageNet's."""
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder[3:], allow_unregistered=True)
        mean, std = getattr(config, "mean", IMAGENET_MEAN), getattr(config, "std", IMAGENET_STD)
    elif weights.source == "imagenet" and weights.file is None:
        with hub():
            params = smp.get_preprocessing_params(encoder, "imagenet")
        mean, std = params["mean"], params["std"]
    else:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def _weighted(encoder: str, stride: int, weights: Weights) -> nn.Module:
    """The encoder with its initial weights."""
    if weights.source == "random":
        return _create(encoder, stride)
    if weights.file is None and weights.source == "file":
        raise ValueError(f"smp:{encoder}: weights from a file were asked for, but no file was named")
    if weights.file is None:
        try:
            with hub():
                return _create(encoder, stride, weights=True if encoder.startswith("tu-") else "imagenet")
        except Exception as error:
            raise no_hub(encoder, error) from error
    if not encoder.startswith("tu-"):
        built = _create(encoder, stride)
        load_checked(built, weights.file, f"smp:{encoder}")
        return built
    known = on_meta(lambda: timm.create_model(encoder[3:])).state_dict()
    create = partial(_create, encoder, stride, weights=True)
    return build_from_file(create, weights.file, known, f"smp:{encoder}")
