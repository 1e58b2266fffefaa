"""What differs between runs, or between rows of the leaderboard: how they were made, and how well they do.

A *side* is one of two or more things that are compared: a single run, or all runs (seeds) of a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import select

from results import compare, statistics
from results import store as schema
from results.metrics import HEADLINE, MetricInfo, score_of
from results.protocol import protocol_words
from results.queries import States, image_class_counts, image_states, metrics, read_records
from results.record import Record
from results.statistics import NO_DIFFERENCE, OTHER_WAY, Difference, SeedScores, holm
from results.store import Store

MOST_SIDES = 6
"""More than so many sides cannot be read beside one another."""
_PART = re.compile(r"method\.parts\.[^.]+\.")
_DIGEST = re.compile(r"[0-9a-f]{20,64}")


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
        label: how it is called; no two sides of a comparison have the same.
        records: of its runs, by seed, one or more.
        values: seed -> metric -> value, None where it is not defined.
    """

    label: str
    records: Mapping[int, Record]
    values: Mapping[int, Mapping[str, float | None]]

    @property
    def keys(self) -> list[str]:
        """Of its runs."""
        return [record.key for record in self.records.values()]

    @property
    def evaluated_on(self) -> tuple[str, str, str, str]:
        """Data set, digest of its content, split, way of evaluation: what scores must share to be compared."""
        first = next(iter(self.records.values()))
        dataset = first.spec.get("dataset")
        named = dataset if isinstance(dataset, dict) else {}
        split = first.metrics.split if first.metrics else ""
        return str(named.get("name", "")), str(named.get("manifest", "")), split, protocol_words(first.spec)

    def scores(self, metric: str, states: States) -> SeedScores:
        """The side as one of a comparison by a metric."""
        known = {seed: value for seed in self.records if (value := self.values[seed].get(metric)) is not None}
        kept = {seed: states[self.records[seed].key] for seed in known if self.records[seed].key in states}
        return SeedScores(known, kept, score_of(metric))


def load_sides(store: Store, named: Mapping[str, Sequence[str]]) -> list[Side]:
    """The sides of a comparison.

    Args:
        named: label -> keys of its runs.

    Raises:
        ValueError: fewer than two sides or more than `MOST_SIDES`, a side without runs, or a key that no run has.
    """
    if not 2 <= len(named) <= MOST_SIDES:
        raise ValueError(f"two to {MOST_SIDES} runs or rows can be compared, not {len(named)}")
    wanted = sorted({key for keys in named.values() for key in keys})
    scores = schema.metrics
    with store.read() as connection:
        records = read_records(connection, wanted)
        values: dict[str, dict[str, float | None]] = {key: {} for key in wanted}
        for row in connection.execute(
            select(scores.c.key, scores.c.name, scores.c.value).where(scores.c.key.in_(wanted))
        ):
            values[row.key][row.name] = row.value
    if missing := [key for key in wanted if key not in records]:
        raise ValueError(f"no run has the key '{missing[0]}'")
    return [_side(label, [records[key] for key in keys], values) for label, keys in named.items()]


def _side(label: str, records: Sequence[Record], values: Mapping[str, Mapping[str, float | None]]) -> Side:
    if not records:
        raise ValueError(f"'{label}' has no runs")
    seeds = {record.cell.seed if record.cell else place: record for place, record in enumerate(records)}
    return Side(label, dict(sorted(seeds.items())), {seed: values[record.key] for seed, record in seeds.items()})


# ------------------------------------------------------------------------------------------ how they were made


@dataclass(frozen=True)
class Differing:
    """Something that is not the same on all sides.

    Attributes:
        section: "specification", "recipe", "environment", "plan" or "training".
        name: a dotted path: `optimizer.lr`.
        values: one text a side; "" where it has no such thing, several joined by "; " where its runs differ.
    """

    section: str
    name: str
    values: tuple[str, ...]


def differing(sides: Sequence[Side]) -> list[Differing]:
    """All that is not the same on all sides, in the order in which records say it; what is the same is left out.

    So are the parameters of a method that a side does not have: its expression says that; and, in recipes of one name
    and digest, fields that an older record does not have: a field at its default is not part of the digest.
    """
    told = [[dict(_facts(record)) for record in side.records.values()] for side in sides]
    names = dict.fromkeys(name for side in told for record in side for name in record)
    order = {section: place for place, section in enumerate(_SECTIONS)}
    one_recipe = len({record.cell and record.cell.recipe for side in sides for record in side.records.values()}) == 1
    found = []
    for section, name in sorted(names, key=lambda pair: order[pair[0]]):
        if (part := _PART.match(name)) and not all(_has(side, section, part[0]) for side in told):
            continue
        if one_recipe and section == "recipe" and not all((section, name) in one for side in told for one in side):
            continue
        values = tuple(_joined(record.get((section, name), "") for record in side) for side in told)
        if len(set(values)) > 1:
            found.append(Differing(section, name, values))
    return found


