"""Statistics against SciPy, brute force and their own laws."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from results import statistics as s
from tests.results.factory import confusion

K = 4
MATRICES = hnp.arrays(np.uint32, st.tuples(st.integers(1, 5), st.just(K), st.just(K)), elements=st.integers(0, 50))
FRACTIONS = st.floats(0, 1).map(lambda value: round(value, 6))
SCORES = st.lists(FRACTIONS, min_size=2, max_size=8)


def pixels(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions that make up a confusion matrix."""
    labels, predictions = np.indices(matrix.shape)
    times = matrix.ravel().astype(int)
    return labels.ravel().repeat(times), predictions.ravel().repeat(times)


@given(MATRICES)
def test_iou_counts_pixels(matrices: np.ndarray) -> None:
    labels, predictions = pixels(matrices.sum(0))
    expected = []
    for k in range(K):
        union = ((labels == k) | (predictions == k)).sum()
        expected.append(((labels == k) & (predictions == k)).sum() / union if (labels == k).any() else np.nan)
    np.testing.assert_allclose(s.iou(matrices), expected)
    known = [value for value in expected if not np.isnan(value)]
    found = s.miou(matrices)
    assert math.isnan(found) if not known else found == pytest.approx(np.mean(known))
    if len(labels):
        assert s.pixel_accuracy(matrices) == pytest.approx((labels == predictions).mean())
    else:
        assert math.isnan(s.pixel_accuracy(matrices))


@given(MATRICES)
def test_class_counts_add_up(matrices: np.ndarray) -> None:
    np.testing.assert_array_equal(s.class_counts(matrices).sum(0), s.class_counts(matrices.sum(0)))
    assert s.miou(matrices.sum(0)) == pytest.approx(s.miou(matrices), nan_ok=True)


def test_large_counts_do_not_overflow() -> None:
    matrices = np.full((3, 2, 2), 2**31, dtype=np.uint32)
    assert s.miou(matrices) == pytest.approx(1 / 3)
    assert s.class_counts(matrices).sum(0)[1, 0] == 3 * 2 * 2**31


def test_absent_classes_are_left_out_and_missed_ones_are_not() -> None:
    matrix = np.diag([10, 5, 0, 0])
    assert s.miou(matrix) == 1.0
    matrix[0, 2] = 1  # class 2 is predicted, never labelled: a mistake of class 0, and no class of its own
    assert math.isnan(s.iou(matrix)[2]) and math.isnan(s.iou(matrix)[3])
    assert s.miou(matrix) == pytest.approx((10 / 11 + 1) / 2)
    matrix[2, 0] = 1  # now it is labelled, and missed
    assert s.iou(matrix)[2] == 0 and s.miou(matrix) == pytest.approx((10 / 12 + 1 + 0) / 3)


@given(SCORES)
def test_mean_over_seeds_is_scipys(values: list[float]) -> None:
    found = s.over_seeds(values)
    assert found.value == pytest.approx(np.mean(values))
    assert (found.basis, found.n) == ("seeds", len(values))
    if np.std(values) > 1e-9:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        np.testing.assert_allclose([found.low, found.high], expected)


