"""Mean class accuracy: the share of each class's labelled pixels that are found, averaged over the classes."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import MEAN_CLASS_ACCURACY


class MeanClassAccuracy(BuiltInCountMetric, declared=MEAN_CLASS_ACCURACY):
    """Mean over the labelled classes of hit / labelled; false alarms are not counted."""