def _has(side: Sequence[Mapping[tuple[str, str], str]], section: str, beginning: str) -> bool:
    return any(where == section and name.startswith(beginning) for record in side for where, name in record)


_SECTIONS = ("specification", "recipe", "environment", "plan", "training")


def _facts(record: Record) -> Iterator[tuple[tuple[str, str], str]]:
    """(section, name) -> value, of everything that says how a run was made."""
    spec = dict(record.spec)
    recipe = spec.pop("recipe", {})
    training = record.training
    plan = {
        "parents": record.parents,
        "parent_weights": record.parent_weights,
        "trained_together": training.shared_by,
        "workers_beside": training.workers_beside,
        "attempts": len(record.attempts),
    }
    trained = training.model_dump(
        include={"iterations", "samples_seen", "precision", "channels_last", "numerics", "kernels"}
    )
    spec.pop("parents", None)
    parts = (spec, recipe, record.environment.model_dump(exclude={"job"}), plan, trained)
    for section, data in zip(_SECTIONS, parts, strict=True):
        for name, value in _flat(data):
            yield (section, name), value


def _flat(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path -> value; items of a list go by their names where they have any."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(data, list) and data and all(isinstance(item, Mapping) and "name" in item for item in data):
        for item in data:
            yield from _flat({n: v for n, v in item.items() if n != "name"}, f"{path}.{item['name']}")
    elif data is not None and data != "" and data != [] and data != {}:
        yield path, _text(data)


def _text(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value[:12]
    return str(list(value) if isinstance(value, tuple) else value)


def _joined(values: Iterable[str]) -> str:
    return "; ".join(value for value in dict.fromkeys(values) if value)


# ------------------------------------------------------------------------------------------ how well they do


@dataclass(frozen=True)
class Gap:
    """How one side does against another.

    Attributes:
        ours, theirs: labels.
        difference: ours minus theirs, in the metric's base unit; not known where `reason` says why.
        p_holm: its p-value after Holm's correction for all pairs that are compared.
        verdict: said of ours: "better", "worse", "no clear difference", or what stands in the way of saying so.
        reason: why the two cannot be compared; "" where they can.
        more: how many seeds would tell the two apart, in words; "" where they are, or where nothing can be said.
    """

    ours: str
    theirs: str
    difference: Difference
    p_holm: float
    verdict: str
    reason: str = ""
    more: str = ""


_UNCLEAR = "no clear difference"


def gaps(store: Store, sides: Sequence[Side], metric: str = HEADLINE) -> list[Gap]:
    """The differences of all pairs of sides, later ones minus earlier ones, with Holm's correction over those pairs.

    Paired over common seeds, and over seeds and images together from five common seeds on; with one seed over images,
    which says nothing of training noise.

    Raises:
        ValueError: no run has the metric.
    """
    info = _known(store, metric)
    states = image_states(store, [key for side in sides for key in side.keys], metric)
    pairs = list(combinations(sides, 2))
    found = [
        NO_DIFFERENCE if _unlike(a, b) else side_difference(b.scores(metric, states), a.scores(metric, states))
        for a, b in pairs
    ]
    adjusted = holm(gap.p for gap in found)
    made = []
    for (a, b), gap, p in zip(pairs, found, adjusted, strict=True):
        verdict = gap.verdict if info.direction == "higher" else OTHER_WAY.get(gap.verdict, gap.verdict)
        reason = _unlike(a, b) or ("" if not math.isnan(gap.value) else f"one of them has no {info.heading}")
        more = more_seeds(b.scores(metric, {}).scores, a.scores(metric, {}).scores) if verdict == _UNCLEAR else ""
        made.append(Gap(b.label, a.label, gap, float(p), verdict, reason, more))
    return made


def more_seeds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """How many seeds would tell two rows apart, were the difference now seen and its spread the true ones.

    Args:
        ours, theirs: seed -> score.

    Returns:
        A sentence; "" for fewer than two seeds in common.
    """
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < 2:
        return ""
    needed = compare.seeds_needed([ours[seed] - theirs[seed] for seed in common])
    if needed is None:
        said = f"more than {compare.MOST_SEEDS} seeds would be needed to tell them apart, going by these"
    elif needed <= len(common):
        said = f"{len(common)} seeds had a fair chance to tell them apart: a few more may"
    else:
        said = f"about {needed} seeds in all would tell them apart (80 % power), going by these"
    few = f"; {len(common)} cannot give less than p = 1/{2 ** len(common)} in a sign-flip test"
    return said + (few if len(common) < compare.FEWEST_SEEDS else "")


def _known(store: Store, metric: str) -> MetricInfo:
    known = metrics(store)
    if metric not in known:
        raise ValueError(f"no run has the metric '{metric}': there are {', '.join(known)}")
    return known[metric]


def _unlike(a: Side, b: Side) -> str:
    """Why scores of two sides mean different things; "" where they do not."""
    names = ("on the same data set", "on the same data set's content", "on the same split", "in the same way")
    unlike = [name for name, one, other in zip(names, a.evaluated_on, b.evaluated_on) if one != other]
    return f"not evaluated {unlike[0]}" if unlike else ""


def side_difference(ours: SeedScores, theirs: SeedScores) -> Difference:
    """Ours minus theirs, by the paired bootstrap over seeds and images where both sides share five seeds or more and
    kept their images; else as `results.statistics.compare`."""
    common = sorted(ours.class_counts.keys() & theirs.class_counts.keys())
    if len(common) >= compare.FEWEST_SEEDS and _same_images(ours, theirs, common):
        rows = [
            compare.resample({seed: side.class_counts[seed][1] for seed in common}, side.metric)
            for side in (ours, theirs)
        ]
        return compare.difference(rows[0], rows[1])
    return statistics.compare(ours, theirs)


def _same_images(ours: SeedScores, theirs: SeedScores, seeds: Sequence[int]) -> bool:
    kept = [side.class_counts[seed] for side in (ours, theirs) for seed in seeds]
    return all(names == kept[0][0] and states.shape == kept[0][1].shape for names, states in kept)


def class_gaps(store: Store, sides: Sequence[Side]) -> pd.DataFrame:
    """IoU of every class on every side, and the differences from the first side.

    Returns:
        One row a class in the data set's order: `class`, `iou` (side by side, as a tuple of fractions), and tuples
        `delta`, `low`, `high` of the later sides minus the first. NaN where it is not known.
    """
    counts = image_class_counts(store, [key for side in sides for key in side.keys])
    measured = next(iter(sides[0].records.values())).metrics
    classes = list(measured.per_class_iou) if measured else []
    rows = []
    for place, name in enumerate(classes):
        scores = [_of_class(side, name, place, counts) for side in sides]
        iou = tuple(float(np.mean(list(side.scores.values()))) if side.scores else math.nan for side in scores)
        found = [
            NO_DIFFERENCE if _unlike(sides[0], side) or not score.scores else side_difference(score, scores[0])
            for side, score in zip(sides[1:], scores[1:], strict=True)
        ]
        gaps = {part: tuple(getattr(gap, part) for gap in found) for part in ("value", "low", "high")}
        rows.append({"class": name, "iou": iou, "delta": gaps["value"], "low": gaps["low"], "high": gaps["high"]})
    return pd.DataFrame(rows, columns=["class", "iou", "delta", "low", "high"])


def _of_class(side: Side, name: str, place: int, counts: States) -> SeedScores:
    """A side as one of a comparison by the IoU of a single class."""
    known: dict[int, float] = {}
    for seed, record in side.records.items():
        value = record.metrics.per_class_iou.get(name) if record.metrics else None
        if value is not None:
            known[seed] = value
    kept = {}
    for seed in known:
        names, states = counts.get(side.records[seed].key, ((), np.zeros((0, 3, 0))))
        if states.shape[-1] > place:
            kept[seed] = names, states[..., place : place + 1]
    return SeedScores(known, kept)


def image_gaps(store: Store, ours: Side, theirs: Side, metric: str = HEADLINE) -> pd.DataFrame:
    """On which images two sides differ most: the metric of each image alone, means over the seeds of both sides.

    Returns:
        `image`, `ours`, `theirs`, `gap` (ours minus theirs), largest gap first; empty where images were not kept or
        the two were not evaluated on the same.
    """
    columns = ["image", "ours", "theirs", "gap"]
    _known(store, metric)
    states = image_states(store, [*ours.keys, *theirs.keys], metric)
    kept = [[states[key] for key in side.keys if key in states] for side in (ours, theirs)]
    if not all(kept) or _unlike(ours, theirs) or len({names for side in kept for names, _ in side}) != 1:
        return pd.DataFrame(columns=columns)
    score = score_of(metric)
    a, b = (np.mean([score(found) for _, found in side], axis=0) for side in kept)
    frame = pd.DataFrame({"image": kept[0][0][0], "ours": a, "theirs": b, "gap": a - b})
    return frame.dropna().sort_values("gap", ascending=False, ignore_index=True)
