"""Outlines of the classes' masks: which pixels lie near one (after Cheng et al., "Boundary IoU", CVPR 2021).

Distance is that of a square window, and the picture's edge is an outline, both as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.evaluation.metrics.base import memo

RATIO = 0.02
"""The distance within which pixels are near an outline, over the picture's diagonal."""


def reach(classes: Tensor, ratio: float) -> int:
    """The distance d in pixels, at least one, for a picture of (H, W)."""
    height, width = classes.shape
    return max(1, round(ratio * (height**2 + width**2) ** 0.5))


def label_border(label: Tensor, ratio: float) -> Tensor:
    """`border` of an image's label within `reach`, computed once for all metrics of the image."""
    distance = reach(label, ratio)
    return memo(("border of the label", distance), lambda: border(label, distance))


def border(classes: Tensor, distance: int) -> Tensor:
    """(H, W), bool: pixels with another class, or the picture's edge, less than `distance` + 1 pixels away.

    A pixel is inside when its window of 2·distance + 1 lies within the picture and nothing changes in it: no pixel
    differs from its neighbour on the right, none from the one below. The number of classes does not matter.

    Args:
        classes: (H, W), integers.
    """
    height, width = classes.shape
    side = 2 * distance + 1
    inside = torch.zeros_like(classes, dtype=torch.bool)
    if height < side or width < side:
        return ~inside
    across, down = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    changes = _any_in_windows(across, side, side - 1) | _any_in_windows(down, side - 1, side)
    inside[distance : height - distance, distance : width - distance] = ~changes
    return ~inside


def _any_in_windows(values: Tensor, height: int, width: int) -> Tensor:
    """(H − height + 1, W − width + 1), bool: whether any value in a window of (H, W) is true.

    A window is put together of two smaller ones, so that the time grows with the logarithm of its size.
    """
    for dim, size in enumerate((height, width)):
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            places = values.shape[dim] - step
            values = values.narrow(dim, 0, places) | values.narrow(dim, step, places)
            covered += step
    return values
