"""How sure we are: accuracies with intervals, differences with verdicts.

Two kinds of noise move an mIoU. *Training noise*: another seed gives another network. *Image noise*: other images
give another score. Seeds show the first, and intervals over seeds are Student's t. From a single seed only the second
can be seen, by resampling images; such an interval says nothing of what another seed would give, and every function
here that can only look at images says so in its result.

Accuracies are fractions in [0, 1]. A confusion matrix is (K, K), rows are labels, columns are predictions, pixels
that do not count already left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from results.metrics import MIOU, PIXEL_ACCURACY

LEVEL = 0.95
"""Confidence of every interval."""
RESAMPLES = 10_000
"""Bootstrap resamples."""

IMAGES_ONLY = "not training noise"
"""Words in what is said of an interval that covers images only."""

Floats: TypeAlias = NDArray[np.float64]
Score: TypeAlias = Callable[[ArrayLike], Floats]
"""From states added up over images, (..., P, G), to values, (...)."""
Basis = Literal["seeds", "images", "both", "none"]
Verdict = Literal["better", "worse", "no clear difference", "one seed: images only", ""]
OTHER_WAY: Mapping[str, str] = {"better": "worse", "worse": "better"}
"""Verdicts of a metric of which less is better."""

# ------------------------------------------------------------------------------------------------- accuracy


def class_counts(confusion: ArrayLike) -> NDArray[np.int64]:
    """All that IoU needs of confusion matrices: per class the pixels hit, labelled and predicted.

    Args:
        confusion: (..., K, K), [label, prediction].

    Returns:
        (..., 3, K). Counts add up: those of a set of images are the sum of theirs.
    """
    matrix = np.asarray(confusion).astype(np.int64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.stack([hits, matrix.sum(-1), matrix.sum(-2)], axis=-2)


def class_iou(class_counts: ArrayLike) -> Floats:
    """Intersection over union: IoU_k = hit_k / (labelled_k + predicted_k − hit_k).

    Args:
        class_counts: (..., 3, K), as `class_counts` gives them.

    Returns:
        (..., K), NaN for a class that the labels do not contain, predicted or not.
    """
    hits, labelled, predicted = np.moveaxis(np.asarray(class_counts, dtype=np.float64), -2, 0)
    union = labelled + predicted - hits
    return np.asarray(np.divide(hits, union, out=np.full_like(hits, np.nan), where=labelled > 0))


def predicted_absent(class_counts: ArrayLike) -> Floats:
    """(..., K): of the pixels that count, the share that was called a class which the labels do not contain; else 0.

    Args:
        class_counts: (..., 3, K).
    """
    _, labelled, predicted = np.moveaxis(np.asarray(class_counts, dtype=np.float64), -2, 0)
    total = labelled.sum(-1, keepdims=True)
    absent = np.where(labelled > 0, 0.0, predicted)
    return np.asarray(np.divide(absent, total, out=np.zeros_like(absent), where=total > 0))


def mean_iou(class_counts: ArrayLike) -> Floats:
    """Mean of the classes' IoU over the classes that occur in the labels, so that it is over the same for all networks.

    Args:
        class_counts: (..., 3, K).

    Returns:
        (...), NaN where no class occurs at all.
    """
    return MIOU(class_counts)


def iou(confusion: ArrayLike) -> Floats:
    """(K,) IoU of every class, NaN where no label has it, from a (K, K) matrix or the (N, K, K) of a whole set."""
    return class_iou(class_counts(_of_set(confusion)))


def miou(confusion: ArrayLike) -> float:
    """mIoU, from a (K, K) matrix or the (N, K, K) of a whole set: one matrix is summed first, never a mean of means."""
    return float(mean_iou(class_counts(_of_set(confusion))))


def pixel_accuracy(confusion: ArrayLike) -> float:
    """Fraction of the pixels that count which are right; NaN when none count."""
    return float(PIXEL_ACCURACY(class_counts(_of_set(confusion))))


def _of_set(confusion: ArrayLike) -> NDArray[np.int64]:
    matrix = np.asarray(confusion).astype(np.int64)
    return matrix.sum(0) if matrix.ndim == 3 else matrix


# ------------------------------------------------------------------------------------------------ intervals


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value, low, high: fractions; low and high are NaN where nothing is known of the noise.
        n: how many seeds, or images, the interval rests on.
        basis: which noise the interval covers.
    """

    value: float
    low: float
    high: float
    n: int
    basis: Basis

    @property
    def text(self) -> str:
        """What the interval rests on, in words."""
        if self.basis == "seeds":
            return f"t over {self.n} seeds"
        if self.basis == "images":
            return f"bootstrap over {self.n} images: {IMAGES_ONLY}"
        if self.basis == "both":
            return f"bootstrap over {self.n} seeds and all images"
        return "no interval"


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference with its interval.

    Attributes:
        p: two-sided p-value of "no difference at all", NaN unless it rests on seeds.
        paired: the two sides were compared seed by seed (or image by image).
    """

    p: float = math.nan
    paired: bool = True

    @property
    def text(self) -> str:
        """What the interval rests on, in words."""
        if self.basis == "seeds":
            return f"paired over {self.n} seeds" if self.paired else "unpaired: other seeds than `none`"
        return super().text

    @property
    def verdict(self) -> Verdict:
        """What may be said of it. Never more than the interval allows."""
        if self.basis == "images":
            return "one seed: images only"
        if math.isnan(self.value) or self.basis == "none":
            return ""
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return "no clear difference"


NO_DIFFERENCE = Difference(math.nan, math.nan, math.nan, 0, "none")
"""There is nothing to compare with."""


def _standard_error(values: Floats) -> float:
    """s/√n."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _t_interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """mean ± t·error, t being Student's quantile at `LEVEL`."""
    half = float(scipy.special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return mean - half, mean + half


def _t_test(mean: float, error: float, freedom: float) -> float:
    """Two-sided p-value of a mean of zero."""
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * scipy.special.stdtr(freedom, -abs(mean / error)))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of one score a seed, with Student's interval mean ± t·s/√n. One seed has a mean and no interval."""
    scores = np.asarray(values, dtype=np.float64)
    mean = float(scores.mean())
    if len(scores) < 2:
        return Estimate(mean, math.nan, math.nan, len(scores), "none")
    low, high = _t_interval(mean, _standard_error(scores), len(scores) - 1)
    return Estimate(mean, low, high, len(scores), "seeds")


