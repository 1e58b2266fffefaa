"""Metrics as the board knows them: what one declares, and how its value comes of what adds up over images.

A metric keeps a small *state* for every image. States add up: the state of a set of images is the sum of theirs, so a
score of any resampled set costs one product. A state is `(2, G)` to `(4, G)`: numerators, denominators and, optionally,
weights and occurrences of G groups (of the classes, mostly); the value is the weighted mean of the groups' ratios. That
one form covers IoU, accuracies, their frequency-weighted kin, and the plain mean of any number per image (denominator
one).

Whatever follows from confusion matrices is computed from the class counts that are kept for every run, so records that
were written before a metric was declared have it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class MetricInfo:
    """What a metric declares about itself.

    Attributes:
        name: in `--metric`, databases and CSV.
        heading: in tables.
        unit: "%" for a fraction that is shown in per cent; else any unit, or "".
        direction: which values are better.
        digits: decimals in tables, in its unit.
        summary: one line that says what it measures.
    """

    name: str
    heading: str
    unit: str
    direction: Direction
    digits: int
    summary: str


def mean_of_ratios(states: ArrayLike) -> Floats:
    """Σ w_g · n_g/d_g / Σ w_g over the groups with d_g > 0 that occur.

    Args:
        states: (..., 2, G) numerators and denominators; (..., 3, G) with weights below them; (..., 4, G) with how often
            a group occurs below these (labelled pixels of a class): one that does not is left out, whatever d_g is.

    Returns:
        (...), NaN where no group has a denominator or all the weight is zero.
    """
    parts = np.moveaxis(np.asarray(states, dtype=np.float64), -2, 0)
    numerators, denominators = parts[0], parts[1]
    there = denominators > 0
    if len(parts) == 4:
        there = there & (parts[3] > 0)
    weights = np.where(there, parts[2] if len(parts) > 2 else 1.0, 0.0)
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=there)
    weight, total = weights.sum(-1), (weights * ratios).sum(-1)
    return np.asarray(np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=weight > 0))


@dataclass(frozen=True)
class CountMetric:
    """A metric that follows from class counts: per class the pixels hit, labelled and predicted.

    Attributes:
        state: (..., 3, K) class counts -> (..., 2 to 4, G) state. The counts are added up over images before: which
            classes count may depend on the whole set.
    """

    info: MetricInfo
    state: Callable[[ArrayLike], Floats]

    def __call__(self, class_counts: ArrayLike) -> Floats:
        """(..., 3, K) -> (...)."""
        return mean_of_ratios(self.state(class_counts))


def _rows(class_counts: ArrayLike) -> tuple[Floats, Floats, Floats]:
    hits, labelled, predicted = np.moveaxis(np.asarray(class_counts, dtype=np.float64), -2, 0)
    return hits, labelled, predicted


def _iou(class_counts: ArrayLike) -> Floats:
    """Over the classes that occur in the labels, whatever was predicted: the same for every network."""
    hits, labelled, predicted = _rows(class_counts)
    return np.stack([hits, np.where(labelled > 0, labelled + predicted - hits, 0)], axis=-2)


def _pixel_accuracy(class_counts: ArrayLike) -> Floats:
    hits, labelled, _ = _rows(class_counts)
    return np.stack([hits.sum(-1, keepdims=True), labelled.sum(-1, keepdims=True)], axis=-2)


def _class_accuracy(class_counts: ArrayLike) -> Floats:
    hits, labelled, _ = _rows(class_counts)
    return np.stack([hits, labelled], axis=-2)


def _frequency_weighted_iou(class_counts: ArrayLike) -> Floats:
    hits, labelled, predicted = _rows(class_counts)
    return np.stack([hits, labelled + predicted - hits, labelled], axis=-2)


HEADLINE = "miou"
"""The metric that a board ranks by unless another one is named."""

MIOU = CountMetric(
    MetricInfo(
        HEADLINE,
        "mIoU",
        "%",
        "higher",
        1,
        "mean over the classes in the labels of intersection over union, of whole images",
    ),
    _iou,
)
PIXEL_ACCURACY = CountMetric(
    MetricInfo("pixel_accuracy", "pixel accuracy", "%", "higher", 1, "labelled pixels that are right"),
    _pixel_accuracy,
)
MEAN_CLASS_ACCURACY = CountMetric(
    MetricInfo(
        "mean_class_accuracy", "class accuracy", "%", "higher", 1, "mean over classes of the labelled pixels found"
    ),
    _class_accuracy,
)
FW_IOU = CountMetric(
    MetricInfo(
        "fw_iou", "fw. IoU", "%", "higher", 1, "intersection over union, classes weighted by their labelled pixels"
    ),
    _frequency_weighted_iou,
)
COUNT_METRICS: Mapping[str, CountMetric] = {
    metric.info.name: metric for metric in (MIOU, PIXEL_ACCURACY, MEAN_CLASS_ACCURACY, FW_IOU)
}

BOUNDARY_IOU = MetricInfo(
    "boundary_iou",
    "boundary IoU",
    "%",
    "higher",
    1,
    "IoU of the pixels near the outlines of the classes' masks (within 2 % of the diagonal)",
)
INTERIOR_IOU = MetricInfo(
    "interior_iou",
    "interior IoU",
    "%",
    "higher",
    1,
    "IoU of the pixels away from the labels' outlines (farther than 2 % of the diagonal)",
)
STATE_METRICS: Mapping[str, MetricInfo] = {info.name: info for info in (BOUNDARY_IOU, INTERIOR_IOU)}
"""Built-in metrics that need the images: runs that were evaluated before one was built in lack it."""


def score_of(name: str) -> Callable[[ArrayLike], Floats]:
    """From states added up over images to values: class counts for a metric of `COUNT_METRICS`, else its own state."""
    return COUNT_METRICS.get(name, mean_of_ratios)
