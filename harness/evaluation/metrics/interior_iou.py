"""Interior IoU: IoU of the pixels that are away from the labels' outlines; what Boundary IoU leaves out.

The pixels are those outside a trimap, the band around the labels' outlines in which Kohli et al. ("Robust higher order
potentials", IJCV 2009) and Chen et al. (DeepLab, TPAMI 2018) measure errors. G and P are the masks of a class in labels
and predictions, and I the pixels farther than d from every outline of the labels:

    Interior IoU = |I ∩ G ∩ P| / |I ∩ (G ∪ P)|

I ∩ G is G without G_d, so boundary and interior partition every mask of the labels. d, the distance, the picture's edge
and void are as in Boundary IoU.

P is not cut by outlines of its own. Were it P without P_d, an outline that is a few pixels off would move that set's
edge as well, and one error would count on both sides. Here an outline that is off by at most d costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.base import IGNORE
from harness.evaluation.confusion import confusion
from harness.evaluation.metrics.base import Metric
from harness.evaluation.outlines import RATIO, label_border
from results.metrics import INTERIOR_IOU


class InteriorIoU(Metric, declared=INTERIOR_IOU):
    """Mean over the classes that have an interior in the labels of the IoU on these pixels."""

    ratio = RATIO
    """d over the picture's diagonal."""

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        """(4, K): |I ∩ G ∩ P| and |I ∩ (G ∪ P)| of every class, one, and |I ∩ G|: classes without any are omitted."""
        inside = torch.where(label_border(label, self.ratio), IGNORE, label)
        matrix = confusion(prediction[None], inside[None], self.classes)[0]
        both, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        return torch.stack([both, labelled + predicted - both, torch.ones_like(both), labelled])
