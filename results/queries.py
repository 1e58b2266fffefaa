"""Questions to the database, answered as data frames. Fractions and base units; `results.formats` shows them.

A *row of the leaderboard* is a cell without its seed. Runs count as one row when their words are equal and so are the
data's content, the method's version and the teacher: otherwise they stand apart, told from one another by `variant`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import select

from results import store as schema
from results.record import Record
from results.statistics import (
    NO_DIFFERENCE,
    Difference,
    Estimate,
    Side,
    compare,
    holm,
    over_images,
    over_seeds,
    pareto,
)
from results.store import Store

CELL = ("method", "student", "stride", "teacher", "dataset", "recipe", "weights")
"""What names a row of the leaderboard: a cell without its seed."""
SETTING = ("dataset", "student", "stride", "recipe", "weights", "manifest")
"""What a run and the `none` it is compared with have in common."""
FILTERS = (*CELL, "seed")
# fmt: off
BOARD = (
    "method", "student", "stride", "teacher", "dataset", "recipe", "weights", "seeds", "seed_list", "miou",
    "miou_low", "miou_high", "miou_basis", "delta", "delta_low", "delta_high", "delta_basis", "verdict", "p",
    "p_holm", "macs", "parameters", "latency_ms", "latency_device", "step_ms", "step_ratio", "pixel_accuracy",
    "best_miou", "images", "split", "input_size", "precision", "numerics", "dirty", "superseded", "variant",
    "frontier", "keys", "reproduce", "finished",
)
# fmt: on
"""Columns of the leaderboard."""

SHORTEST_PREFIX = 4
"""Fewer characters than this are never taken for the beginning of a key: `16` is a stride."""

Filters = Mapping[str, Iterable[str | int]]


# ------------------------------------------------------------------------------------------------ plain rows


def runs(store: Store, filters: Filters | None = None) -> pd.DataFrame:
    """One row a run, newest first: the columns of the `runs` table without the record's text, and `tries`.

    Args:
        filters: column -> accepted values; a column that is not named, or names nothing, lets everything pass.

    Raises:
        ValueError: a filter's column does not exist.
    """
    table = schema.runs
    columns = [column for column in table.c if column.name not in ("record", "stamp", "confusion_stamp")]
    query = select(*columns).order_by(table.c.finished.desc(), table.c.key)
    for name, accepted in (filters or {}).items():
        if name not in FILTERS:
            raise ValueError(f"there is no filter '{name}': {', '.join(FILTERS)}")
        if values := list(accepted):
            number = name in ("stride", "seed")
            query = query.where(table.c[name].in_([_integer(name, v) for v in values] if number else values))
    tries = select(schema.attempts.c.key, schema.attempts.c.number)
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(query).mappings().all(), columns=[c.name for c in columns])
        counts = pd.DataFrame(connection.execute(tries).mappings().all(), columns=["key", "number"])
    frame["tries"] = frame["key"].map(counts.groupby("key").size()).fillna(0).astype(int)
    for name in ("stride", "seed"):
        frame[name] = frame[name].astype("Int64")
    numbers = ("miou", "pixel_accuracy", "best_miou", "macs", "parameters", "latency_ms", "latency_p95_ms", "step_ms")
    for name in (*numbers, "seconds", "loss_first", "loss_last", "peak_memory_bytes"):
        frame[name] = frame[name].astype(float)
    return frame


def _integer(name: str, value: str | int) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"a {name} is a number, not '{value}'") from error


def cells(store: Store) -> dict[str, list[Any]]:
    """The values that occur of each filter: what there is to choose from."""
    found: dict[str, list[Any]] = {}
    with store.read() as connection:
        for name in FILTERS:
            column = schema.runs.c[name]
            values = connection.execute(select(column).distinct().where(column.is_not(None))).scalars()
            found[name] = sorted(value for value in values if value != "")
    return found


def match_filters(known: Mapping[str, Sequence[Any]], asked: Mapping[str, Iterable[str]]) -> dict[str, list[Any]]:
    """Filters from what people type: a value, or a part of it that is theirs alone.

    `mobilenetv2_100` means every student of that encoder, `quick` every recipe of that name whatever its digest.

    Args:
        known: as `cells` gives it.
        asked: column -> words.

    Raises:
        ValueError: a word fits no value; the sentence names what comes near.
    """
    filters: dict[str, list[Any]] = {}
    for name, words in asked.items():
        values = [str(value) for value in known.get(name, ())]
        for word in words:
            # As it is; in front of a digest, parameters or a head; anywhere. Not so methods: `ka` is no `ka-adapt`.
            exact = [v for v in values if v == word.removeprefix("@") or v == word]
            named = [v for v in values if re.match(re.escape(word) + r"[-\[/@]", v)] if name != "method" else []
            inside = [v for v in values if word in v] if name in ("student", "teacher") else []
            fit = exact or named or inside
            if not fit:
                near = difflib.get_close_matches(word, values, n=3, cutoff=0.4) or values[:8]
                hint = f": there are {', '.join(near)}" if near else ""
                raise ValueError(f"no run has the {name} '{word}'{hint}")
            filters.setdefault(name, []).extend(fit)
    return filters


def per_class(store: Store, keys: Sequence[str]) -> pd.DataFrame:
    """IoU of each class, one row a class in the data set's order: class, mean over the runs, and each run's."""
    table = schema.class_iou
    query = select(table).where(table.c.key.in_(keys)).order_by(table.c.position)
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    frame = pd.DataFrame(rows, columns=["key", "position", "class", "iou"])
    frame["iou"] = frame["iou"].astype(float)
    wide = frame.pivot_table(index=["position", "class"], columns="key", values="iou", dropna=False)
    wide = wide[wide.index.isin(frame.set_index(["position", "class"]).index)]
    wide.insert(0, "iou", wide.mean(axis=1))
    return wide.reset_index().drop(columns="position").rename_axis(columns=None)


def image_tallies(store: Store, keys: Iterable[str]) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Key -> (image names, (N, 3, K) tallies), for the runs whose per-image confusion matrices were kept."""
    table = schema.tallies
    found: dict[str, tuple[tuple[str, ...], NDArray[np.int64]]] = {}
    wanted = list(keys)
    with store.read() as connection:
        for start in range(0, len(wanted), 500):
            for row in connection.execute(select(table).where(table.c.key.in_(wanted[start : start + 500]))):
                names = tuple(json.loads(row.names))
                counts = np.frombuffer(zlib.decompress(row.counts), dtype="<u4").astype(np.int64)
                found[row.key] = names, counts.reshape(len(names), 3, row.classes)
    return found


