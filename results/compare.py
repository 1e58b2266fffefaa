"""Who is ahead of whom: the paired bootstrap over seeds and images together, tiers, and what follows from them.

Two samples are drawn when a row is measured: of seeds (training noise) and of images (image noise). The bootstrap here
resamples both: seeds with replacement, images with replacement, the same images for every network and, where two rows
share their seeds, the same seeds on both sides (Sellam et al., "The MultiBERTs", ICLR 2022, section 4). Few seeds make
a plain percentile interval too narrow, so it is expanded: its spread is set to the unbiased standard error of both
noises, its tails to Student's t with Satterthwaite's degrees of freedom (after Hesterberg, "What Teachers Should Know
About the Bootstrap", 2015, section 4). Below `FEWEST_SEEDS` seeds Student's t over seeds stays the better choice.

Scores are fractions. A *state* is whatever adds up over images and gives the metric: for mIoU the (3, K) class counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from results.statistics import LEVEL, RESAMPLES, Difference, Estimate, Floats, image_draws, mean_iou

FEWEST_SEEDS = 5
"""From so many seeds on the bootstrap over seeds and images is the default; below it, Student's t over seeds."""
ALPHA = 1 - LEVEL
_TAIL = 5
"""Resamples that must lie beyond a quantile for it to be read off them."""
MOST_SEEDS = 100
"""Beyond so many seeds nobody trains: a difference that would need more is called out of reach."""

State = NDArray[np.float64] | NDArray[np.int64]
Metric = Callable[[Floats], Floats]
"""(..., *state) totals over images -> (...) values."""

Frontier = Literal["on", "perhaps", "off"]


@dataclass(frozen=True)
class Resampled:
    """A row's networks on the real images and on resampled ones.

    Attributes:
        seeds: (S,) of the networks, sorted.
        points: (S,) the metric on the whole split.
        scores: (R, S) the metric on each resample of the images; resamples are the same for all rows of N images.
        images: N.
    """

    seeds: tuple[int, ...]
    points: Floats
    scores: Floats
    images: int

    @property
    def value(self) -> float:
        """Mean over seeds on the whole split."""
        return float(self.points.mean())

    def only(self, seeds: Sequence[int]) -> Resampled:
        """The same row with some of its seeds."""
        index = [self.seeds.index(seed) for seed in seeds]
        return Resampled(tuple(seeds), self.points[index], self.scores[:, index], self.images)


