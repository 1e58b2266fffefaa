"""Class by class: scores of a row, and its differences to another row, over seeds and images together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results import compare
from results.metrics import COUNT_METRICS, HEADLINE, STATE_METRICS, MetricInfo, score_of
from results.queries import States, image_class_counts, image_states, metrics, metrics_kept, per_class
from results.statistics import NO_DIFFERENCE, OTHER_WAY, Difference, Estimate, holm
from results.store import Store

RESAMPLES = 1000
COLUMNS = (
    "class", "pixels", "iou", "iou_low", "iou_high", "iou_basis", "other", "delta", "delta_low", "delta_high",
    "delta_basis", "verdict", "p", "p_holm",
)  # fmt: skip
"""Columns of `class_table`: fractions; `pixels` is a class's share of the labelled pixels."""
OUTLINES = tuple(STATE_METRICS)
"""The metrics that say whether a gain is at the outlines of a class or inside."""
OF_A_CLASS = {HEADLINE: "IoU", "mean_class_accuracy": "accuracy"}
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0, "none")


def heading(info: MetricInfo) -> str:
    """What a metric is called of a single class."""
    return OF_A_CLASS.get(info.name, info.heading)


def by_class(store: Store, keys: Sequence[str]) -> list[str]:
    """The metrics, fractions all, that all of some runs have class by class: mIoU's IoU first."""
    counts = image_class_counts(store, keys[:1])
    if not counts:
        return []
    classes = next(iter(counts.values()))[1].shape[-1]
    found = [HEADLINE, "mean_class_accuracy"]
    known = metrics(store)
    for name in metrics_kept(store, keys) & known.keys() - COUNT_METRICS.keys():
        groups = next(iter(image_states(store, keys[:1], name).values()))[1].shape[-1]
        if known[name].unit == "%" and groups == classes:
            found.append(name)
    return [*found[:2], *sorted(found[2:])]


def lacking(measured: Iterable[str]) -> str:
    """A sentence on the built-in metrics that runs lack because they were evaluated before there were such; or "".

    Args:
        measured: the metrics that they have class by class.
    """
    missing = [info.heading for name, info in STATE_METRICS.items() if name not in set(measured)]
    if not missing:
        return ""
    return (
        f"{' and '.join(missing)}: not all of these runs have it. Runs that are evaluated from now on do; "
        "of older ones `harness evaluate` prints the mean over the classes."
    )


def class_table(
    store: Store, ours: Mapping[int, str], theirs: Mapping[int, str] | None = None, metric: str = HEADLINE
) -> pd.DataFrame:
    """One row a class that occurs in the labels, in the data set's order: IoU with interval, and the difference.

    Seeds and images are resampled together, the same images on both sides, and the same seeds where both have them;
    with one seed intervals cover images only. A class of which the metric is not defined (no pixel of it is away from
    an outline) has no numbers.

    Args:
        ours, theirs: seed -> key of the run; theirs is what is subtracted.
        metric: one of `by_class`.

    Returns:
        Columns `COLUMNS`; empty when what adds up over images was not kept.

    Raises:
        ValueError: the two sides were evaluated on other images.
    """
    sides = [side for side in (ours, theirs) if side]
    keys = [key for side in sides for key in side.values()]
    states = image_states(store, keys, metric)
    if not all(key in states for key in keys):
        return pd.DataFrame(columns=list(COLUMNS))
    if len({(states[key][0], states[key][1].shape) for key in keys}) > 1:
        raise ValueError("the two were evaluated on other images: their classes cannot be paired")
    names = list(per_class(store, keys[:1])["class"])
    shares = _pixel_shares(store, keys[0])
    rows = [
        {"class": names[place], "pixels": share} | _of_class(place, sides, states, metric)
        for place, share in enumerate(shares)
        if share > 0
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if metrics(store)[metric].direction == "lower":
        table["verdict"] = table["verdict"].replace(OTHER_WAY)
    table["p_holm"] = holm(table["p"].astype(float))
    return table


def _pixel_shares(store: Store, key: str) -> NDArray[np.float64]:
    """(K,): of the labelled pixels, those of each class."""
    labelled = image_class_counts(store, [key])[key][1].sum(0)[1].astype(float)
    return np.asarray(labelled / max(labelled.sum(), 1.0))


def _of_class(place: int, sides: Sequence[Mapping[int, str]], states: States, metric: str) -> dict[str, Any]:
    score = score_of(metric)
    own = [{seed: states[key][1][:, :, [place]] for seed, key in side.items()} for side in sides]
    mine, other, gap = UNKNOWN, math.nan, NO_DIFFERENCE
    if all(math.isfinite(score(one.sum(0))) for side in own for one in side.values()):
        drawn = [compare.resample(side, score, RESAMPLES) for side in own]
        mine = compare.estimate(drawn[0])
        if len(drawn) == 2:
            other, gap = drawn[1].value, compare.difference(*drawn)
    return {**_numbers("iou", mine), "other": other, **_numbers("delta", gap), "verdict": gap.verdict, "p": gap.p}


def _numbers(name: str, found: Estimate | Difference) -> dict[str, Any]:
    basis = "" if found.basis == "none" else found.text
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_basis": basis}
