"""Class by class: where a row gains, and where it loses."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, hiding, source
from results import formats, sinks
from results.classes import heading, lacking
from results.figures.classes import class_differences, class_intervals, class_scores
from results.figures.looks import shape_marks
from results.frontier import members_of
from results.metrics import HEADLINE

TITLE = "Classes"
ICON = ":material/category:"
ORDER = 1.6
FIRST = "chart"
MOST = 500  # rows to choose from
ORDERS = {"set": "the data set's order", "pixels": "pixels", "delta": "difference", "iou": "score"}
SHOWN = {
    "class": "class", "pixels": "pixels [%]", "iou": "score [%]", "other": "other [%]", "delta": "Δ [points]",
    "verdict": "verdict",
}  # fmt: skip
NUMBERS = ("pixels", "iou", "other", "delta")
EACH = ("iou", "delta", "verdict")  # what a table of several scores shows of each
Tables = dict[str, pd.DataFrame]  # what a score is called -> as `results.classes.class_table`


def named(row: pd.Series) -> str:
    """A row, in words."""
    seeds = "1 seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    return f"{row['method']} · {row['student']}@{row['stride']} · {seeds} · {row['row'][:6]}"


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


def runs_of(row: pd.Series, board: pd.DataFrame) -> Mapping[int, str]:
    """Seed -> key of each run of a row."""
    return members_of(source.complete(board[board["row"] == row["row"]], board))[0].runs


def scores(measured: list[str]) -> list[str]:
    """The scores to be shown, one or more, and what the row's runs lack."""
    known = source.metrics()
    chosen = address.choices(
        "Scores, side by side",
        "score",
        measured,
        default=measured[:1],
        draw=st.pills,
        selection_mode="multi",
        format_func=lambda name: heading(known[name]),
        help="\n\n".join(f"{sinks.markdown(heading(known[m]))}: {sinks.markdown(known[m].summary)}" for m in measured),
    )
    if said := lacking(measured):
        st.caption(said)
    return chosen or measured[:1]


def found_of(names: list[str], ours: Mapping[int, str], theirs: Mapping[int, str] | None) -> Tables:
    """The table of every score; without differences where the row compared with does not have it."""
    there = set(answers.by_class(list(theirs.values()))) if theirs else set()
    called = [heading(source.metrics()[name]) for name in names]
    headings = {name: said if called.count(said) == 1 else name for name, said in zip(names, called, strict=True)}
    if theirs and (missing := [headings[name] for name in names if name not in there]):
        st.caption(f"The row compared with lacks {sinks.markdown(' and '.join(missing))}: no differences of it.")
    return {headings[name]: answers.class_table(ours, theirs if name in there else None, name) for name in names}


def ordered(found: Tables, order: str) -> Tables:
    """All tables in the order of the first one."""
    if order == "set":
        return found
    places = next(iter(found.values())).sort_values(order, ascending=False).index
    return {name: table.loc[places].reset_index(drop=True) for name, table in found.items()}


def of_one(found: pd.DataFrame) -> pd.DataFrame:
    """A score's table as people read it."""
    out = found[list(SHOWN)].copy()
    for name in NUMBERS:
        out[name] = 100 * out[name].astype(float)
    out["class"] = out["class"].map(sinks.visible)
    holds = found["verdict"].isin(formats.HOLDS) & (found["p_holm"] <= formats.ALPHA)
    out["verdict"] = out["verdict"].where(~holds, out["verdict"] + " ²")
    return out


def table(found: Tables) -> pd.DataFrame:
    """Numbers of one score, or of several beside one another."""
    read = {name: of_one(one) for name, one in found.items()}
    first = next(iter(read.values()))
    if len(read) == 1:
        return first.rename(columns=SHOWN)
    named = {"iou": "{} [%]", "delta": "Δ {}", "verdict": "{}: verdict"}
    beside = [
        one[list(EACH)].rename(columns={k: v.format(name) for k, v in named.items()}) for name, one in read.items()
    ]
    return pd.concat([first[["class", "pixels"]].rename(columns=SHOWN), *beside], axis=1)


def pictures(found: Tables, mine: pd.Series) -> None:
    """Scores beside differences."""
    looks = asking.looks()
    colour = looks.colours[mine["method"]]
    (name, only), several = next(iter(found.items())), len(found) > 1
    if several:
        score, gap = class_scores(found, looks, colour, "iou"), class_scores(found, looks, colour)
        st.html(shape_marks(found, colour))
    else:
        score, gap = class_intervals(only, looks, colour, f"{name} [%]"), class_differences(only, looks, colour)
    undefined = any(table["iou"].isna().any() for table in found.values())
    notes = {
        "Score": "Line: 95 % interval. Tick: the row compared with."
        + (" Of a class without a point no pixel counts for that score." if undefined else ""),
        "Difference": "An interval over zero is no clear difference."
        + ("" if several else " Area of a point: the class's share of the pixels."),
    }
    for place, title, chart in zip(st.columns(2, gap="large"), notes, (score, gap), strict=True):
        with place:
            st.subheader(title)
            if chart is None:
                st.caption("Choose a row to compare with." if title == "Difference" else "No class has this score.")
            else:
                st.altair_chart(chart, width="stretch", theme=None)
                st.caption(notes[title])


def basis(found: Tables, name: str) -> str:
    """What the intervals rest on; "" where there are none."""
    said = [text for one in found.values() for text in one[name] if text]
    return said[0] if said else ""


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
    names = scores(measured)  # not in a column, where it would not wrap
    with st.columns(2)[0]:
        order = address.choice("Order", "order", list(ORDERS), format_func=ORDERS.__getitem__)
    try:
        found = found_of(names, ours, runs_of(other, board) if other is not None else None)
    except ValueError as error:
        st.info(f"{sinks.markdown(error)}.")
        st.stop()
    found = ordered(found, order)
    pictures(found, mine)
    shown = table(found)
    one_digit = st.column_config.NumberColumn(format="%.1f")
    digits = {str(name): one_digit for name in shown.select_dtypes("number")}
    st.dataframe(shown, hide_index=True, column_config=digits)
    delta, classes = basis(found, "delta_basis"), len(shown)
    st.caption(
        f"Interval: {basis(found, 'iou_basis')}. "
        + (f"Δ: {delta}. " if delta else "")
        + f"{classes} classes: even without any effect one in twenty would look clear; ² also holds after Holm's "
        "correction for all of them."
    )
    csv = pd.concat(found, names=["score"]).reset_index("score").reset_index(drop=True)
    st.download_button("Download as CSV", formats.csv_text(csv), "classes.csv", "text/csv", icon=":material/download:")
