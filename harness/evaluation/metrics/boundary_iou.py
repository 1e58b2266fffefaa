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

from harness.data.base import IGNORE
from harness.evaluation.metrics.base import Metric
from harness.evaluation.outlines import RATIO, border, label_border, reach
from results.metrics import BOUNDARY_IOU


class BoundaryIoU(Metric, declared=BOUNDARY_IOU):
    """Mean over the classes in the labels of the IoU of the masks' inner borders."""

    ratio = RATIO
    """d over the picture's diagonal."""

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        """(4, K): |G_d ∩ P_d| and |G_d ∪ P_d| of every class, one, and |G_d|: classes without labels are omitted."""
        predicted = torch.where(label == IGNORE, IGNORE, prediction)
        ours, theirs = border(predicted, reach(label, self.ratio)), label_border(label, self.ratio)
        both = self._count(label, ours & theirs & (predicted == label))
        labelled = self._count(label, theirs)
        union = self._count(predicted, ours) + labelled - both
        return torch.stack([both, union, torch.ones_like(both), labelled])

    def _count(self, classes: Tensor, where: Tensor) -> Tensor:
        """(K,): number of pixels of each class in a selection."""
        bins = torch.where(where & (classes != IGNORE), classes, self.classes)
        return torch.bincount(bins.flatten(), minlength=self.classes + 1)[: self.classes]
