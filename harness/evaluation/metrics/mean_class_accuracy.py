"""Mean class accuracy: the fraction of correct pixels of each class, averaged over the classes."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import MEAN_CLASS_ACCURACY


class MeanClassAccuracy(BuiltInCountMetric, declared=MEAN_CLASS_ACCURACY):
    """Mean over the labelled classes of correct / labelled pixels; false positives do not count."""
