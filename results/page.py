"""The leaderboard as one HTML file that opens without a server or a network: tables that sort and filter, charts,
and, if asked for, pictures. The figures are those of the board's pages."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from results import formats, queries, sinks
from results.columns import Column
from results.figures.looks import Looks, legend, looks
from results.figures.strides import gain_map, metric_over_stride
from results.figures.tradeoff import accuracy_against_cost
from results.leaderboard import columns_of, metric_of
from results.pictures import pictures
from results.store import Store
from results.strides import one_setting

FILES = Path(__file__).parent / "page_files"
MOST_ROWS = 1200
"""Rows of the board that one file holds, so that it stays below 5 MB; what is left out is said."""
MOST_SETTINGS = 12
"""Students and recipes whose strides are drawn; each is two charts."""
TITLE = "Segmentation distillation"


@dataclass
class _Charts:
    """The charts of a page: their specifications, by the id of their place."""

    specs: dict[str, Any] = field(default_factory=dict)

    def place(self, title: str, chart: Any, note: str = "") -> str:
        """The place of a chart; nothing where there is none."""
        if chart is None:
            return ""
        name = f"chart{len(self.specs)}"
        self.specs[name] = json.loads(chart.to_json())
        said = f"<p class='note'>{sinks.html(note)}</p>" if note else ""
        return f"<figure><h3>{sinks.html(title)}</h3><div id='{name}' class='chart'></div>{said}</figure>"


def as_html(
    store: Store,
    board: pd.DataFrame,
    samples: int = 0,
    workspace: Path | None = None,
    hidden: Mapping[str, str] | None = None,
) -> str:
    """The page.

    Args:
        store: where the board comes from: a method has the colour that it has everywhere.
        board: the rows to show.
        samples: images of each student and stride whose predictions are shown.
        workspace: where the pictures lie.
        hidden: key of a run -> why it is hidden; rows all of whose runs are stand apart.
    """
    named = pd.concat([queries.rows_in_brief(store)[["method", "student"]], board[["method", "student"]]])
    look, charts = looks(named), _Charts()
    shown = board.head(MOST_ROWS)
    shown.attrs = board.attrs
    parts = [
        _section(part, hidden or {}, look, charts, samples, workspace)
        for _, part in shown.groupby(["dataset", "evaluation"], sort=False, dropna=False)
    ]
    if len(board) > len(shown):
        parts.append(f"<p class='note'>{len(board) - len(shown)} more rows are not shown: export fewer at once.</p>")
    return _document("\n".join(parts) or "<p>No row fits.</p>", charts.specs)


def _section(
    part: pd.DataFrame, hidden: Mapping[str, str], look: Looks, charts: _Charts, samples: int, workspace: Path | None
) -> str:
    """All rows that can be compared with one another."""
    apart = part["keys"].map(lambda keys: set(keys.split(",")) <= hidden.keys()).astype(bool)
    aside, part = part[apart], part[~apart].reset_index(drop=True)
    if not len(part):
        return _aside(aside, hidden)
    return "\n".join(
        (
            f"<section><h2>{sinks.html(part['dataset'].iloc[0])}</h2>",
            f"<p class='caption'>{sinks.html(formats.caption(part))}</p>",
            _table(part, look),
            "<ul class='notes'>" + "".join(f"<li>{_sentence(note)}</li>" for note in formats.notes(part)) + "</ul>",
            legend(part, look),
            "<div class='charts'>",
            *_charts(part, look, charts),
            "</div>",
            *(_pictures(part, samples, workspace) if samples and workspace else ()),
            _aside(aside, hidden),
            "</section>",
        )
    )


def _aside(board: pd.DataFrame, hidden: Mapping[str, str]) -> str:
    """Rows that are hidden, and why; nothing where there are none."""
    lines = [
        f"<li>{sinks.html(row['method'])} {sinks.html(row['student'])}@{row['stride']}: "
        f"{sinks.html('; '.join(dict.fromkeys(hidden[key] for key in row['keys'].split(','))))}</li>"
        for row in board.to_dict("records")
    ]
    said = f"{len(lines)} hidden rows, which count in intervals, tiers and corrections"
    return f"<details><summary>{said}</summary><ul>{''.join(lines)}</ul></details>" if lines else ""


def _sentence(text: str) -> str:
    """Running text; what stands between backticks as code."""
    parts = text.split("`")
    return "".join(f"<code>{sinks.html(p)}</code>" if n % 2 else sinks.html(p) for n, p in enumerate(parts))


# ------------------------------------------------------------------------------------------------------- table


def _table(board: pd.DataFrame, look: Looks) -> str:
    """The rows; a heading sorts, a field below it filters, a row opens with what is behind it."""
    columns = formats.shown_columns(board)
    heads = "".join(
        f"<th class='{_kind(column)}' title='{sinks.html(column.help)}' aria-sort='none'>"
        f"<button>{sinks.html(column.title)}</button></th>"
        for column in columns
    )
    fields = "".join(
        f"<td><input aria-label='filter {sinks.html(column.title)}' "
        f"placeholder='{'contains' if _kind(column) == 'text' else '> ...'}'></td>"
        for column in columns
    )
    texts = [formats.cells(column, board) for column in columns]
    lines = [
        "<tr class='row' tabindex='0'>"
        + "".join(_cell(c, row, t, look) for c, t in zip(columns, line, strict=True))
        + "</tr>"
        f"<tr class='more' hidden><td colspan='{len(columns)}'>{_behind(board, row)}</td></tr>"
        for line, row in zip(zip(*texts, strict=True), board.to_dict("records"), strict=True)
    ]
    return (
        "<p class='note'>A click on a heading sorts, the fields below filter (&gt; 50, &lt;= 2.5, text), "
        "a click on a row shows what is behind it. <span class='count'></span></p>"
        f"<div class='scroll'><table class='board'><thead><tr>{heads}</tr><tr class='filters'>{fields}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _kind(column: Column) -> str:
    return "text" if column.type in ("text", "flag") else "number"


def _cell(column: Column, row: Mapping[Any, Any], text: str, look: Looks) -> str:
    """What is shown, and beside it what is sorted and filtered by: numbers in the unit of the heading."""
    value = row[column.name]
    if _kind(column) == "number":
        key = "" if pd.isna(value) or not math.isfinite(float(value)) else repr(float(value) * column.factor)
    else:
        key = text
    mark = ""
    if column.name == "method":
        mark = f"<span class='dot' style='background:{sinks.html(look.colours[row['method']])}'></span>"
    kind = f"{_kind(column)} {row['verdict']}" if column.name == "verdict" else _kind(column)
    return f"<td class='{sinks.html(kind)}' data-key='{sinks.html(key)}'>{mark}{sinks.html(text)}</td>"


def _behind(board: pd.DataFrame, row: Mapping[Any, Any]) -> str:
    """The interval's basis, the seeds, and the command that makes the row again."""
    metric = columns_of(board)[metric_of(board)]
    facts = {
        f"interval of {metric.heading}": row[f"{metric.name}_basis"],
        "Δ none": row["delta_basis"],
        "seeds": row["seed_list"],
        "teacher": row["teacher"],
        "recipe": row["recipe"],
        "precision": row["precision"],
        "numerics": row["numerics"],
        "runs": row["keys"].replace(",", ", "),
    }
    pairs = "".join(f"<dt>{sinks.html(n)}</dt><dd>{sinks.html(v)}</dd>" for n, v in facts.items() if v)
    command = "\n".join(sinks.html(line) for line in str(row["reproduce"]).splitlines())
    return f"<dl>{pairs}</dl><pre>{command}</pre>"


