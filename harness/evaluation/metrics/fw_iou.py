"""Frequency-weighted IoU: IoU over the classes, each weighted by its labelled pixels (Long et al., CVPR 2015)."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import FW_IOU


class FrequencyWeightedIoU(BuiltInCountMetric, declared=FW_IOU):
    """Σ labelled_k · IoU_k / Σ labelled_k."""