# ---------------------------------------------------------------------------------------------- leaderboard


def leaderboard(
    store: Store,
    filters: Filters | None = None,
    sort: str = "miou",
    descending: bool | None = None,
    keys: Iterable[str] | None = None,
) -> pd.DataFrame:
    """The leaderboard: one row a cell without its seed, with the columns `BOARD`.

    Δ is to the `none` of the same data, student, stride, recipe and first weights, even where a filter hides that
    row. `p_holm` is corrected for all comparisons of the rows shown; `frontier` marks the rows of a data set that no
    other row shown beats in both mIoU and MACs. Teachers are rows of method "teacher". Rows of one data set stand
    together, for numbers of two cannot be compared.

    Args:
        filters: as for `runs`.
        sort: a column to sort each data set's rows by.
        descending: the default is what puts the best first: True for accuracies and Δ, else False.
        keys: show only rows to which one of these runs belongs (with all seeds of such a row).

    Raises:
        ValueError: a filter's or the sort's column does not exist.
    """
    if sort not in BOARD:
        raise ValueError(f"there is no column '{sort}' to sort by: {', '.join(BOARD)}")
    shown = _newest(runs(store, filters), None if keys is None else set(keys))
    complete = not filters and keys is None
    everything = shown if complete else _newest(runs(store, {"method": ["none"]}))
    groups = _groups(shown)
    baselines = {group.setting: group for group in _groups(everything) if group.method == "none"}
    counts = image_tallies(store, _single_seeds(groups, baselines))
    rows = [_row(group, baselines.get(group.setting), counts) for group in groups]
    board = pd.DataFrame(rows, columns=[name for name in BOARD if name not in ("p_holm", "frontier")])
    board["p_holm"] = holm(board["p"].astype(float)) if len(board) else []
    board["frontier"] = False
    for _, part in board.groupby("dataset", sort=False):
        board.loc[part.index, "frontier"] = pareto(part["macs"], part["miou"])
    down = sort in ("miou", "delta", "pixel_accuracy", "best_miou", "seeds") if descending is None else descending
    order = list(dict.fromkeys(["dataset", sort, "student", "stride", "method"]))
    board = board.sort_values(order, ascending=[name != sort or not down for name in order], na_position="last")
    return board[list(BOARD)].reset_index(drop=True)


