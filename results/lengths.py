"""Gain over the length of training: rows whose recipes differ in nothing but the number of iterations."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    recipes: list[dict[str, Any]] = [dict(records[key].spec.get("recipe") or {}) for key in firsts]
    own["iterations"] = [records[key].training.iterations for key in firsts]
    own["setting"] = [_without_length(recipe, weights) for recipe, weights in zip(recipes, own["weights"], strict=True)]
    if own.empty:
        return own.drop(columns="setting")
    counts = own.groupby("setting")["iterations"].agg(["nunique", "size"])
    chosen = counts.sort_values(["nunique", "size"], kind="stable").index[-1]
    own = own[own["setting"].eq(chosen)].sort_values(["seeds", "finished"], ascending=False)
    own = own.drop_duplicates(["method", "iterations"]).drop(columns="setting")
    return own.sort_values(["method", "iterations"], ignore_index=True)


def _without_length(recipe: Mapping[str, Any], weights: str) -> str:
    """What recipes that differ in their length alone have in common."""
    return json.dumps([{k: v for k, v in recipe.items() if k != "iterations"}, weights], sort_keys=True)
