"""Published tables: reported by their authors, not measured by us. They are never mixed with measured rows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd

LABEL = {"authors": "reported by its authors, not measured by us", "users": "re-run by users, not measured by us"}
COLUMNS = (
    *("dataset", "split", "student", "method", "miou", "delta", "teacher", "teacher_miou"),
    *("kind", "label", "source", "protocol", "note"),
)
SETTING = ["kind", "source", "protocol", "dataset", "split", "student"]
"""What rows and the `none` they are compared with have in common."""


def reported(filters: Mapping[str, Iterable[str]] | None = None) -> pd.DataFrame:
    """The published rows, with the columns `COLUMNS`.

    mIoU and `delta` (to the same table's student alone) are fractions. There are no intervals: the sources give none.

    Args:
        filters: column -> words; a word fits when it is part of the value, whatever the case (methods: the whole).

    Raises:
        ValueError: a filter's column does not exist, or a word fits nothing.
    """
    parts = [
        pd.read_csv(io.StringIO(file.read_text(encoding="utf-8")), dtype=str, keep_default_na=False)
        for file in sorted(_folder().iterdir(), key=lambda file: file.name)
        if file.name.endswith(".csv")
    ]
    rows = pd.concat(parts, ignore_index=True)
    for name in ("miou", "teacher_miou"):
        rows[name] = pd.to_numeric(rows[name]) / 100
    alone = rows[rows["method"] == "none"].set_index(SETTING)["miou"]
    beside = alone.reindex(pd.MultiIndex.from_frame(rows[SETTING])).to_numpy()
    rows["delta"] = (rows["miou"] - beside).where(rows["method"] != "none")
    rows["label"] = rows["kind"].map(LABEL)
    for name, words in (filters or {}).items():
        rows = rows[_fits(rows, name, list(words))]
    return rows[list(COLUMNS)].reset_index(drop=True)


def _folder() -> Traversable:
    return files("results") / "reported"


def _fits(rows: pd.DataFrame, name: str, words: list[str]) -> pd.Series:
    if name not in COLUMNS or pd.api.types.is_numeric_dtype(rows[name]):
        raise ValueError(f"published rows have no {name} to choose by: dataset, student, teacher or method")
    fit = pd.Series(False, index=rows.index)
    for word in words:
        low = rows[name].str.lower()
        some = low.eq(word.lower()) if name == "method" else low.str.contains(word.lower(), regex=False)
        if not some.any():
            raise ValueError(f"no published row has the {name} '{word}': {', '.join(sorted(set(rows[name]) - {''}))}")
        fit |= some
    return fit


def people(rows: pd.DataFrame) -> pd.DataFrame:
    """The published rows for people: text, per cent, the source last."""
    out = rows[["dataset", "split", "student", "method"]].copy()
    out["mIoU [%]"] = [f"{100 * value:.2f}" for value in rows["miou"]]
    out["Δ student alone [points]"] = ["" if pd.isna(v) else f"{100 * v:+.2f}" for v in rows["delta"]]
    out["teacher [%]"] = [
        f"{name} {100 * value:.2f}" if pd.notna(value) else name
        for name, value in zip(rows["teacher"], rows["teacher_miou"], strict=True)
    ]
    out["measured by"] = rows["kind"].map({"authors": "authors", "users": "users, again"})
    out["source and protocol"] = rows["source"] + "; " + rows["protocol"]
    out["note"] = rows["note"]
    return out
