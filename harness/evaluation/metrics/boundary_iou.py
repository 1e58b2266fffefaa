"""Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021): IoU of the regions near outlines, where a large output
stride costs most.

For a class with mask G in the labels and P in the predictions, G_d and P_d are the pixels of the mask that are within d
pixels of its outline, on its inside (equation 4): Boundary IoU = |G_d ∩ P_d| / |G_d ∪ P_d|. d is 2 % of the picture's
diagonal, distance is that of a square window, and the picture's edge is an outline, all as in the authors' code.
Intersections and unions are added up over images before the ratio, then averaged over the classes, as for mIoU.
Predictions on pixels without a label are taken away first, so that the void around an object is an outline for both.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.base import IGNORE
from harness.evaluation.metrics.base import Metric


class BoundaryIoU(Metric):
    """Mean over the classes in the labels of the IoU of the masks' inner borders."""

    name = "boundary_iou"
    heading = "boundary IoU"
    summary = "IoU of the pixels near the outlines of the classes' masks (within 2 % of the diagonal)"
    ratio = 0.02
    """d over the picture's diagonal."""

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        """(4, K): |G_d ∩ P_d| and |G_d ∪ P_d| of every class, one, and |G_d|: classes without labels are omitted."""
        height, width = label.shape
        distance = max(1, round(self.ratio * (height**2 + width**2) ** 0.5))
        predicted = torch.where(label == IGNORE, IGNORE, prediction)
        ours, theirs = border(predicted, distance), border(label, distance)
        both = self._count(label, ours & theirs & (predicted == label))
        labelled = self._count(label, theirs)
        union = self._count(predicted, ours) + labelled - both
        return torch.stack([both, union, torch.ones_like(both), labelled])

    def _count(self, classes: Tensor, where: Tensor) -> Tensor:
        """(K,): number of pixels of each class in a selection."""
        bins = torch.where(where & (classes != IGNORE), classes, self.classes)
        return torch.bincount(bins.flatten(), minlength=self.classes + 1)[: self.classes]


def border(classes: Tensor, distance: int) -> Tensor:
    """(H, W), bool: pixels with another class, or the picture's edge, less than `distance` + 1 pixels away.

    A pixel is inside when its window of 2·distance + 1 lies within the picture and nothing changes in it: no pixel
    differs from its neighbour on the right, none from the one below. Sums over windows come from one cumulative sum, so
    the cost does not depend on the distance, nor on the number of classes.

    Args:
        classes: (H, W), integers.
    """
    height, width = classes.shape
    across = (classes[:, 1:] != classes[:, :-1]).int()
    down = (classes[1:] != classes[:-1]).int()
    side = 2 * distance + 1
    inside = torch.zeros_like(classes, dtype=torch.bool)
    if height < side or width < side:
        return ~inside
    changes = _window_sums(across, side, side - 1) + _window_sums(down, side - 1, side)
    inside[distance : height - distance, distance : width - distance] = changes == 0
    return ~inside


def _window_sums(values: Tensor, height: int, width: int) -> Tensor:
    """(H − height + 1, W − width + 1): sums over all windows of (H, W)."""
    table = F.pad(values.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32), (1, 0, 1, 0))
    return table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
