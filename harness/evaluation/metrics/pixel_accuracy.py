"""Pixel accuracy: the share of labelled pixels that are right. Large classes decide it."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import PIXEL_ACCURACY


class PixelAccuracy(BuiltInCountMetric, declared=PIXEL_ACCURACY):
    """Right pixels over labelled pixels."""
