"""Text from records on its way out: whatever a name holds, it is only seen."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import formats, sinks
from results.ingest import collect
from results.leaderboard import leaderboard
from results.store import open_store
from tests.results.factory import Fake, write_all

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "a\u202egnp.exe",
    "line\nbreak\r\ttab",
    "![x](http://evil.invalid/a.png)",
    '<img src="http://evil.invalid/a.png" onerror="x()">',
    "http://evil.invalid and www.evil.invalid and HTTPS://evil.invalid",
    "| a | b |",
    "$x$ :red[y] :material/delete: `code` ~~x~~ **b** _i_ # h",
    "- item",
    "1. item",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\\input{/etc/passwd} \\write18{x} % & # _ ^ ~ { }",
    "\ud800",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_only_shows(text: str) -> None:
    shown = sinks.terminal(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_on_a_terminal_has_lines_and_only_shows(text: str) -> None:
    shown = sinks.terminal_lines(f"first\r\n{text}\nlast\rof all\ta tab")
    assert shown.startswith("first\n") and shown.endswith("\nlast\nof all\ta tab")
    kinds = {unicodedata.category(c) for c in shown if c not in "\n\t"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("text", [*HOSTILE, "ka[beta=10]", "[red]x[/]"])
def test_rich_only_shows(text: str) -> None:
    from rich.text import Text

    assert Text.from_markup(sinks.markup(text)).plain == sinks.terminal(text)
    assert not Text.from_markup(sinks.markup(text)).spans


@given(st.text())
def test_whatever_it_is_a_terminal_only_shows(text: str) -> None:
    shown = sinks.terminal(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    plain = "".join(c for c in text if unicodedata.category(c)[0] not in "CZ")
    assert plain == text.replace(" ", "") or len(shown) >= len(plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_is_only_text(text: str) -> None:
    shown = sinks.markdown(text)
    for markup in ("![", "](", "<", "http:", "https:", "HTTPS:", "www.", "\n", "\x1b"):
        assert markup not in shown
    for character in "[]()`*_$~|!#:":
        places = [i for i, c in enumerate(shown) if c == character]
        assert all(shown[i - 1] == "\\" or shown[i - 1 : i + 1] == "&#" for i in places), shown
    assert not shown.startswith(("- ", "1. "))


@pytest.mark.parametrize("text", [*HOSTILE, "see https://a.invalid/x", "WWW.a.invalid", "me@a-b.invalid"])
def test_no_address_becomes_a_link_after_all_escapes(text: str) -> None:
    """Was: Streamlit found addresses in what `http&#58;//` stands for, and the name of a method could be clicked."""
    left = html.unescape(re.sub(r"\\(?=[!-/:-@\[-`{-~])", "", sinks.markdown(text)))
    assert not re.search(r"(?i)https?://|ftp://|www\.|[-.\w+]@[-\w]+\.[-\w]", left), left


def test_ordinary_names_stay_readable() -> None:
    for name in ("timm.resnet18", "quick-1a2b3c", "kd+ka-adapt", "52.3 %"):
        assert sinks.markdown(name) == sinks.csv(name) == sinks.terminal(name) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert str(sinks.csv(text))[:1] not in {"=", "+", "-", "@", "\t", "\r"}
    assert sinks.csv(-1.5) == -1.5
    assert "\x1b" not in str(sinks.csv(f"{text}\x1b[31m")), "the file may be printed on a terminal"


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command(text: str) -> None:
    shown = sinks.latex(text)
    characters = ["backslash", "asciitilde", "asciicircum", "asciigrave", "less", "greater", "bar", "quotedbl"]
    for allowed in (*(f"\\text{name}{{}}" for name in characters), "{[}", "{]}", "{*}"):
        shown = shown.replace(allowed, "")
    assert "\\input" not in shown and "\\write" not in shown
    for i, character in enumerate(shown):
        assert character not in "&%$#_{}" or shown[i - 1] == "\\", shown


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A leaderboard in which every name is hostile."""
    root = tmp_path_factory.mktemp("hostile")
    fakes = [Fake(name, 8, seed=n, recipe=name, images=2) for n, name in enumerate(HOSTILE[:-1])]
    with open_store(root / "results.db") as store:
        assert not collect(write_all(root, fakes), store).invalid
        return leaderboard(store)


@pytest.mark.parametrize("form", list(formats.FORMATS))
def test_a_board_of_hostile_names_is_whole_and_harmless(board: pd.DataFrame, form: str) -> None:
    assert len(board) == len(HOSTILE) - 1
    text = formats.render(board, form)
    allowed = {"\n"} if form != "csv" else {"\n", "\r", "\t"} | set("".join(HOSTILE[:-1]))
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf")} - allowed
    if form == "md":
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len(table) == 2 + len(board) and "![" not in text and "<img" not in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == len(board)
        cells = [cell for row in rows for name, cell in row.items() if name in ("method", "recipe", "reproduce")]
        assert not [cell for cell in cells if cell[:1] in {"=", "+", "-", "@"}]
    if form == "json":
        assert [row["method"] for row in json.loads(text)] == board["method"].tolist()


def test_the_terminal_gets_no_escape_of_a_record(board: pd.DataFrame, tmp_path: Path) -> None:
    assert "\x1b" not in formats.as_text(board, 200, colour=False)
    coloured = formats.as_text(board, 200, colour=True)
    assert "\x1b[2J" not in coloured and "\x1b]0" not in coloured
