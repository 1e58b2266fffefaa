"""The leaderboard taken elsewhere: every format in which it can be written to a file."""

from __future__ import annotations

import io
from collections.abc import Callable

import pandas as pd

from results.formats import as_csv, as_json, as_markdown, export_frame
from results.latex import as_latex


def as_parquet(board: pd.DataFrame) -> bytes:
    """Every column of the CSV with its type, as Apache Parquet."""
    buffer, frame = io.BytesIO(), export_frame(board)
    frame.attrs = {}
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _text(render: Callable[[pd.DataFrame], str]) -> Callable[[pd.DataFrame], bytes]:
    return lambda board: (render(board) + "\n").encode()


EXPORTS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _text(as_csv),
    "md": _text(as_markdown),
    "latex": _text(as_latex),
    "json": _text(as_json),
    "parquet": as_parquet,
}
"""Format -> a leaderboard as the content of a file."""
HTML = "html"
"""The format that needs more than the board: `results.page` writes it."""
SUFFIXES = {
    "csv": "csv", "md": "md", "markdown": "md", "tex": "latex", "json": "json", "parquet": "parquet", "html": HTML,
    "htm": HTML,
}  # fmt: skip
"""Ending of a file's name -> format."""
BINARY = frozenset({"parquet", HTML})
"""What makes no sense on a terminal."""