# ------------------------------------------------------------------------------------------- charts and pictures


def _charts(board: pd.DataFrame, look: Looks, charts: _Charts) -> Iterator[str]:
    students = board[board["method"] != "teacher"].reset_index(drop=True)
    students.attrs = board.attrs
    if len(students):
        chart = accuracy_against_cost(students, look)
        yield charts.place("Accuracy against cost", chart, "Dashed: the Pareto frontier of the rows shown.")
    settings = students[["student", "recipe"]].drop_duplicates()
    for student, recipe in settings.head(MOST_SETTINGS).itertuples(index=False):
        rows = one_setting(board, student, recipe)
        rows.attrs = board.attrs
        name = f": {student}, {recipe}" if len(settings) > 1 else ""
        if rows.loc[rows["method"] != "teacher", "stride"].nunique() > 1:
            yield charts.place(f"Over the output stride{name}", metric_over_stride(rows, look))
        yield charts.place(f"Gain over none{name}", gain_map(rows, look), "Pale print: no clear difference.")
    if len(settings) > MOST_SETTINGS:
        yield f"<p class='note'>{len(settings) - MOST_SETTINGS} more students and recipes are not drawn.</p>"


def _pictures(board: pd.DataFrame, samples: int, workspace: Path) -> Iterator[str]:
    """Images, labels and predictions of every method, a line an image, for each student and stride."""
    students = board[board["method"] != "teacher"]
    for (student, stride), rows in students.groupby(["student", "stride"], sort=False):
        kept = {row["method"]: pictures(workspace, row["keys"].split(",")[0]) for row in rows.to_dict("records")}
        kept = {method: found for method, found in kept.items() if found}
        if not kept:
            continue
        first = next(iter(kept.values()))
        names = [name for name in first if all(name in found for found in kept.values())][:samples]
        heads = "".join(f"<th>{sinks.html(text)}</th>" for text in ("", "image", "labels", *kept))
        lines = []
        for name in names:
            folder, picture = first[name]
            files = [folder / picture.image, folder / picture.label]
            files += [found[name][0] / found[name][1].prediction for found in kept.values()]
            lines.append(f"<tr><th>{sinks.html(name)}</th>{''.join(f'<td>{_image(file)}</td>' for file in files)}</tr>")
        yield f"<h3>Predictions: {sinks.html(student)}@{stride}</h3>"
        yield f"<div class='scroll'><table class='pictures'><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _image(file: Path) -> str:
    kind = "jpeg" if file.suffix == ".jpg" else "png"
    return f"<img alt='' src='data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}'>"


# ---------------------------------------------------------------------------------------------------- the file


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; it calls `vegaEmbed` what it draws with."""
    import altair
    import vl_convert

    version = "_".join(altair.SCHEMA_VERSION.split(".")[:2])
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version))


def _document(body: str, specs: Mapping[str, Any]) -> str:
    """The whole file. Its policy lets nothing but its own two scripts run, and nothing be fetched."""
    own = (FILES / "page.js").read_text(encoding="utf-8")
    scripts = [script.replace("</script", "<\\/script") for script in (*([_library()] if specs else []), own)]
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            "<html lang='en'><head><meta charset='utf-8'>",
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{TITLE}</title>",
            f"<style>{(FILES / 'page.css').read_text(encoding='utf-8')}</style></head>",
            f"<body><h1>{TITLE}</h1>",
            body,
            f"<script type='application/json' id='specs'>{sinks.script(json.dumps(specs))}</script>",
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
