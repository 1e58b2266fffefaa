"""What differs between runs and rows: specifications, scores, classes, images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from results.differences import Differing, Side, class_gaps, differing, gaps, image_gaps, load_sides, more_seeds
from results.ingest import collect
from results.statistics import class_counts, class_iou, holm, mean_iou, paired_over_images, paired_over_seeds
from results.store import Store, open_store
from tests.results.factory import CLASSES, Fake, write_all

NONE, KA, KD = ([Fake(method, seed=seed) for seed in range(3)] for method in ("none", "ka", "kd"))
LATER = [Fake("ka", seed=seed, version=2, recipe="long-9f", attempts=2, numerics="bf16 is wrong here") for seed in (0,)]
MANY = {method: [Fake(method, 8, seed) for seed in range(5)] for method in ("none", "ka")}
ELSEWHERE = [Fake("none", dataset="camvid", manifest="data-2")]


@pytest.fixture
def filled(file_store: Store, tmp_path: Path) -> Store:
    """A store with all of them."""
    fakes = [*NONE, *KA, *KD, *LATER, *MANY["none"], *MANY["ka"], *ELSEWHERE]
    collect(write_all(tmp_path, fakes), file_store)
    return file_store


def sides(store: Store, **fakes: list[Fake]) -> list[Side]:
    return load_sides(store, {label: [fake.key for fake in some] for label, some in fakes.items()})


def test_only_what_differs_is_told(filled: Store) -> None:
    found = differing(sides(filled, a=KA[:1], b=LATER))
    told = {(one.section, one.name): one.values for one in found}
    assert told["specification", "method.parts.ka.version"] == ("1", "2")
    assert told["plan", "attempts"] == ("1", "2")
    assert told["training", "numerics"] == ("", "bf16 is wrong here")
    assert told["training", "channels_last"] == ("True", "False")
    assert not {name for section, name in told if section == "environment"}
    assert [one.section for one in found] == sorted(
        (one.section for one in found), key=["specification", "recipe", "environment", "plan", "training"].index
    )


def test_parameters_of_a_method_that_a_side_does_not_have_are_left_out(filled: Store) -> None:
    names = [one.name for one in differing(sides(filled, a=NONE[:1], b=KA[:1]))]
    assert names and not [name for name in names if name.startswith("method.parts")]


def test_runs_of_equal_making_differ_in_nothing(filled: Store) -> None:
    assert differing(sides(filled, a=KA[:1], b=KA[:1])) == []


@pytest.mark.parametrize(("recipe", "told"), [("quick-1a2b3c", []), ("quick-9f9f9f", ["accumulate"])])
def test_a_field_that_an_older_record_lacks_is_at_its_default(recipe: str, told: list[str], tmp_path: Path) -> None:
    """Two recipes of one name and digest are one recipe."""
    older = Fake("none", recipe_fields={"precision": "fp32"})
    newer = Fake("none", seed=1, recipe=recipe, recipe_fields={"precision": "fp32", "accumulate": 1})
    with open_store(tmp_path / "board.db") as store:
        collect(write_all(tmp_path, [older, newer]), store)
        found = differing(sides(store, older=[older], newer=[newer]))
    assert [one.name for one in found if one.section == "recipe"] == told


def test_what_differs_within_a_side_is_joined(filled: Store) -> None:
    assert differing(sides(filled, a=KA[:2], b=KA[:2])) == []
    mixed = load_sides(filled, {"a": [KA[1].key, LATER[0].key], "b": [KA[1].key]})
    assert Differing("plan", "attempts", ("2; 1", "1")) in differing(mixed)


def test_all_pairs_are_paired_over_seeds_and_holm_counts_them(filled: Store) -> None:
    found = gaps(filled, sides(filled, none=NONE, ka=KA, kd=KD))
    assert [(gap.ours, gap.theirs) for gap in found] == [("ka", "none"), ("kd", "none"), ("kd", "ka")]
    scores = {"none": NONE, "ka": KA, "kd": KD}
    truth = {name: [float(mean_iou(class_counts(f.matrices()).sum(0))) for f in some] for name, some in scores.items()}
    p = []
    for gap in found:
        wanted = paired_over_seeds(truth[gap.ours], truth[gap.theirs])
        assert gap.difference.value == pytest.approx(wanted.value) and gap.difference.low == pytest.approx(wanted.low)
        assert gap.difference.n == 3 and gap.reason == ""
        p.append(wanted.p)
    assert [gap.p_holm for gap in found] == pytest.approx(list(holm(p)))
    assert found[0].verdict == "better"


def test_five_seeds_and_images_are_resampled_together(filled: Store) -> None:
    (gap,) = gaps(filled, sides(filled, none=MANY["none"], ka=MANY["ka"]))
    assert gap.difference.basis == "both" and gap.difference.n == 5
    assert gap.difference.low < gap.difference.value < gap.difference.high


def test_one_seed_is_compared_over_images_and_gets_no_verdict(filled: Store) -> None:
    (gap,) = gaps(filled, sides(filled, none=NONE[:1], ka=KA[:1]))
    wanted = paired_over_images(class_counts(KA[0].matrices()), class_counts(NONE[0].matrices()))
    assert gap.difference.low == pytest.approx(wanted.low) and gap.verdict == "one seed: images only"
    assert math.isnan(gap.p_holm)


def test_unlike_data_is_not_compared(filled: Store) -> None:
    (gap,) = gaps(filled, sides(filled, here=NONE, there=ELSEWHERE))
    assert math.isnan(gap.difference.value) and gap.verdict == "" and gap.reason == "not evaluated on the same data set"
    assert image_gaps(filled, *sides(filled, here=NONE, there=ELSEWHERE)).empty


def test_classes(filled: Store) -> None:
    frame = class_gaps(filled, sides(filled, none=NONE, ka=KA))
    assert list(frame["class"]) == list(CLASSES)
    truth = {
        name: np.array([class_iou(class_counts(fake.matrices()).sum(0)) for fake in some])
        for name, some in (("none", NONE), ("ka", KA))
    }
    for place, row in enumerate(frame.itertuples()):
        assert row.iou == pytest.approx((truth["none"][:, place].mean(), truth["ka"][:, place].mean()))
        wanted = paired_over_seeds(list(truth["ka"][:, place]), list(truth["none"][:, place]))
        assert (row.delta[0], row.low[0], row.high[0]) == pytest.approx((wanted.value, wanted.low, wanted.high))


def test_images_on_which_two_differ_most(filled: Store) -> None:
    frame = image_gaps(filled, *sides(filled, ka=KA, none=NONE))
    scored = {
        name: np.mean([mean_iou(class_counts(fake.matrices())) for fake in some], axis=0)
        for name, some in (("ka", KA), ("none", NONE))
    }
    order = np.argsort(-(scored["ka"] - scored["none"]), kind="stable")
    assert list(frame["image"]) == [f"image{place:03d}" for place in order]
    assert list(frame["gap"]) == pytest.approx(list((scored["ka"] - scored["none"])[order]))


def test_what_cannot_be_compared_is_said(filled: Store) -> None:
    with pytest.raises(ValueError, match="two to 6 runs or rows can be compared, not 1"):
        sides(filled, a=NONE)
    with pytest.raises(ValueError, match="no run has the key 'nobody'"):
        load_sides(filled, {"a": ["nobody"], "b": [NONE[0].key]})
    with pytest.raises(ValueError, match="'a' has no runs"):
        load_sides(filled, {"a": [], "b": [NONE[0].key]})
    with pytest.raises(ValueError, match="no run has the metric 'nonsense'"):
        gaps(filled, sides(filled, a=NONE, b=KA), "nonsense")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ((0.01, 0.012, 0.002), "about "),
        ((0.01, -0.01, 0.0001), "more than 100 seeds"),
        ((0.010, 0.011, 0.012, 0.010, 0.0105), "5 seeds had a fair chance"),
    ],
)
def test_how_many_seeds_would_tell_two_apart(seen: tuple[float, ...], said: str) -> None:
    theirs = dict.fromkeys(range(len(seen)), 0.5)
    ours = {seed: 0.5 + gap for seed, gap in enumerate(seen)}
    found = more_seeds(ours, theirs)
    assert found.startswith(said)
    assert found.endswith("cannot give less than p = 1/8 in a sign-flip test") == (len(seen) == 3)
    assert more_seeds({0: 0.5}, theirs) == ""


def test_an_unclear_difference_says_how_many_seeds_it_needs(tmp_path: Path) -> None:
    fakes = [Fake(m, seed=seed, images=4, gain=0.0) for m in ("none", "kd") for seed in range(3)]
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, fakes), store)
        named = {m: [fake.key for fake in fakes if fake.method == m] for m in ("none", "kd")}
        (gap,) = gaps(store, load_sides(store, named))
    assert gap.verdict == "no clear difference" and "seeds" in gap.more
