"""Class by class: where a row gains, and where it loses."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, hiding, source
from results import formats, sinks
from results.figures.classes import class_differences, class_intervals
from results.frontier import members_of
from results.metrics import HEADLINE

TITLE = "Classes"
ICON = ":material/category:"
ORDER = 1.6
FIRST = "chart"
MOST = 500  # rows to choose from
ORDERS = {"set": "the data set's order", "pixels": "pixels", "delta": "difference", "iou": "score"}
SCORES = {"miou": "IoU", "mean_class_accuracy": "accuracy: labelled pixels found"}
SHOWN = {
    "class": "class", "pixels": "pixels [%]", "iou": "score [%]", "other": "other [%]", "delta": "Δ [points]",
    "verdict": "verdict",
}  # fmt: skip


def named(row: pd.Series) -> str:
    """A row, in words."""
    return f"{row['method']} · {row['student']}@{row['stride']} · {row['seeds']} seeds · {row['row'][:6]}"


def sides(board: pd.DataFrame) -> tuple[pd.Series, pd.Series | None]:
    """The row that is looked at, and the one that it is compared with: its `none` unless another is chosen."""
    rows = {row["row"]: row for _, row in board.iterrows()}
    order = sorted(rows, key=lambda name: rows[name]["method"] in ("none", "teacher"))
    left, right = st.columns(2)
    with left:
        mine = address.choice("Row", "row", order, format_func=lambda name: named(rows[name]))
    usual = asking.none_of(board, rows[mine])
    others = [name for name in order if name != mine]
    with right:
        choice = address.choice(
            "Compared with",
            "against",
            ["nothing", *others],
            default=usual or "nothing",
            format_func=lambda name: named(rows[name]) if name in rows else name,
        )
    return rows[mine], rows.get(choice)


def score(name: str) -> str:
    """What a metric says of a single class."""
    return SCORES.get(name) or source.metrics()[name].heading


def runs_of(row: pd.Series, board: pd.DataFrame) -> Mapping[int, str]:
    """Seed -> key of each run of a row."""
    return members_of(source.complete(board[board["row"] == row["row"]], board))[0].runs


def table(found: pd.DataFrame) -> pd.DataFrame:
    """Numbers as people read them."""
    out = found[list(SHOWN)].copy()
    for name in ("pixels", "iou", "other", "delta"):
        out[name] = 100 * out[name].astype(float)
    out["class"] = out["class"].map(sinks.visible)
    holds = found["verdict"].isin(formats.HOLDS) & (found["p_holm"] <= formats.ALPHA)
    out["verdict"] = out["verdict"].where(~holds, out["verdict"] + " ²")
    return out.rename(columns=SHOWN)


def pictures(found: pd.DataFrame, mine: pd.Series, name: str) -> None:
    """Scores beside differences."""
    looks = asking.looks()
    colour = looks.colours[mine["method"]]
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Score")
        st.altair_chart(class_intervals(found, looks, colour, f"{name} [%]"), width="stretch", theme=None)
        st.caption("Line: 95 % interval. Tick: the row compared with.")
    with right:
        st.subheader("Difference")
        chart = class_differences(found, looks, colour)
        if chart is None:
            st.caption("Choose a row to compare with.")
        else:
            st.altair_chart(chart, width="stretch", theme=None)
            st.caption(
                "Area of a point: the class's share of the pixels. An interval over zero is no clear difference."
            )


st.title("Classes")
if source.ready():
    wanted, there = asking.data_set()
    wanted |= asking.filters(there)
    asking.reads()
    board = hiding.left_out(source.brief_board(wanted, HEADLINE))
    if not len(board):
        st.info("No row fits these filters.")
        st.stop()
    if len(board) > MOST:
        st.info(f"{len(board)} rows fit: the {MOST} best can be chosen from. Filters show the others.")
        board = board[board["row"].isin([address.get("row"), address.get("against")]) | (board.index < MOST)]
    mine, other = sides(board)
    ours = runs_of(mine, board)
    measured = answers.by_class(list(ours.values()))
    if not measured:
        st.info("The confusion matrices of this row's images were not kept: nothing is known class by class.")
        st.stop()
    left, right = st.columns(2)
    with left:
        metric = address.choice("Score", "score", measured, format_func=score)
    with right:
        order = address.choice("Order", "order", list(ORDERS), format_func=ORDERS.__getitem__)
    try:
        found = answers.class_table(ours, runs_of(other, board) if other is not None else None, metric)
    except ValueError as error:
        st.info(f"{sinks.markdown(error)}.")
        st.stop()
    if not len(found):
        st.info("The row compared with kept nothing of its images: choose another.")
        st.stop()
    if order != "set":
        found = found.sort_values(order, ascending=False, ignore_index=True)
    pictures(found, mine, score(metric).partition(":")[0])
    digits = {SHOWN[name]: st.column_config.NumberColumn(format="%.1f") for name in ("pixels", "iou", "other", "delta")}
    st.dataframe(table(found), hide_index=True, column_config=digits)
    st.caption(
        f"Interval: {found['iou_basis'].iloc[0]}. "
        + (f"Δ: {found['delta_basis'].iloc[0]}. " if other is not None else "")
        + f"{len(found)} classes: even without any effect one in twenty would look clear; ² also holds after Holm's "
        "correction for all of them."
    )
    st.download_button(
        "Download as CSV", formats.csv_text(found), "classes.csv", "text/csv", icon=":material/download:"
    )
