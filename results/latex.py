"""The leaderboard as a LaTeX table for a paper: `booktabs`, everything from records escaped."""

from __future__ import annotations

import pandas as pd

from results import sinks
from results.formats import caption, cells, notes, shown_columns


def as_latex(board: pd.DataFrame) -> str:
    """A `table` with the columns that people are shown; what all rows share is its caption, the notes stand below.

    It compiles with pdfLaTeX, XeLaTeX and LuaLaTeX; the preamble needs `\\usepackage{booktabs}`.
    """
    columns = shown_columns(board)
    texts = [[sinks.latex(text) for text in cells(column, board)] for column in columns]
    alignment = "".join("l" if column.type == "text" else "r" for column in columns)
    lines = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"  \centering\small\setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{sinks.latex(caption(board)) or 'Leaderboard'}.}}",
        r"  \label{tab:leaderboard}",
        rf"  \begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"    \toprule",
        _row([sinks.latex(column.title) for column in columns]),
        r"    \midrule",
        *(_row(row) for row in zip(*texts, strict=True)),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(rf"  \par\smallskip\footnotesize\raggedright {_sentence(note)}" for note in notes(board)),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _row(texts: list[str] | tuple[str, ...]) -> str:
    return "    " + " & ".join(texts) + r" \\"


def _sentence(text: str) -> str:
    """Running text; what stands between backticks as code."""
    parts = [sinks.latex(part) for part in text.split("`")]
    return "".join(rf"\texttt{{{part}}}" if place % 2 else part for place, part in enumerate(parts))