def over_images(states: ArrayLike, metric: Score = mean_iou) -> Estimate:
    """The score of one network with the bootstrap's percentile interval over images.

    It covers what other images of the same kind would have given, not what another seed would.

    Args:
        states: (N, P, G), one an image; for mIoU the (N, 3, K) class counts.
        metric: from states added up over images to values.
    """
    found = np.asarray(states)
    value = float(metric(found.sum(0)))
    if len(found) < 2:
        return Estimate(value, math.nan, math.nan, len(found), "none")
    low, high = _percentiles(_resampled(found, metric))
    return Estimate(value, low, high, len(found), "images")


def paired_over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Mean difference of scores that share their seeds, with Student's interval of the differences.

    A seed fixes the initial weights and the order of the images on both sides, so noise that both share cancels.

    Raises:
        ValueError: the two are not of one length, or there are fewer than two.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError("a paired difference needs two or more pairs")
    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    mean, error, freedom = float(gaps.mean()), _standard_error(gaps), len(gaps) - 1
    low, high = _t_interval(mean, error, freedom)
    return Difference(mean, low, high, len(gaps), "seeds", _t_test(mean, error, freedom))


def unpaired_over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Difference of two means over unlike seeds, with Welch's interval (the two variances need not be equal).

    Raises:
        ValueError: a side has fewer than two scores.
    """
    if len(ours) < 2 or len(theirs) < 2:
        raise ValueError("an unpaired difference needs two or more seeds on each side")
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    mean, error = float(a.mean() - b.mean()), math.sqrt(parts.sum())
    # Welch–Satterthwaite; without any variance the degrees of freedom do not matter.
    spread = float((parts**2 / (np.array([len(a), len(b)]) - 1)).sum())
    freedom = float(parts.sum() ** 2 / spread) if spread > 0 else len(a) + len(b) - 2
    low, high = _t_interval(mean, error, freedom)
    return Difference(mean, low, high, min(len(a), len(b)), "seeds", _t_test(mean, error, freedom), paired=False)


def paired_over_images(ours: ArrayLike, theirs: ArrayLike, metric: Score = mean_iou) -> Difference:
    """Difference of two networks on the same images, both scored on the same resamples.

    It covers what other images would have given, not training noise: no verdict on the method follows from it.

    Args:
        ours, theirs: (N, P, G) states, the same images in the same order; for mIoU the (N, 3, K) class counts.
        metric: from states added up over images to values.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.shape != b.shape:
        raise ValueError(f"states of unlike images or classes: {a.shape} and {b.shape}")
    value = float(metric(a.sum(0)) - metric(b.sum(0)))
    if len(a) < 2:
        return Difference(value, math.nan, math.nan, len(a), "images")
    low, high = _percentiles(_resampled(a, metric) - _resampled(b, metric))
    return Difference(value, low, high, len(a), "images")


