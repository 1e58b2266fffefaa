"""Heads: from backbone maps to class logits, at strides 4, 8, 16 and 32, including those that SMP's models reject.

They combine SMP's decoder modules; atrous rates scale with the output stride, and odd input sizes work. Each returns
the input of its classifier, the last convolution, as `last`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base import Head

RATES_AT_16 = (6, 12, 18)
"""DeepLab's atrous rates at output stride 16."""


def atrous_rates(stride: int) -> tuple[int, int, int]:
    """DeepLab's atrous rates at an output stride, scaled with the map to keep the receptive field in pixels.

    (6, 12, 18) * 16 / stride: (24, 48, 72) at 4, (12, 24, 36) at 8, (6, 12, 18) at 16, (3, 6, 9) at 32.
    """
    a, b, c = (max(1, rate * 16 // stride) for rate in RATES_AT_16)
    return a, b, c


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the grid of `like`."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Linear(Head):
    """A 1x1 classifier on the last backbone map: no ASPP, no decoder. `last` is that map."""

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "1x1 classifier on the last backbone map; logits at the output stride"

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.stride, self.last_channels = strides[-1], channels[-1]
        self.classifier = nn.Conv2d(channels[-1], classes, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        last = features[-1]
        return self.classifier(last), last


class Aspp(Head):
    """DeepLabV3 (Chen et al. 2017): ASPP, 3x3 convolution, 1x1 classifier; logits at the output stride.

    SMP's decoder with the authors' own dropout (keep 0.9) after the projection.
    """

    name: ClassVar[str] = "aspp"
    summary: ClassVar[str] = "DeepLabV3: ASPP and a 3x3 convolution; logits at the output stride"
    width: ClassVar[int] = 256
    dropout: ClassVar[float] = 0.1

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.stride, self.last_channels = strides[-1], self.width
        self.decoder = DeepLabV3Decoder(
            channels[-1], self.width, atrous_rates(strides[-1]), aspp_separable=False, aspp_dropout=self.dropout
        )
        self.classifier = nn.Conv2d(self.width, classes, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        last: Tensor = self.decoder(list(features))
        return self.classifier(last), last


class DeepLabV3Plus(Head):
    """DeepLabV3+ (Chen et al. 2018): separable ASPP, joined with the first map of stride 4; logits at stride 4.

    SMP's decoder, with its fixed upsampling factor replaced by a resize to the finer map, so that every output stride
    and odd input sizes work.
    """

    name: ClassVar[str] = "deeplabv3plus"
    summary: ClassVar[str] = "DeepLabV3+: separable ASPP and a decoder; logits at stride 4"
    width: ClassVar[int] = 256
    dropout: ClassVar[float] = 0.1

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.stride, self.last_channels = 4, self.width
        self._fine = list(strides).index(4)
        self.decoder = DeepLabV3PlusDecoder(
            # SMP reads only the third map and the last one.
            encoder_channels=[0, 0, channels[self._fine], channels[-1]],
            encoder_depth=3,
            out_channels=self.width,
            atrous_rates=atrous_rates(strides[-1]),
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=self.dropout,
        )
        self.decoder.up = nn.Identity()
        self.classifier = nn.Conv2d(self.width, classes, kernel_size=1)

    @classmethod
    def unsupported_reason(cls, strides: Sequence[int]) -> str | None:
        return None if 4 in strides else f"deeplabv3plus needs a map of stride 4; there are {_listed(strides)}"

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fine = features[self._fine]
        coarse = _resize(self.decoder.aspp(features[-1]), fine)
        last: Tensor = self.decoder.block2(torch.cat([coarse, self.decoder.block1(fine)], dim=1))
        return self.classifier(last), last


class PspNet(Head):
    """PSPNet (Zhao et al. 2017): pyramid pooling in 1, 2, 3 and 6 bins, 3x3 convolution, dropout, 1x1 classifier."""

    name: ClassVar[str] = "pspnet"
    summary: ClassVar[str] = "PSPNet: pyramid pooling and a 3x3 convolution; logits at the output stride"
    width: ClassVar[int] = 512
    dropout: ClassVar[float] = 0.1

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.stride, self.last_channels = strides[-1], self.width
        self.pyramid = PSPModule(channels[-1], sizes=(1, 2, 3, 6), use_norm="batchnorm")
        joined = channels[-1] + 4 * (channels[-1] // 4)
        self.bottleneck = Conv2dReLU(joined, self.width, kernel_size=3, padding=1, use_norm="batchnorm")
        self.drop = nn.Dropout2d(self.dropout)
        self.classifier = nn.Conv2d(self.width, classes, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        last: Tensor = self.drop(self.bottleneck(self.pyramid(features[-1])))
        return self.classifier(last), last


class Unet(Head):
    """SMP's U-Net decoder, unchanged, for encoders of stride 32; logits at stride 1, from a 3x3 classifier.

    The head does not know the image size, so its last grid is twice that of the first map: 514 for an input of 513.
    """

    name: ClassVar[str] = "unet"
    summary: ClassVar[str] = "SMP's U-Net, output stride 32; logits at stride 1"
    widths: ClassVar[tuple[int, ...]] = (256, 128, 64, 32, 16)

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self.stride, self.last_channels = 1, self.widths[-1]
        self._skips = {s: i for i, s in enumerate(strides)}
        skips = [channels[self._skips[s]] if s in self._skips else 0 for s in (2, 4, 8, 16, 32)]
        self.decoder = UnetDecoder(encoder_channels=[3, *skips], decoder_channels=self.widths)
        self.classifier = nn.Conv2d(self.widths[-1], classes, kernel_size=3, padding=1)

    @classmethod
    def unsupported_reason(cls, strides: Sequence[int]) -> str | None:
        # A map of stride 2 may be missing (ConvNeXt): SMP omits that skip connection, too.
        if {4, 8, 16, 32} <= set(strides) and strides[-1] == 32:
            return None
        return f"unet needs maps of strides 4, 8, 16 and 32; there are {_listed(strides)}"

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        maps = {s: features[i] for s, i in self._skips.items()}
        if 2 not in maps:
            maps[2] = _stand_in(maps[4], 0)
        pyramid = [_stand_in(maps[2], 3), *(maps[s] for s in (2, 4, 8, 16, 32))]
        last: Tensor = self.decoder(pyramid)
        return self.classifier(last), last


def _stand_in(x: Tensor, channels: int) -> Tensor:
    """A map of twice the grid, used for its shape only."""
    return x.new_empty(x.shape[0], channels, 2 * x.shape[2], 2 * x.shape[3])


class Fpn(Head):
    """SMP's FPN for encoders of stride 32; logits at stride 4.

    For sizes divisible by 32 it equals SMP's; otherwise each map is resized to the grid that it is added to.
    """

    name: ClassVar[str] = "fpn"
    summary: ClassVar[str] = "SMP's feature pyramid, output stride 32; logits at stride 4"

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        self._maps = [list(strides).index(s) for s in (4, 8, 16, 32)]
        self.decoder = FPNDecoder(encoder_channels=[channels[i] for i in self._maps], encoder_depth=5)
        self.stride, self.last_channels = 4, self.decoder.out_channels
        self.classifier = nn.Conv2d(self.last_channels, classes, kernel_size=1)

    @classmethod
    def unsupported_reason(cls, strides: Sequence[int]) -> str | None:
        if {4, 8, 16, 32} <= set(strides) and strides[-1] == 32:
            return None
        return f"fpn needs maps of strides 4, 8, 16 and 32; there are {_listed(strides)}"

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        c2, c3, c4, c5 = (features[i] for i in self._maps)
        parts = self.decoder
        p5 = parts.p5(c5)
        pyramid = [p5]
        for block, skip in ((parts.p4, c4), (parts.p3, c3), (parts.p2, c2)):
            side = block.skip_conv(skip)
            pyramid.append(F.interpolate(pyramid[-1], size=side.shape[-2:], mode="nearest") + side)
        maps = [block(x) for block, x in zip(parts.seg_blocks, pyramid, strict=True)]
        last: Tensor = parts.dropout(parts.merge([_resize(x, maps[-1]) for x in maps]))
        return self.classifier(last), last


def _listed(strides: Sequence[int]) -> str:
    return ", ".join(str(s) for s in strides)
