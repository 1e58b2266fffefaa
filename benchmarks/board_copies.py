"""Many runs without as many records: those of a database are copied within it, under other keys and recipes.

For questions it makes no difference; collecting is measured on the records themselves.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Text, func, insert, literal, select

from results import store as schema
from results.store import Store

LISTS = ("keys", "parents")
"""Columns that hold several keys, separated by commas."""
KEY, ROW = 20, 12
"""Characters of the keys of original runs and rows; those of copies are of another length."""


def copy(store: Store, times: int) -> None:
    """Add so many copies of all runs, with all that hangs on them and their rows of the leaderboard."""
    with store.write() as connection:
        for number in range(1, times + 1):
            for table in (schema.runs, *schema.CHILDREN, schema.board):
                if table is schema.records:
                    copy_records(connection, f"{number:03d}")
                    continue
                columns = [_copied(table, column, f"{number:03d}") for column in table.c]
                connection.execute(
                    insert(table).from_select(list(table.c.keys()), select(*columns).where(_original(table)))
                )
    with store.write() as connection:
        connection.exec_driver_sql("ANALYZE")


def copy_records(connection: Connection, begin: str) -> None:
    """The texts of the original records, with every key in them under its new name."""
    table = schema.records
    originals = connection.execute(select(table).where(_original(table))).mappings()
    copies = [
        {**row, "key": begin + row["key"], "record": _renamed(zlib.decompress(row["record"]), begin.encode())}
        for row in originals
    ]
    connection.execute(insert(table), copies)


def _renamed(text: bytes, begin: bytes) -> bytes:
    return zlib.compress(re.sub(rb'"([0-9a-f]{%d})"' % KEY, rb'"' + begin + rb'\1"', text))


def _original(table: Table) -> ColumnElement[bool]:
    return func.length(table.c.row) == ROW if table is schema.board else func.length(table.c.key) == KEY


def _copied(table: Table, column: Any, begin: str) -> Any:
    name = column.name
    if name in ("row", "family"):
        return literal(begin) + func.substr(column, 1, 8)
    if name == "lessons":  # JSON: [["a", "b"], ["c"]]
        return func.replace(func.replace(column, '", "', f'", "{begin}'), '["', f'["{begin}')
    if name in LISTS and table in (schema.runs, schema.board):
        first = func.substr(literal(begin), 1, func.length(column) * len(begin), type_=Text)
        return first + func.replace(column, ",", f",{begin}", type_=Text)
    if name in ("key", "parent"):
        return literal(begin) + column
    return column + literal(f"-{begin}") if name == "recipe" else column
