"""Who is ahead of whom: coverage, tiers and power by simulation, and the formulae on small numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from results import compare as c
from results.statistics import Floats

RESAMPLES = 500


def mean_of(total: Floats) -> Floats:
    """A metric whose truth is known: the states are (value, 1) of each image."""
    return np.asarray(total[..., 0] / total[..., 1])


def world(
    generator: np.random.Generator,
    means: Sequence[float],
    seeds: int = 5,
    images: int = 60,
    noise: tuple[float, float, float] = (0.01, 0.1, 0.02),
) -> list[c.Resampled]:
    """Rows with seed noise of their own, image noise that all share, and noise of each seed and image."""
    of_seed, of_image, of_both = noise
    shared = of_image * generator.standard_normal(images)
    rows = []
    for mean in means:
        states = {}
        for seed in range(seeds):
            values = mean + of_seed * generator.standard_normal() + shared + of_both * generator.standard_normal(images)
            states[seed] = np.stack([values, np.ones(images)], axis=1)
        rows.append(c.resample(states, mean_of, RESAMPLES))
    return rows


@pytest.mark.parametrize("noise", [(0.01, 0.1, 0.02), (0.02, 0.02, 0.02), (0.002, 0.1, 0.05)], ids=str)
@pytest.mark.parametrize("seeds", [5, 8])
def test_intervals_cover_what_they_say(noise: tuple[float, float, float], seeds: int) -> None:
    """Nominally 95 %: of accuracies over new seeds and new images, and of differences."""
    trials = 400
    hits = np.zeros(2)
    for trial in range(trials):
        ours, theirs = world(np.random.default_rng([trial, seeds]), (0.6, 0.55), seeds, noise=noise)
        alone, gap = c.estimate(ours), c.difference(ours, theirs)
        hits += (alone.low <= 0.6 <= alone.high, gap.low <= 0.05 <= gap.high)
    assert (hits / trials >= 0.92).all() and (hits / trials <= 0.98).all(), hits / trials


@pytest.mark.parametrize("rows", [2, 6])
def test_identical_methods_stand_in_one_tier(rows: int) -> None:
    trials = 300
    merged = sum(
        max(c.tiers(world(np.random.default_rng([trial, rows]), [0.5] * rows))) == 1 for trial in range(trials)
    )
    assert merged / trials >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / trials)


def test_a_difference_of_two_standard_errors_is_found() -> None:
    """Planted on the observed rows, with seeds enough that Student's t is nearly normal."""
    found = 0
    for trial in range(50):
        rows = world(np.random.default_rng(trial), (0.5, 0.5), seeds=40)
        gap = c._difference(*rows)[0]
        shift = 2.05 * gap.error - gap.value
        ours = c.Resampled(rows[0].seeds, rows[0].points + shift, rows[0].scores + shift, rows[0].images)
        found += max(c.tiers([ours, rows[1]])) == 2
    assert found == 50


def test_ties_do_not_chain() -> None:
    """A, B and C each two thirds of what can be told: C is told from A, so it begins the second tier."""
    rng = np.random.default_rng(1)
    base = world(rng, [0.5] * 3, seeds=12)
    step = 2.2 * c._difference(base[0], base[1])[0].error
    rows = [
        c.Resampled(r.seeds, r.points - r.value + 0.5 - i * step, r.scores - r.value + 0.5 - i * step, r.images)
        for i, r in enumerate(base)
    ]
    assert c.tiers(rows) == [1, 1, 2]
    assert c.tiers(rows[::-1]) == [2, 1, 1]
    assert c.tiers([]) == [] and c.tiers(rows[:1]) == [1]


def test_seeds_are_paired_where_they_are_shared() -> None:
    rng = np.random.default_rng(0)
    images, shared = 40, rng.standard_normal(6) * 0.05
    sides = []
    for mean in (0.6, 0.58):
        values = {s: mean + shared[s] + 0.01 * rng.standard_normal(images) for s in range(6)}
        sides.append({s: np.stack([v, np.ones(images)], 1) for s, v in values.items()})
    ours, theirs = (c.resample(side, mean_of, RESAMPLES) for side in sides)
    paired = c.difference(ours, theirs)
    others = c.resample({s + 100: state for s, state in sides[1].items()}, mean_of, RESAMPLES)
    unpaired = c.difference(ours, others)
    assert paired.paired and not unpaired.paired
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)
    assert paired.verdict == "better" and unpaired.verdict == "no clear difference"