def test_one_seed_has_no_interval() -> None:
    found = s.over_seeds([0.5])
    assert found.value == 0.5 and found.basis == "none" and math.isnan(found.low)


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=2, max_size=8))
def test_paired_difference_is_scipys(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(pairs).T
    found = s.paired_over_seeds(ours, theirs)
    back = s.paired_over_seeds(theirs, ours)
    assert found.value == pytest.approx(-back.value) and found.low == pytest.approx(-back.high)
    if np.std(ours - theirs) > 1e-9:
        expected = stats.ttest_rel(ours, theirs)
        np.testing.assert_allclose([found.low, found.high], expected.confidence_interval(0.95))
        assert found.p == pytest.approx(expected.pvalue)
        assert (found.verdict == "no clear difference") == (found.p > 0.05)


@given(SCORES, SCORES)
def test_unpaired_difference_is_welchs(ours: list[float], theirs: list[float]) -> None:
    found = s.unpaired_over_seeds(ours, theirs)
    assert found.value == pytest.approx(np.mean(ours) - np.mean(theirs))
    if np.std(ours) > 1e-9 and np.std(theirs) > 1e-9:
        expected = stats.ttest_ind(ours, theirs, equal_var=False)
        np.testing.assert_allclose([found.low, found.high], expected.confidence_interval(0.95), rtol=1e-6, atol=1e-9)
        assert found.p == pytest.approx(expected.pvalue)


def test_equal_runs_are_no_clear_difference() -> None:
    found = s.paired_over_seeds([0.4, 0.5, 0.6], [0.4, 0.5, 0.6])
    assert (found.value, found.low, found.high, found.p, found.verdict) == (0, 0, 0, 1, "no clear difference")


@pytest.mark.parametrize(("shift", "verdict"), [(0.05, "better"), (-0.05, "worse"), (0.0001, "no clear difference")])
def test_verdict(shift: float, verdict: str) -> None:
    theirs = np.array([0.50, 0.52, 0.51, 0.49])
    noise = np.array([0.002, -0.003, 0.001, -0.001])
    assert s.paired_over_seeds(theirs + noise + shift, theirs).verdict == verdict


def test_intervals_over_seeds_cover_the_truth() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        found = s.over_seeds(generator.normal(0.5, 0.02, 4))
        hits += found.low <= 0.5 <= found.high
    assert 0.93 <= hits / 2000 <= 0.97


def test_pairing_removes_the_noise_that_both_share() -> None:
    generator = np.random.default_rng(2)
    luck = generator.normal(0, 0.05, 6)
    theirs = 0.5 + luck
    ours = theirs + 0.02 + generator.normal(0, 0.003, 6)
    assert s.paired_over_seeds(ours, theirs).verdict == "better"
    assert s.unpaired_over_seeds(ours, theirs).verdict == "no clear difference"


# ------------------------------------------------------------------------------------------------ bootstrap


def test_bootstrap_is_the_plain_loop() -> None:
    class_counts = s.class_counts(confusion(0.8, 7, 3))
    draws = s.image_draws(7, 200, 5)
    assert draws.shape == (200, 7) and (draws.sum(1) == 7).all()
    expected = [
        s.mean_iou(sum(n * class_counts for n, class_counts in zip(row, class_counts, strict=True))) for row in draws
    ]
    np.testing.assert_allclose(s._resampled(class_counts, s.mean_iou, 200, 5), expected)


def test_bootstrap_is_seeded_and_as_wide_as_the_jackknife_says() -> None:
    class_counts = s.class_counts(confusion(0.8, 60, 4))
    values = s._resampled(class_counts, s.mean_iou)
    assert len(values) == s.RESAMPLES
    np.testing.assert_array_equal(values, s._resampled(class_counts, s.mean_iou))
    left_out = np.array([s.mean_iou(np.delete(class_counts, n, axis=0).sum(0)) for n in range(60)])
    jackknife = math.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert values.std() == pytest.approx(jackknife, rel=0.15)


def test_bootstrap_leaves_out_classes_that_a_resample_lacks() -> None:
    rare = np.zeros((3, 3, 3), dtype=int)
    rare[:, 0, 0], rare[:, 1, 1] = 10, 10
    rare[0, 2, 2] = 5  # class 2 occurs in the first image alone, and is right there
    values = s._resampled(s.class_counts(rare), s.mean_iou, 500, 0)
    np.testing.assert_allclose(values, 1.0)


def test_one_seed_says_images_only() -> None:
    ours, theirs = s.class_counts(confusion(0.9, 30, 1)), s.class_counts(confusion(0.8, 30, 2))
    found = s.paired_over_images(ours, theirs)
    assert found.low > 0 and found.verdict == "one seed: images only" and math.isnan(found.p)
    assert "not training noise" in found.text
    back = s.paired_over_images(theirs, ours)
    assert back.value == pytest.approx(-found.value) and back.high == pytest.approx(-found.low)
    np.testing.assert_allclose([s.paired_over_images(ours, ours).low, s.paired_over_images(ours, ours).high], 0)


def test_pairing_images_is_narrower_than_two_intervals() -> None:
    ours, theirs = s.class_counts(confusion(0.85, 30, 1)), s.class_counts(confusion(0.8, 30, 2))
    gap, a, b = s.paired_over_images(ours, theirs), s.over_images(ours), s.over_images(theirs)
    assert gap.high - gap.low < math.hypot(a.high - a.low, b.high - b.low)
    assert a.low < a.value < a.high and a.basis == "images" and a.n == 30


def test_images_of_unlike_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="unlike images"):
        s.paired_over_images(np.zeros((3, 3, 4)), np.zeros((4, 3, 4)))