@dataclass(frozen=True)
class SeedScores:
    """One side of a comparison: the runs of a cell, by seed.

    Attributes:
        scores: seed -> mIoU, or the value of another metric.
        class_counts: seed -> (image names, (N, 3, K)), for the seeds whose per-image matrices were kept; for another
            metric its states, (N, P, G).
        metric: from those, added up over images, to the scores.
    """

    scores: Mapping[int, float]
    class_counts: Mapping[int, tuple[tuple[str, ...], NDArray[Any]]]
    metric: Score = mean_iou


def compare(ours: SeedScores, theirs: SeedScores) -> Difference:
    """The difference between two sides by the best means that their runs allow.

    Two or more seeds in common: paired over them. None in common but several on each side: Welch. Otherwise one run
    against one run, over images where both kept their matrices.
    """
    common = sorted(ours.scores.keys() & theirs.scores.keys())
    if len(common) >= 2:
        return paired_over_seeds([ours.scores[s] for s in common], [theirs.scores[s] for s in common])
    if len(ours.scores) >= 2 and len(theirs.scores) >= 2:
        return unpaired_over_seeds(list(ours.scores.values()), list(theirs.scores.values()))
    if not ours.scores or not theirs.scores:
        return NO_DIFFERENCE
    mine, other = (common[0], common[0]) if common else (min(ours.scores), min(theirs.scores))
    left, right = ours.class_counts.get(mine), theirs.class_counts.get(other)
    if left and right and left[0] == right[0] and left[1].shape == right[1].shape:
        return paired_over_images(left[1], right[1], ours.metric)
    return Difference(ours.scores[mine] - theirs.scores[other], math.nan, math.nan, 0, "images")


# ------------------------------------------------------------------------------------------------ bootstrap


@lru_cache(maxsize=4)
def image_draws(images: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.uint16]:
    """(resamples, images): how often each image occurs in each resample. The same for all networks: paired."""
    generator = np.random.default_rng(seed)
    draws = np.empty((resamples, images), dtype=np.uint16)
    rows = max(1, 4_000_000 // images)
    for start in range(0, resamples, rows):
        part = draws[start : start + rows]
        chosen = generator.integers(0, images, part.shape) + images * np.arange(len(part))[:, None]
        part[:] = np.bincount(chosen.ravel(), minlength=part.size).reshape(part.shape)
    draws.flags.writeable = False
    return draws


def _resampled(states: NDArray[Any], metric: Score, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(resamples,): score of a network on resampled images. A class missing from a resample is left out of it."""
    images, *shape = states.shape
    flat = states.reshape(images, -1).astype(np.float64)
    draws = image_draws(images, resamples, seed)
    rows = max(1, 4_000_000 // images)  # a few dozen MB at a time
    totals = np.concatenate([draws[i : i + rows].astype(np.float64) @ flat for i in range(0, resamples, rows)])
    return metric(totals.reshape(resamples, *shape))


def _percentiles(values: Floats) -> tuple[float, float]:
    """The interval that holds `LEVEL` of the resamples, equal tails."""
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# ----------------------------------------------------------------------------------------- many comparisons


def holm(p_values: Iterable[float]) -> Floats:
    """Holm's adjusted p-values: of m comparisons, the chance of even one false "better" stays below 5 % at p ≤ 0.05.

    p̃_(i) = max_{j ≤ i} min(1, (m − j + 1)·p_(j)) for p sorted upwards. NaN stays NaN and does not count.
    """
    p = np.asarray(list(p_values), dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(order) else scaled
    return adjusted


def pareto(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other beats: none costs at most as much and is worth at least as much, one of them strictly.

    Args:
        cost: (N,), less is better.
        value: (N,), more is better.

    Returns:
        (N,), False for points with a NaN. Equal points stand or fall together.
    """
    c, v = np.asarray(cost, dtype=np.float64), np.asarray(value, dtype=np.float64)
    usable = np.flatnonzero(~(np.isnan(c) | np.isnan(v)))
    front = np.zeros(len(c), dtype=bool)
    order = usable[np.lexsort((-v[usable], c[usable]))]
    if len(order):  # groups of equal cost, cheapest first; only a group's best can stand
        first = np.concatenate([[True], c[order][1:] != c[order][:-1]])
        group, tops = np.cumsum(first) - 1, v[order][first]
        stands = tops > np.concatenate([[-math.inf], np.maximum.accumulate(tops)[:-1]])
        front[order] = stands[group] & (v[order] == tops[group])
    return front
