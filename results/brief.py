"""The leaderboard of very many rows: all of them in brief, and those of one page in full.

Pages count, filter, sort and leaf through all rows; of most columns they show those of one page. Of 34 000 rows the
brief columns are read in a fifth of the time of all.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from sqlalchemy import ColumnElement

from results import formats
from results import store as schema
from results.board import among, read_rows, rows_of_runs
from results.columns import board_columns
from results.leaderboard import checked_metric, drawn, leaderboard, metric_of, with_reason
from results.metrics import HEADLINE
from results.queries import Filters, matching, metrics
from results.ranking import ranked
from results.store import Store

BRIEF = (
    "method", "student", "stride", "teacher", "dataset", "recipe", "weights", "evaluation", "seeds", "delta_basis",
    "verdict", "p", "tier", "gap_closed", "macs", "split", "input_size", "images", "classes", "absent",
    "absent_share", "numerics", "flags", "superseded", "row",
)  # fmt: skip
"""The columns of every row, beside the metric with its interval: what is said above and below a table
(`results.formats`), who is the best and the cheapest, what can be filtered by, and a row's key."""


def brief(
    store: Store,
    filters: Filters | None = None,
    metric: str = HEADLINE,
    also: Iterable[str] = (),
    sort: str | None = None,
    keys: Iterable[str] | None = None,
) -> pd.DataFrame:
    """All rows of the leaderboard, best first, with the columns `BRIEF` and with `p_holm` and `frontier`.

    What collecting had no time to draw stays empty. Rows of some seeds only have all columns.

    Args:
        filters, metric, sort, keys: as for `results.leaderboard.leaderboard`.
        also: more columns of the leaderboard: to limit or to draw by.

    Raises:
        ValueError: a filter's column, a column that is asked for, or the metric does not exist.
    """
    known = metrics(store)
    named = {column.name: column for column in board_columns(known, checked_metric(known, metric))}
    more = [*also, *([sort] if sort else [])]
    if unknown := [name for name in more if name not in named]:
        raise ValueError(f"there is no column '{unknown[0]}': {', '.join(named)}")
    wanted = {name: values for name, values in matching(filters or {}).items() if values}
    if "seed" in wanted:
        return leaderboard(store, wanted, sort, keys=keys, metric=metric, most_drawn=0)
    late = ("p_holm", "frontier")
    columns = [named[name] for name in dict.fromkeys((*_interval(metric), *BRIEF, *more)) if name not in late]
    conditions: list[ColumnElement[bool]] = [schema.board.c[name].in_(values) for name, values in wanted.items()]
    conditions += [] if keys is None else [among(store, schema.board.c.row, rows_of_runs(store, keys))]
    board = read_rows(store, metric, conditions, columns, beside=("manifest", "pending"))
    whole = keys is None and wanted.keys() <= {"dataset"}
    board = ranked(store, board, known, metric, named[sort or metric], whole=whole)
    return with_reason(store, board.drop(columns=["manifest", "pending"]), metric)


def _interval(metric: str) -> tuple[str, ...]:
    return metric, f"{metric}_low", f"{metric}_high", f"{metric}_basis"


def complete(store: Store, rows: pd.DataFrame, everything: pd.DataFrame, most_drawn: int | None = 0) -> pd.DataFrame:
    """Some rows with all columns of the leaderboard, in their order.

    Args:
        rows: some hundreds of the rows of `everything`.
        everything: as `brief` gives them: whether a flag or a name is shared by rows is said of all of them.
        most_drawn: as for `results.leaderboard.leaderboard`.
    """
    metric, known = metric_of(everything), metrics(store)
    columns = board_columns(known, metric)
    board = read_rows(store, metric, [schema.board.c.row.in_(list(rows["row"]))], columns)
    board = drawn(store, board, known, metric, most_drawn).set_index("row", drop=False)
    rows = rows[rows["row"].isin(board.index)]  # the database may have changed since
    board = board.reindex(rows["row"])
    board["tier"] = board["tier"].astype("Int64")
    for name in ("flags", "p_holm", "frontier"):
        board[name] = rows[name].to_numpy()
    board = board[[column.name for column in columns]].reset_index(drop=True)
    board.attrs = everything.attrs | {
        "shared_flags": formats.shared_flags(everything),
        "namesakes": formats.namesakes(everything),
    }
    return board