# ----------------------------------------------------------------------------------------------- comparison


def side(scores: dict[int, float], images: int = 0, seed: int = 0) -> s.SeedScores:
    names = tuple(f"image{n}" for n in range(images))
    class_counts = (
        {key: (names, s.class_counts(confusion(0.8, images, seed + key))) for key in scores} if images else {}
    )
    return s.SeedScores(scores, class_counts)


def test_compare_pairs_the_seeds_in_common() -> None:
    found = s.compare(side({0: 0.5, 1: 0.6, 7: 0.9}), side({1: 0.55, 0: 0.48, 2: 0.1}))
    assert (found.basis, found.n, found.paired) == ("seeds", 2, True)
    assert found.value == pytest.approx((0.02 + 0.05) / 2)


def test_compare_without_common_seeds_is_unpaired() -> None:
    found = s.compare(side({0: 0.5, 1: 0.6}), side({2: 0.55, 3: 0.48}))
    assert found.basis == "seeds" and not found.paired and "unpaired" in found.text


def test_compare_of_one_seed_looks_at_images() -> None:
    found = s.compare(side({0: 0.5}, 12), side({0: 0.4, 1: 0.45}, 12, 50))
    assert (found.basis, found.n, found.verdict) == ("images", 12, "one seed: images only")
    bare = s.compare(side({0: 0.5}), side({0: 0.4}))
    assert bare.value == pytest.approx(0.1) and math.isnan(bare.low) and bare.verdict == "one seed: images only"


def test_compare_refuses_other_images() -> None:
    found = s.compare(side({0: 0.5}, 12), side({0: 0.4}, 11))
    assert math.isnan(found.low) and found.value == pytest.approx(0.1)


def test_nothing_to_compare_with() -> None:
    found = s.compare(side({0: 0.5}), side({}))
    assert found.verdict == "" and math.isnan(found.value)


# ----------------------------------------------------------------------------------------- many comparisons


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_decides_as_its_step_down_procedure(p_values: list[float]) -> None:
    adjusted = s.holm(p_values)
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    assert [i for i, p in enumerate(adjusted) if not math.isnan(p)] == known
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
            if p_values[i] * (len(known) - rank) > level:
                break
            rejected.add(i)
        assert {i for i in known if adjusted[i] <= level} == rejected


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(s.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15))
def test_pareto_is_the_definition(points: list[tuple[int, int]]) -> None:
    cost, value = [p[0] for p in points], [p[1] for p in points]
    found = s.pareto(cost, value)
    for i, (c, v) in enumerate(points):
        beaten = any((oc <= c and ov >= v) and (oc < c or ov > v) for oc, ov in points)
        assert found[i] == (not beaten)


def test_pareto_leaves_out_the_unknown() -> None:
    assert s.pareto([1, math.nan, 2, 0.5], [0.5, 0.9, 0.4, math.nan]).tolist() == [True, False, False, False]


def test_frontier_has_no_two_that_beat_each_other() -> None:
    generator = np.random.default_rng(0)
    cost, value = generator.random(200), generator.random(200)
    front = np.flatnonzero(s.pareto(cost, value))
    assert len(front) > 1
    assert all((cost[i] < cost[j]) == (value[i] < value[j]) for i, j in combinations(front, 2))
