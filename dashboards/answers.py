"""What pages ask beyond the tables: answers that take a moment, kept until the database changes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import source
from results import ablation, classes, families, frontier, lengths, strides
from results.store import open_store

Attrs = dict[Hashable | None, Any]


@st.cache_data(max_entries=32, show_spinner="Resampling ...")
def _doubt(target: str, changed: str, board: pd.DataFrame, attrs: Attrs, cost: str) -> dict[str, str]:
    with open_store(target, readonly=True) as store:
        return dict(frontier.frontier_doubt(store, _with(board, attrs), cost))


def doubt(board: pd.DataFrame, cost: str) -> dict[str, str]:
    """Row -> "on", "perhaps" or "off" the frontier."""
    target = source.database()
    return _doubt(target, source.stamp(target), board, board.attrs, cost)


@st.cache_data(max_entries=32, show_spinner="Resampling ...")
def _over_strides(
    target: str, changed: str, rows: pd.DataFrame, attrs: Attrs
) -> tuple[list[strides.Bought], pd.DataFrame]:
    with open_store(target, readonly=True) as store:
        known = frontier.resampled_rows(store, _with(rows, attrs))
    return strides.bought(rows, known), strides.improvement(rows, known)


def over_strides(rows: pd.DataFrame) -> tuple[list[strides.Bought], pd.DataFrame]:
    """What stride every method buys, and how often its runs beat those of `none`."""
    target = source.database()
    return _over_strides(target, source.stamp(target), rows, rows.attrs)


@st.cache_data(max_entries=32, show_spinner=False)
def _over_lengths(target: str, changed: str, rows: pd.DataFrame, attrs: Attrs) -> pd.DataFrame:
    with open_store(target, readonly=True) as store:
        return lengths.over_lengths(store, _with(rows, attrs))


def over_lengths(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one student and stride that differ in nothing but their length, with their iterations."""
    target = source.database()
    return _with(_over_lengths(target, source.stamp(target), rows, rows.attrs), rows.attrs)


def _with(board: pd.DataFrame, attrs: Attrs) -> pd.DataFrame:
    """The frame with its attributes, which are no part of what a cache compares."""
    board.attrs = attrs
    return board


@st.cache_data(max_entries=64, show_spinner="Resampling ...")
def _classes(
    target: str, changed: str, ours: Mapping[int, str], theirs: Mapping[int, str] | None, metric: str
) -> pd.DataFrame:
    with open_store(target, readonly=True) as store:
        return classes.class_table(store, ours, theirs, metric)


def class_table(ours: Mapping[int, str], theirs: Mapping[int, str] | None, metric: str) -> pd.DataFrame:
    """One row a class: score and difference.

    Raises:
        ValueError: the two sides were evaluated on other images.
    """
    target = source.database()
    return _classes(target, source.stamp(target), ours, theirs, metric)


@st.cache_data(max_entries=64, show_spinner=False)
def _by_class(target: str, changed: str, keys: tuple[str, ...]) -> list[str]:
    with open_store(target, readonly=True) as store:
        return classes.by_class(store, keys)


def by_class(keys: list[str]) -> list[str]:
    """The metrics that some runs have class by class."""
    target = source.database()
    return _by_class(target, source.stamp(target), tuple(keys))


@st.cache_data(max_entries=32, show_spinner="Resampling ...")
def _over_settings(target: str, changed: str, methods: tuple[str, ...], metric: str) -> list[families.FamilyGap]:
    with open_store(target, readonly=True) as store:
        scores = families.scores_by_setting(store, methods, metric=metric)
        return families.family_gaps(scores, methods, source.metrics()[metric])


def over_settings(methods: tuple[str, ...], metric: str) -> list[families.FamilyGap]:
    """Every pair of methods over all settings that both have.

    Raises:
        ValueError: two of them have no setting in common with two seeds of both.
    """
    target = source.database()
    return _over_settings(target, source.stamp(target), methods, metric)


@st.cache_data(max_entries=8, show_spinner="Reading the database ...")
def _ablations(target: str, changed: str) -> list[ablation.Ablation]:
    with open_store(target, readonly=True) as store:
        return ablation.ablations(store)


def ablations() -> list[ablation.Ablation]:
    """The methods that have an ablation in the database."""
    target = source.database()
    return _ablations(target, source.stamp(target))


@st.cache_data(max_entries=32, show_spinner="Reading the database ...")
def _contributions(
    target: str, changed: str, rows: tuple[tuple[str, str], ...], metric: str, hidden: tuple[str, ...]
) -> pd.DataFrame:
    with open_store(target, readonly=True) as store:
        return ablation.contributions(store, rows, metric=metric, hidden=hidden)


def contributions(rows: tuple[tuple[str, str], ...], metric: str, hidden: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table of an ablation, of all settings; rows all of whose runs are hidden are left out."""
    target = source.database()
    return _contributions(target, source.stamp(target), rows, metric, hidden)