def resample(states: Mapping[int, State], metric: Metric = mean_iou, resamples: int = RESAMPLES) -> Resampled:
    """Score a row's networks on resampled images.

    Args:
        states: seed -> (N, *state), one state an image, the same images in the same order for every seed.
        metric: from totals of states to values.

    Raises:
        ValueError: there is no seed, or the seeds were evaluated on different numbers of images.
    """
    shapes = {np.shape(state) for state in states.values()}
    if len(shapes) != 1:
        raise ValueError(f"a row needs seeds with states of one shape, not {sorted(shapes) or 'none'}")
    ((images, *shape),) = shapes
    seeds = tuple(sorted(states))
    flat = np.concatenate([np.asarray(states[s], dtype=np.float64).reshape(images, -1) for s in seeds], axis=1)
    points = metric(flat.sum(0).reshape(len(seeds), *shape))
    draws = image_draws(images, resamples)
    rows = max(1, 8_000_000 // max(images, flat.shape[1]))  # tens of MB at a time
    parts = [draws[i : i + rows].astype(np.float64) @ flat for i in range(0, resamples, rows)]
    scores = np.concatenate([metric(part.reshape(len(part), len(seeds), *shape)) for part in parts])
    return Resampled(seeds, points, scores, images)


# ---------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class _Noise:
    """A statistic's bootstrap, and the variances it is made of, each with its degrees of freedom."""

    value: float
    replicates: Floats
    parts: tuple[tuple[float, float], ...]

    @property
    def error(self) -> float:
        return math.sqrt(sum(variance for variance, _ in self.parts))

    @property
    def freedom(self) -> float:
        """Satterthwaite's: (Σ v)² / Σ v²/ν."""
        spread = sum(variance**2 / freedom for variance, freedom in self.parts)
        return self.error**4 / spread if spread > 0 else math.inf

    def interval(self) -> tuple[float, float]:
        """Expanded percentiles at `LEVEL`."""
        if self.error == 0:
            return self.value, self.value
        quantile = float(scipy.special.stdtrit(min(self.freedom, 1e6), (1 + LEVEL) / 2))
        reach = float(scipy.special.ndtr(-quantile))
        if reach * len(self.replicates) < _TAIL:  # so few seeds that the resamples do not reach that far
            return self.value - quantile * self.error, self.value + quantile * self.error
        low, high = np.nanquantile(self._deviations(), [reach, 1 - reach])
        return self.value + float(low), self.value + float(high)

    def p_value(self) -> float:
        """Two-sided, of a value of zero."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * scipy.special.stdtr(min(self.freedom, 1e6), -abs(self.value / self.error)))

    def _deviations(self) -> Floats:
        found = self.replicates - np.nanmean(self.replicates)
        spread = float(np.nanstd(found))
        return found * (self.error / spread) if spread > 0 else found


@lru_cache(maxsize=16)
def _seed_draws(seeds: int, resamples: int, stream: int = 0) -> Floats:
    """(R, S): weight of each seed in each resample; rows add up to one."""
    generator = np.random.default_rng([seeds, stream])
    draws: Floats = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    draws.flags.writeable = False
    return draws


def _noise(points: Floats, scores: Floats, images: int, stream: int = 0) -> _Noise:
    """The mean over seeds of a score (or of a paired difference), with both noises."""
    seeds = len(points)
    weights = _seed_draws(seeds, len(scores), stream)
    parts = _parts(points, scores, images)
    return _Noise(float(points.mean()), (weights * scores).sum(1), tuple(parts))


def _parts(points: Floats, scores: Floats, images: int) -> list[tuple[float, float]]:
    """Variances of the mean over seeds, with their degrees of freedom: of images, then of seeds where there are some.

    What differs from seed to seed and image to image is in both; it is counted once, with the seeds.
    """
    seeds = len(points)
    of_images = float(np.nanvar(scores.mean(1)))
    if seeds == 1:
        return [(of_images, max(images - 1.0, 1.0))]
    of_both = float(np.nanmean((scores - points).var(axis=1, ddof=1))) / seeds
    of_seeds = float(points.var(ddof=1)) / seeds
    return [(max(of_images - of_both, 0.0), max(images - 1.0, 1.0)), (of_seeds, seeds - 1.0)]


def estimate(row: Resampled) -> Estimate:
    """The mean over seeds with its interval over seeds and images; of one seed, over images alone."""
    noise = _noise(row.points, row.scores, row.images)
    low, high = noise.interval()
    basis: Literal["both", "images"] = "both" if len(row.seeds) > 1 else "images"
    return Estimate(noise.value, low, high, len(row.seeds) if basis == "both" else row.images, basis)


def difference(ours: Resampled, theirs: Resampled) -> Difference:
    """Ours minus theirs, the same resampled images on both sides, and the same seeds where they share two or more.

    Raises:
        ValueError: they were not evaluated on equally many images.
    """
    noise, paired, seeds = _difference(ours, theirs)
    low, high = noise.interval()
    if seeds < 2:
        return Difference(noise.value, low, high, ours.images, "images")
    return Difference(noise.value, low, high, seeds, "both", noise.p_value(), paired)


def _difference(ours: Resampled, theirs: Resampled) -> tuple[_Noise, bool, int]:
    if ours.images != theirs.images or len(ours.scores) != len(theirs.scores):
        raise ValueError(f"{ours.images} and {theirs.images} images cannot be paired")
    common = sorted(set(ours.seeds) & set(theirs.seeds))
    if len(common) >= 2 or (common and min(len(ours.seeds), len(theirs.seeds)) == 1):
        a, b = ours.only(common), theirs.only(common)
        return _noise(a.points - b.points, a.scores - b.scores, ours.images), True, len(common)
    a_weights, b_weights = (_seed_draws(len(x.seeds), len(x.scores), n) for n, x in enumerate((ours, theirs)))
    of_images = float(np.nanvar(ours.scores.mean(1) - theirs.scores.mean(1)))
    of_seeds = [_parts(row.points, row.scores, row.images)[1:] for row in (ours, theirs)]
    parts = [(of_images, max(ours.images - 1.0, 1.0)), *of_seeds[0], *of_seeds[1]]
    replicates = (a_weights * ours.scores).sum(1) - (b_weights * theirs.scores).sum(1)
    noise = _Noise(ours.value - theirs.value, replicates, tuple(parts))
    return noise, False, min(len(ours.seeds), len(theirs.seeds))


# -------------------------------------------------------------------------------------------------- tiers


def p_worse(row: Resampled, anchor: Resampled, rows: int = 2, prior: tuple[float, float] = (0.0, 0.0)) -> float:
    """How likely a row ranked below an anchor falls so far behind it, were all of them equally good.

    The anchor is the best of several rows *because* it came out best, so a plain one-sided test would split rows that
    are alike in one of ten cases and more. The studentized range of `rows` rows takes that into account (Tukey); for
    two rows it is the two-sided t-test.

    Args:
        prior: (standard error, degrees of freedom) known of such differences beforehand, from other rows; a spread
            seen over few seeds is moderated by it (Smyth, 2004).
    """
    noise, _, _ = _difference(row, anchor)
    if noise.value >= 0:
        return 1.0
    error, freedom = _moderated(noise, prior)
    if error == 0:
        return 0.0
    t = abs(noise.value) / error
    if rows <= 2:
        return float(2 * scipy.special.stdtr(freedom, -t))
    from scipy import stats  # half a second, and no board that is only read needs it

    return float(stats.studentized_range.sf(t * math.sqrt(2), rows, freedom))


def _is_worse(row: Resampled, anchor: Resampled, rows: int, prior: tuple[float, float], alpha: float) -> bool:
    """Whether `p_worse` is below alpha. Its value lies between that of one pair and Bonferroni's, which cost less."""
    pair = p_worse(row, anchor, 2, prior)
    if pair >= alpha or pair * rows * (rows - 1) / 2 < alpha:
        return pair < alpha
    return p_worse(row, anchor, rows, prior) < alpha


def _moderated(noise: _Noise, prior: tuple[float, float]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a difference, its own and those known beforehand together."""
    own, (error, known) = min(noise.freedom, 1e4), prior
    return math.sqrt((own * noise.error**2 + known * error**2) / (own + known)), own + known


def tiers(rows: Sequence[Resampled], alpha: float = ALPHA) -> list[int]:
    """The tier of every row, 1 for the best; rows of one tier cannot be told from its first.

    From the best down, a row joins the tier unless it is worse than the tier's first row, the *anchor*. The anchor does
    not move within a tier, so ties do not chain. How much such differences spread is learned from all rows together.

    Args:
        rows: in any order; all evaluated on the same images.
        alpha: chance of splitting rows that are equally good.
    """
    order = sorted(range(len(rows)), key=lambda i: -rows[i].value)
    prior = _spread([rows[i] for i in order])
    found = [0] * len(rows)
    tier, anchor, in_play = 0, -1, 0
    for place, index in enumerate(order):
        if anchor < 0 or _is_worse(rows[index], rows[anchor], in_play, prior, alpha):
            tier, anchor, in_play = tier + 1, index, len(order) - place
        found[index] = tier
    return found


def _spread(rows: Sequence[Resampled]) -> tuple[float, float]:
    """The usual standard error of a difference of two of these rows, and how far it is known: for `p_worse`.

    Over all pairs, not only those with the best: it was chosen for its value, and stands in every one of its pairs.
    """
    noises = [_difference(a, b)[0] for i, a in enumerate(rows) for b in rows[:i]]
    if len(noises) < 2:
        return 0.0, 0.0
    freedom = min(noise.freedom for noise in noises)
    return math.sqrt(float(np.mean([noise.error**2 for noise in noises]))), freedom * (len(rows) - 2)


# ------------------------------------------------------------------------------------------- how many seeds


def seeds_needed(gaps: ArrayLike, power: float = 0.8, most: int = MOST_SEEDS, resamples: int = 2000) -> int | None:
    """How many paired seeds would separate the difference now seen, were it and its spread the true ones.

    Power by bootstrap: `resamples` samples of n gaps are drawn with replacement from those seen (their spread made
    unbiased); the share of them in which the paired t-test gives p < 5 % is the power.

    Args:
        gaps: (S,) paired differences, one a seed; two or more.

    Returns:
        The least n ≥ 2 with that power; None where more than `most` would be needed.
    """
    seen = np.asarray(gaps, dtype=np.float64)
    if len(seen) < 2:
        raise ValueError("the spread of a difference is known from two seeds on")
    mean = seen.mean()
    spread = (seen - mean) * math.sqrt(len(seen) / (len(seen) - 1))
    if not spread.any():
        return 2 if mean else None

    def reaches(n: int) -> bool:
        drawn = mean + np.random.default_rng(n).choice(spread, (resamples, n))
        error = drawn.std(1, ddof=1) / math.sqrt(n)
        limit = float(scipy.special.stdtrit(n - 1, 1 - ALPHA / 2))
        # Samples without spread (all of one seed's gap) prove nothing.
        t = np.divide(np.abs(drawn.mean(1)), error, out=np.zeros(resamples), where=error > 0)
        return bool((t > limit).mean() >= power)

    if not reaches(most):
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


# ------------------------------------------------------------------------------------- what a method buys


def gap_closed(method: Resampled, student: Resampled, teacher: Resampled) -> Estimate:
    """The share of the teacher's lead that a method closes: (method − student) / (teacher − student), with interval.

    NaN where the teacher is not clearly ahead of the student: there is no lead to close. The teacher's training noise
    is not in the interval when it was trained once.
    """
    common = sorted(set(method.seeds) & set(student.seeds)) or None
    ours, base = (method.only(common), student.only(common)) if common else (method, student)
    lead = difference(teacher, base)
    seeds = min(len(ours.seeds), len(base.seeds))
    basis: Literal["both", "images"] = "both" if seeds > 1 else "images"
    if not lead.low > 0:
        return Estimate(math.nan, math.nan, math.nan, seeds, "none")
    weights = _seed_draws(len(base.seeds), len(base.scores))
    own = weights if common else _seed_draws(len(ours.seeds), len(ours.scores), 1)
    none = (weights * base.scores).sum(1)
    gained, possible = (own * ours.scores).sum(1) - none, teacher.scores.mean(1) - none
    value = (ours.value - base.value) / (teacher.value - base.value)
    # The lead is far from zero, so its part in the spread is small; that of the gain is set right by its own noise.
    noise, _, _ = _difference(ours, base)
    lead_value = teacher.value - base.value
    parts = tuple((variance / lead_value**2, freedom) for variance, freedom in noise.parts)
    low, high = _Noise(value, gained / possible, parts).interval()
    return Estimate(value, low, high, seeds if basis == "both" else ours.images, basis)


@dataclass(frozen=True)
class StrideBought:
    """A method at a stride is not worse than no distillation at the next denser one.

    Attributes:
        stride, denser: the method's, and that of `none`.
        gap: method at `stride` minus `none` at `denser`.
    """

    stride: int
    denser: int
    gap: Difference


def stride_bought(method: Mapping[int, Resampled], none: Mapping[int, Resampled]) -> StrideBought | None:
    """The cheapest (largest) stride at which a method is not worse than `none` at the next denser stride.

    Args:
        method, none: stride -> row, on the same images.

    Returns:
        None where the method is worse at every stride that has a denser neighbour.
    """
    strides = sorted(none)
    for stride in sorted(method, reverse=True):
        denser = [s for s in strides if s < stride]
        if denser and p_worse(method[stride], none[denser[-1]]) >= ALPHA:
            return StrideBought(stride, denser[-1], difference(method[stride], none[denser[-1]]))
    return None


def pareto_doubt(cost: ArrayLike, rows: Sequence[Resampled]) -> tuple[list[Frontier], Floats]:
    """Whether each row is on the frontier of cost and score, by resampling seeds and images.

    Returns:
        "on" where at least 95 % of the resamples say so, "off" where at most 5 % do, else "perhaps"; and the shares.
        Rows of unknown cost are off.
    """
    c = np.asarray(cost, dtype=np.float64)
    drawn = np.stack([(_seed_draws(len(r.seeds), len(r.scores)) * r.scores).sum(1) for r in rows], axis=1)
    shares = np.zeros(len(rows))
    for i in range(len(rows)):
        rivals = [j for j in range(len(rows)) if j != i and c[j] <= c[i]]
        beaten = np.zeros(len(drawn), dtype=bool)
        for j in rivals:
            beaten |= (drawn[:, j] >= drawn[:, i]) if c[j] < c[i] else (drawn[:, j] > drawn[:, i])
        shares[i] = 0.0 if math.isnan(c[i]) else 1 - beaten.mean()
    words: list[Frontier] = ["on" if s >= LEVEL else "off" if s <= ALPHA else "perhaps" for s in shares]
    return words, shares


# ------------------------------------------------------------------------------------- over several settings


def probability_of_improvement(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], resamples: int = 2000
) -> Estimate:
    """P(a run of ours beats a run of theirs), averaged over settings (Agarwal et al., NeurIPS 2021, equation 3).

    Args:
        ours, theirs: for each setting (data set, stride, ...) the scores of its runs.

    Returns:
        The probability with a stratified bootstrap's percentile interval: runs are resampled within each setting.

    Raises:
        ValueError: the settings differ in number, or one has no runs.
    """
    pairs = _settings(ours, theirs)
    value = float(np.mean([_beats(a, b) for a, b in pairs]))
    generator = np.random.default_rng(0)
    drawn = np.mean([_beats(_redraw(a, resamples, generator), _redraw(b, resamples, generator)) for a, b in pairs], 0)
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(value, float(low), float(high), min(min(len(a), len(b)) for a, b in pairs), "seeds")


def interquartile_mean(scores: Sequence[Sequence[float]], resamples: int = 2000) -> Estimate:
    """The mean of the middle half of all runs of several settings (IQM; Agarwal et al., NeurIPS 2021), with interval.

    Args:
        scores: for each setting the scores of its runs, normalised to a common scale.
    """
    pairs = _settings(scores, scores)
    generator = np.random.default_rng(0)
    drawn = np.concatenate([_redraw(a, resamples, generator) for a, _ in pairs], axis=-1)
    value = float(_middle(np.concatenate([a for a, _ in pairs])))
    low, high = np.quantile(_middle(drawn), [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(value, float(low), float(high), min(len(a) for a, _ in pairs), "seeds")


def interquartile_gain(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], resamples: int = 2000
) -> Estimate:
    """The IQM of our runs, each counted from the mean of theirs in the same setting; both sides are resampled.

    Args:
        ours, theirs: for each setting the scores of its runs.

    Raises:
        ValueError: the settings differ in number, or one has no runs.
    """
    pairs = _settings(ours, theirs)
    generator = np.random.default_rng(0)
    drawn = [
        _redraw(a, resamples, generator) - _redraw(b, resamples, generator).mean(-1, keepdims=True) for a, b in pairs
    ]
    value = float(_middle(np.concatenate([a - b.mean() for a, b in pairs])))
    low, high = np.quantile(_middle(np.concatenate(drawn, axis=-1)), [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(value, float(low), float(high), min(min(len(a), len(b)) for a, b in pairs), "seeds")


def _settings(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> list[tuple[Floats, Floats]]:
    if len(ours) != len(theirs) or not ours or not all(len(runs) for runs in (*ours, *theirs)):
        raise ValueError("both sides need runs in each setting")
    return [(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) for a, b in zip(ours, theirs)]


def _beats(ours: Floats, theirs: Floats) -> Floats:
    """Share of pairs in which ours is higher; ties count half. (..., n) and (..., m) -> (...)."""
    gap = ours[..., :, None] - theirs[..., None, :]
    return np.asarray(((gap > 0) + 0.5 * (gap == 0)).mean((-2, -1)))


def _redraw(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    return values[generator.integers(0, len(values), (resamples, len(values)))]


def _middle(values: Floats) -> Floats:
    """Mean of the values between the first and the third quartile, as SciPy's `trim_mean(0.25)`."""
    from scipy import stats

    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))
