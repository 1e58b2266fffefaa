"""Published tables: reported by their authors, not measured by us. They are never mixed with measured rows."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd

from results.formats import FORMATS, csv_text, json_objects, markdown_line

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


def display_reported(rows: pd.DataFrame) -> pd.DataFrame:
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


NOT_OURS = "Reported by authors or users, not measured by us: other recipes, mostly one run, the best checkpoint."


def render_reported(rows: pd.DataFrame, form: str = "table") -> str:
    """Published rows (`results.reported.reported`) in one of the `FORMATS`.

    Raises:
        ValueError: there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format '{form}': {', '.join(FORMATS)}")
    if form in ("csv", "json"):
        out = rows.assign(**{name: 100 * rows[name] for name in ("miou", "teacher_miou", "delta")})
        named = {"miou": "miou_percent", "teacher_miou": "teacher_miou_percent", "delta": "delta_points"}
        out = out.round(4).rename(columns=named)
        return csv_text(out) if form == "csv" else json_objects(out)
    shown = display_reported(rows)
    if form == "md":
        lines = [f"*{NOT_OURS}*", "", markdown_line(shown.columns), markdown_line("---" for _ in shown.columns)]
        return "\n".join([*lines, *(markdown_line(row) for row in shown.itertuples(index=False))])
    return _reported_text(shown)


def _reported_text(shown: pd.DataFrame) -> str:
    """A table of the numbers for each source and protocol, which are said once above it."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=max(100, shutil.get_terminal_size((160, 24)).columns), highlight=False)
    console.print(Text(NOT_OURS))
    for source, part in shown.groupby("source and protocol", sort=False):
        console.print(Text(f"\n{source}"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in part.columns.drop("source and protocol"):
            table.add_column(Text(name), justify="right" if "mIoU" in name or "Δ" in name else "left")
        for row in part.drop(columns="source and protocol").itertuples(index=False):
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
