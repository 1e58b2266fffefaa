"""Augmentation: drawing random parameters, and applying them jointly to image and label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.base import Sample
from harness.specs.spec import Augment

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of one sample: a region of the stored image, resized, placed on the crop, flipped, recoloured.

    Attributes:
        region: (top, left, height, width) in pixels of the stored image; only this part is resized.
        size: (height, width) of the region after scaling, at most the crop.
        place: (top, left) of the region on the crop; the rest is padding.
        flip: whether to mirror left to right.
        colour: factors of brightness, contrast and saturation.
    """

    region: tuple[int, int, int, int]
    size: tuple[int, int]
    place: tuple[int, int]
    flip: bool
    colour: tuple[float, float, float]


def _axis(extent: int, crop: int, scale: float, where: float) -> tuple[int, int, int, int]:
    """(start, length, scaled length, place) along one axis; `where` in [0, 1) selects the crop or padding."""
    length = min(extent, max(round(crop / scale), 1))
    scaled = crop if length < extent else min(crop, max(round(length * scale), 1))
    return int(where * (extent - length + 1)), length, scaled, int(where * (crop - scaled + 1))


def draw_augmentation(
    extent: tuple[int, int], crop: tuple[int, int], augment: Augment, rng: np.random.Generator
) -> Augmentation:
    """Random scale, crop, flip and colour for an image of (height, width) `extent`.

    The scale is log-uniform in `augment.scale`; brightness, contrast and saturation are uniform in
    1 ± `augment.jitter` / 2. Always draws the same number of random numbers.
    """
    at_scale, at_y, at_x, at_flip, *at_colour = rng.random(7)
    low, high = augment.scale
    scale = float(low * (high / low) ** at_scale)
    top, height, scaled_height, place_y = _axis(extent[0], crop[0], scale, at_y)
    left, width, scaled_width, place_x = _axis(extent[1], crop[1], scale, at_x)
    brightness, contrast, saturation = (1 + augment.jitter * (float(u) - 0.5) for u in at_colour)
    return Augmentation(
        (top, left, height, width),
        (scaled_height, scaled_width),
        (place_y, place_x),
        bool(at_flip < augment.flip),
        (brightness, contrast, saturation),
    )


def apply_augmentation(change: Augmentation, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """The augmented part of a sample, not yet placed on the crop: (3, h, w) uint8 and (h, w) uint8.

    Labels are resized by exact nearest neighbour, which keeps them aligned with the bilinear image to the sub-pixel;
    torchvision's own resize of masks (and so its joint transforms) floors, and shifts thin objects by half a pixel.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as transform

    top, left, height, width = change.region
    area = np.s_[top : top + height, left : left + width]
    image, label = to_tensor(sample.image[area]).permute(2, 0, 1), to_tensor(sample.label[area])[None]
    if change.size != (height, width):
        image = transform.resize(image, list(change.size), InterpolationMode.BILINEAR, antialias=True)
        label = transform.resize(label, list(change.size), InterpolationMode.NEAREST_EXACT, antialias=False)
    if change.flip:
        image, label = transform.horizontal_flip(image), transform.horizontal_flip(label)
    if change.colour != (1.0, 1.0, 1.0):
        brightness, contrast, saturation = change.colour
        image = transform.adjust_brightness(image, brightness)
        image = transform.adjust_contrast(image, contrast)
        image = transform.adjust_saturation(image, saturation)
    return image, label[0]


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor copy, since samples are shared."""
    import torch

    return torch.from_numpy(np.array(array))
