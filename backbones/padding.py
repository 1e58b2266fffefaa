"""Images padded below and to the right to sides that a network takes, and its maps cut to the image again."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def padded(images: Tensor, multiple: int) -> Tensor:
    """Images (B, 3, H, W) with zeros, the mean of normalised pixels, up to sides that are multiples."""
    below, right = (-side % multiple for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, below)) if below or right else images


def cut(x: Tensor, images: Tensor, padded: Tensor) -> Tensor:
    """The part of a map (B, C, h, w) of padded images that belongs to the images."""
    if padded is images:
        return x
    rows, columns = (math.ceil(n * a / b) for n, a, b in zip(x.shape[-2:], images.shape[-2:], padded.shape[-2:]))
    return x[..., :rows, :columns]
