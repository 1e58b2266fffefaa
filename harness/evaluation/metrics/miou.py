"""mIoU, the headline: hit / (labelled + predicted − hit) of every class over all images, averaged over the classes."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import MIOU


class MeanIoU(BuiltInCountMetric, declared=MIOU):
    """Mean over classes of intersection over union; classes that the labels do not contain are omitted."""
