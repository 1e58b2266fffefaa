"""Pixel accuracy: the fraction of labelled pixels that are correct. Large classes dominate it."""

from __future__ import annotations

from harness.evaluation.metrics.base import BuiltInCountMetric
from results.metrics import PIXEL_ACCURACY


class PixelAccuracy(BuiltInCountMetric, declared=PIXEL_ACCURACY):
    """Correct pixels over labelled pixels."""
