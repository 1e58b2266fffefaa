"""What accuracy costs: which rows are on the frontier, and how sure that is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, figures, hiding, source, tables
from results import advice, formats, sinks
from results.figures.tradeoff import COSTS, PICKED
from results.leaderboard import columns_of, metric_of

TITLE = "Trade-off"
ICON = ":material/scatter_plot:"
ORDER = 1.2
FIRST = "chart"
MOST = 1000  # points that a figure can show
STANDS = {"on": "on the frontier", "perhaps": "perhaps", "off": ""}


def shown(board: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows to draw, and what is the cost."""
    known = [cost for cost in COSTS if board[cost].notna().any()]
    cost = address.choice(
        "Cost", "cost", known, draw=st.segmented_control, format_func=lambda name: asking.cost_name(board, name)
    )
    teachers = board["method"] == "teacher"
    both = teachers.any() and not teachers.all()
    if both and not address.switch("with teachers", "teachers", help="Teachers are far above and to the right."):
        board = board[~teachers]
    return board.reset_index(drop=True), cost


def picture(board: pd.DataFrame, cost: str, doubt: dict[str, str]) -> None:
    """The figure; a click on a point is a choice of its row, kept in the address."""
    looks = asking.looks()
    chart = figures.accuracy_against_cost(board, looks, cost, doubt or None)
    if chart is None:
        st.info("The cost of no row that is shown is known.")
        return
    st.html(figures.legend(board, looks))
    event = st.altair_chart(chart, width="stretch", theme=None, on_select="rerun", selection_mode=PICKED, key="points")
    picked = [str(point["row"]) for point in event["selection"][PICKED] if "row" in point]
    if picked and address.get("row") != picked[0]:
        address.put(row=picked[0])
    said = "Dashed: the frontier by the values measured. Points of equal cost are set side by side. "
    if doubt:
        said += (
            "Filled: on the frontier in 95 of 100 resamples of seeds and images; pale: perhaps; hollow: off. With few "
            "seeds, and with one seed above all, this doubt is understated."
        )
    st.caption(said)


def frontier(board: pd.DataFrame, cost: str, doubt: dict[str, str]) -> None:
    """The rows that are on the frontier, or perhaps, cheapest first."""
    columns = columns_of(board)
    board = board.assign(stands=[STANDS[doubt.get(row, "off")] for row in board["row"]])
    board = board[board["stands"] != ""].sort_values(cost)
    if not len(board):
        return
    st.subheader("On the frontier, or perhaps")
    named = [columns[name] for name in ("method", "student", "stride", metric_of(board), cost, "seeds")]
    table = pd.DataFrame({column.title: tables.shown_texts(column, board) for column in named})
    st.dataframe(table.assign(frontier=list(board["stands"])), hide_index=True)


st.title("Trade-off")
if source.ready():
    wanted, there = asking.data_set()
    ranked = asking.metric(there)
    wanted |= asking.filters(there)
    limits = asking.budget()
    asking.reads()
    rows = hiding.left_out(advice.within(source.brief_board(wanted, ranked, limits), limits))
    if len(rows):
        st.caption(sinks.markdown(formats.caption(rows)))
        if len(rows) > MOST:
            st.info(f"{len(rows)} rows fit: the {MOST} best are drawn, and the frontier. Filters show the others.")
        some = rows[rows["frontier"] | (rows.index < MOST)]
        rows, cost = shown(source.complete(some, rows))
        doubt = answers.doubt(rows, cost)
        if said := advice.cheapest_near_best(rows, cost):
            st.markdown(sinks.markdown(said))
        picture(rows, cost, doubt)
        asking.row_link(rows, address.get("row"))
        frontier(rows, cost, doubt)
    else:
        st.info("No row fits these filters.")
