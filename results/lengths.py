"""Gain over the length of training: rows whose recipes differ in nothing but the number of iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from results import queries
from results.store import Store


def over_lengths(store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one setting, one a method and length, shortest first.

    Of recipes that differ in more than their length, those are shown that were trained for the most lengths; of
    several variants of a row, the one of most seeds.

    Args:
        rows: of one data set, student and stride, as `leaderboard` gives them.

    Returns:
        The rows with a column `iterations`; without teachers.
    """
    own = rows[rows["method"].ne("teacher")].copy()
    firsts = own["keys"].str.split(",").str[0]
    with store.read() as connection:
        records = queries.read_records(connection, firsts)
    own["iterations"] = [records[key].training.iterations for key in firsts]
    if own.empty:
        return own
    own["setting"] = _settings(
        [
            _flat({"recipe": records[key].spec.get("recipe") or {}, "weights": weights})
            for key, weights in zip(firsts, own["weights"], strict=True)
        ]
    )
    counts = own.groupby("setting")["iterations"].agg(["nunique", "size"])
    chosen = counts.sort_values(["nunique", "size"], kind="stable").index[-1]
    own = own[own["setting"].eq(chosen)].sort_values(["seeds", "finished"], ascending=False)
    own = own.drop_duplicates(["method", "iterations"]).drop(columns="setting")
    return own.sort_values(["method", "iterations"], ignore_index=True)


def _settings(recipes: Sequence[Mapping[str, Any]]) -> list[int]:
    """A number for each recipe, the same for those that differ in their length alone.

    A record from before a field existed does not have it. Such a recipe is taken for the most frequent of those that
    agree in all that both have.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(recipes)), key=lambda i: -len(recipes[i])):
        fitting = [group for group in groups if all(_alike(recipes[index], recipes[other]) for other in group)]
        if fitting:
            max(fitting, key=len).append(index)
        else:
            groups.append([index])
    number = {index: place for place, group in enumerate(groups) for index in group}
    return [number[index] for index in range(len(recipes))]


def _alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys() - {"recipe.iterations"})


def _flat(data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested fields by their paths: `recipe.optimizer.lr`."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found