def _newest(frame: pd.DataFrame, keys: set[str] | None = None) -> pd.DataFrame:
    """Runs with an accuracy; of runs that are the same cell, seed and variant the newest, with how many it replaces.

    Args:
        keys: drop rows of the leaderboard to which none of these runs belongs.
    """
    frame = frame[frame["method"].notna() & frame["miou"].notna()]
    row = [*CELL, "manifest", "variant"]
    if keys is not None and len(frame):
        wanted = frame["key"].isin(keys)
        frame = frame[wanted.groupby([frame[name] for name in row], dropna=False).transform("any")]
    older = frame.groupby([*row, "seed"], dropna=False)["key"].transform("size") - 1
    return frame.assign(superseded=older).drop_duplicates([*row, "seed"], keep="first")  # newest come first


@dataclass(frozen=True)
class _Group:
    """The runs of one row, in the order of their seeds."""

    runs: pd.DataFrame

    @property
    def first(self) -> pd.Series:
        return self.runs.iloc[0]

    @property
    def method(self) -> str:
        return str(self.first["method"])

    @property
    def setting(self) -> tuple[Any, ...]:
        return tuple(self.first[name] for name in SETTING)

    def side(self, counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]) -> Side:
        """The group as one side of a comparison."""
        seeds = [int(seed) for seed in self.runs["seed"]]
        scores = dict(zip(seeds, (float(v) for v in self.runs["miou"]), strict=True))
        kept = {seed: counts[key] for seed, key in zip(seeds, self.runs["key"], strict=True) if key in counts}
        return Side(scores, kept)


def _groups(frame: pd.DataFrame) -> list[_Group]:
    keys = [*CELL, "manifest", "variant"]
    return [_Group(part.sort_values("seed")) for _, part in frame.groupby(keys, dropna=False, sort=False)]


def _single_seeds(groups: Iterable[_Group], baselines: Mapping[tuple[Any, ...], _Group]) -> set[str]:
    """Keys of the runs whose images are needed: rows of one seed, and what they are compared with."""
    wanted: set[str] = set()
    for group in groups:
        other = baselines.get(group.setting)
        common = set(group.runs["seed"]) & set(other.runs["seed"]) if other else set()
        if len(group.runs) == 1:
            wanted |= set(group.runs["key"])
        if other and group.method not in ("none", "teacher") and len(common) < 2:
            wanted |= set(group.runs["key"]) | set(other.runs["key"])
    return wanted


def _row(
    group: _Group,
    baseline: _Group | None,
    counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]],
) -> dict[str, Any]:
    """One row of the leaderboard."""
    part, first = group.runs, group.first
    accuracy = _accuracy(group, counts)
    apart = group.method in ("none", "teacher") or baseline is None
    gap = NO_DIFFERENCE if apart or baseline is None else compare(group.side(counts), baseline.side(counts))
    row = {name: first[name] for name in CELL} | _estimates(accuracy, gap)
    row |= {
        "seeds": len(part),
        "seed_list": ",".join(str(seed) for seed in part["seed"]),
        "macs": first["macs"],
        "parameters": first["parameters"],
        "latency_ms": part["latency_ms"].median(),
        "latency_device": _one(part["latency_device"]),
        "step_ms": part["step_ms"].mean(),
        "step_ratio": _step_ratio(part, None if baseline is None else baseline.runs),
        "pixel_accuracy": part["pixel_accuracy"].mean(),
        "best_miou": part["best_miou"].mean(),
        "images": first["images"],
        "split": first["split"],
        "input_size": f"{first['input_height']:.0f}x{first['input_width']:.0f}" if pd.notna(first["macs"]) else "",
        "precision": _one(part["precision"]),
        "numerics": _one(part["numerics"][part["numerics"] != ""]),
        "dirty": bool(part["dirty"].any()),
        "superseded": int(part["superseded"].sum()),
        "variant": first["variant"],
        "keys": ",".join(part["key"]),
        "reproduce": _reproduce(part),
        "finished": part["finished"].max(),
    }
    return row


def _accuracy(group: _Group, counts: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]) -> Estimate:
    """Mean over seeds with its interval; for one seed its score with the interval over images."""
    if len(group.runs) > 1 or group.first["key"] not in counts:
        return over_seeds([float(value) for value in group.runs["miou"]])
    return over_images(counts[group.first["key"]][1])


def _estimates(accuracy: Estimate, gap: Difference) -> dict[str, Any]:
    return {
        "miou": accuracy.value,
        "miou_low": accuracy.low,
        "miou_high": accuracy.high,
        "miou_basis": accuracy.text,
        "delta": gap.value,
        "delta_low": gap.low,
        "delta_high": gap.high,
        "delta_basis": gap.text if gap is not NO_DIFFERENCE else "",
        "verdict": gap.verdict,
        "p": gap.p,
    }