def test_one_seed_covers_image_noise_only_and_says_so() -> None:
    ours, theirs = world(np.random.default_rng(3), (0.6, 0.3), seeds=1)
    gap = c.difference(ours, theirs)
    assert gap.basis == "images" and math.isnan(gap.p) and gap.verdict == "one seed: images only"
    assert "not training noise" in c.estimate(ours).text


def test_class_counts_give_the_mean_iou() -> None:
    rng = np.random.default_rng(0)
    counts = {}
    for seed in (0, 1):
        hit = rng.integers(1, 50, (30, 4))
        counts[seed] = np.stack([hit, hit + rng.integers(0, 9, hit.shape), hit + rng.integers(0, 9, hit.shape)], axis=1)
    row = c.resample(counts, resamples=100)
    from results.statistics import mean_iou

    for index, seed in enumerate((0, 1)):
        assert row.points[index] == mean_iou(counts[seed].sum(0))
    draws = c.image_draws(30, 100)
    np.testing.assert_allclose(row.scores[7, 1], mean_iou(np.einsum("n,nck->ck", draws[7], counts[1])))


def test_rows_of_other_images_are_refused() -> None:
    rng = np.random.default_rng(0)
    (ours,), (theirs,) = world(rng, [0.5]), world(rng, [0.5], images=61)
    with pytest.raises(ValueError, match="60 and 61 images"):
        c.difference(ours, theirs)
    with pytest.raises(ValueError, match="one shape"):
        c.resample({})


def test_how_many_seeds() -> None:
    gaps = [0.02, 0.01, 0.03, 0.0, 0.015]
    needed = c.seeds_needed(gaps)
    assert needed is not None and 5 < needed < 20
    # Power is checked by another draw: Student's t with that spread.
    sd = float(np.std(gaps, ddof=1))
    drawn = np.random.default_rng(9).normal(np.mean(gaps), sd, (4000, needed))
    t = drawn.mean(1) / (drawn.std(1, ddof=1) / math.sqrt(needed))
    from scipy import special

    assert 0.7 <= (np.abs(t) > special.stdtrit(needed - 1, 0.975)).mean() <= 0.92
    assert c.seeds_needed([0.001, -0.03, 0.03]) is None
    assert c.seeds_needed([0.01, 0.01]) == 2
    with pytest.raises(ValueError):
        c.seeds_needed([0.01])


def test_the_share_of_the_lead() -> None:
    rng = np.random.default_rng(0)
    student, method, teacher = world(rng, (0.5, 0.6, 0.7), noise=(0.005, 0.05, 0.01))
    teacher = teacher.only([0])
    closed = c.gap_closed(method, student, teacher)
    assert closed.value == pytest.approx((method.value - student.value) / (teacher.value - student.value))
    assert 0.3 < closed.low < closed.value < closed.high < 0.7
    behind = c.gap_closed(method, teacher, student.only([0]))
    assert math.isnan(behind.value) and behind.basis == "none"


def test_what_stride_a_method_buys() -> None:
    rng = np.random.default_rng(0)
    worse, same, dense, base16, base32 = world(rng, (0.3, 0.6, 0.7, 0.6, 0.5), noise=(0.002, 0.05, 0.01))
    none = {8: dense, 16: base16, 32: base32}
    bought = c.stride_bought({32: same, 16: same}, none)
    assert bought is not None and (bought.stride, bought.denser) == (32, 16)
    assert bought.gap.verdict == "no clear difference"
    assert c.stride_bought({32: worse, 16: worse}, none) is None


def test_doubt_about_the_frontier() -> None:
    rng = np.random.default_rng(0)
    good, like, bad, best = world(rng, (0.6, 0.6, 0.4, 0.8), noise=(0.01, 0.05, 0.01))
    words, shares = c.pareto_doubt([1.0, 1.0, 2.0, 3.0], [good, like, bad, best])
    assert words[2:] == ["off", "on"] and set(words[:2]) <= {"perhaps", "on", "off"} and shares[0] + shares[1] > 0.9
    assert c.pareto_doubt([math.nan, 1.0], [best, good])[0] == ["off", "on"]


def test_over_several_settings() -> None:
    chance = c.probability_of_improvement([[3, 4, 5], [1, 2]], [[1, 2], [1, 2]])
    assert chance.value == pytest.approx((1 + 0.5) / 2) and chance.low <= chance.value <= chance.high
    middle = c.interquartile_mean([[0.0, 1, 2, 3], [4, 5, 6, 100]])
    assert middle.value == pytest.approx((2 + 3 + 4 + 5) / 4)
    with pytest.raises(ValueError):
        c.probability_of_improvement([[1.0]], [])