def _one(values: pd.Series) -> str:
    """The values that occur, as one text."""
    return "; ".join(dict.fromkeys(str(value) for value in values if pd.notna(value)))


_SEEDS = re.compile(r"(?<=--seeds )\S+")


def _reproduce(part: pd.DataFrame) -> str:
    """One command for all seeds of a row where only the seeds differ; else one command a line."""
    commands = list(dict.fromkeys(part["reproduce"]))
    if len({_SEEDS.sub("", command) for command in commands}) == 1:
        return _SEEDS.sub(",".join(str(seed) for seed in part["seed"]), commands[0])
    return "\n".join(commands)


def _step_ratio(part: pd.DataFrame, baseline: pd.DataFrame | None) -> float:
    """Time of a training step relative to `none`, from runs on the same device at the same precision."""
    if baseline is None or part.iloc[0]["method"] == "teacher":
        return math.nan
    like = baseline[baseline["device"].isin(part["device"]) & baseline["precision"].isin(part["precision"])]
    return float(part["step_ms"].mean() / like["step_ms"].mean()) if len(like) else math.nan


# -------------------------------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Run:
    """All that is known of one run.

    Attributes:
        row: its row of the `runs` table.
        record: the record itself.
        parents: role -> (key, name); the name is empty for parents that were not collected.
    """

    row: dict[str, Any]
    record: Record
    parents: dict[str, tuple[str, str]]


def run(store: Store, *words: str) -> Run:
    """The run that is meant: by the beginning of its key, or by words of its cell.

    Words are values of the cell (`ka shapes 16`, `@16`, a part of the student's name) or name one (`seed=0`).

    Raises:
        ValueError: nothing fits, or more than one does; the sentence names what comes near.
    """
    if not words:
        raise ValueError("name a run: the beginning of its key, or words of its cell such as ka @16 seed=0")
    frame = runs(store)
    if not len(frame):
        raise ValueError(f"{store.name} holds no runs yet: run harness collect")
    prefix = words[0].lower() if len(words) == 1 and len(words[0]) >= SHORTEST_PREFIX else "-"
    found = frame[frame["key"].str.startswith(prefix)]
    if not len(found):
        mask = pd.Series(True, index=frame.index)
        for word in words:
            mask &= _matches(frame, word)
        found = frame[mask]
    if len(found) != 1:
        raise ValueError(_not_one(frame, found, words))
    return _load(store, str(found.iloc[0]["key"]))


def _matches(frame: pd.DataFrame, word: str) -> pd.Series:
    """Which runs a word fits.

    Raises:
        ValueError: it names a field that does not exist.
    """
    name, equals, value = word.partition("=")
    if equals and name.isidentifier() and "[" not in name:
        if name not in FILTERS and name not in ("kind", "host", "key"):
            raise ValueError(f"there is no field '{name}': {', '.join(FILTERS)}")
        return frame[name].astype("string").fillna("") == value
    text = word.lower()
    if text.removeprefix("@").isdigit():
        return frame["stride"].eq(int(text.removeprefix("@"))).fillna(False)
    exact = pd.Series(False, index=frame.index)
    for column in ("method", "dataset", "student", "teacher", "recipe", "kind"):
        exact |= frame[column].astype("string").str.lower().fillna("") == text
    part = frame["student"].astype("string").str.lower().fillna("").str.contains(text, regex=False)
    return exact if exact.any() else part


def _not_one(frame: pd.DataFrame, found: pd.DataFrame, words: Sequence[str]) -> str:
    """Why the words mean no single run."""
    said = " ".join(words)
    if len(found) > 1:
        named = zip(found["key"].astype(str), found["name"].astype(str), strict=True)
        some = "; ".join([f"{key[:8]} {name}" for key, name in named][:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return f"'{said}' means {len(found)} runs: {some}{more}"
    known = {str(value) for name in ("key", "method", "student", "dataset", "name") for value in frame[name].dropna()}
    near = [w for word in words for w in difflib.get_close_matches(word, known, n=3, cutoff=0.5)]
    return f"there is no run '{said}'" + (f": did you mean {' or '.join(near)}?" if near else "")


def _load(store: Store, key: str) -> Run:
    table = schema.runs
    with store.read() as connection:
        row = dict(connection.execute(select(table).where(table.c.key == key)).mappings().one())
        record = Record.model_validate_json(row.pop("record"))
        query = select(table.c.key, table.c.name).where(table.c.key.in_(record.parents.values()))
        names = {found.key: found.name for found in connection.execute(query)}
    parents = {role: (parent, names.get(parent, "")) for role, parent in record.parents.items()}
    return Run(row, record, parents)
