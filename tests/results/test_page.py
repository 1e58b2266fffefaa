"""The board as one HTML file: everything in it, nothing from outside, and whatever a name holds is only text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.app import run
from results import formats, sinks
from results.ingest import collect
from results.leaderboard import leaderboard
from results.page import MOST_ROWS, as_html
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all
from tests.results.test_sinks import HOSTILE

ENDS = ("</script><script>alert(1)</script>", "'><img src=x onerror=alert(1)>", "<!-- <script>")


class Page(HTMLParser):
    """Tags with their attributes, the text of cells, and of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[list[str]] = []
        self.keys: list[list[str]] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "tr":
            self._inside = found.get("class", "")
            if self._inside == "row":
                self.cells.append([])
                self.keys.append([])
        if tag == "td" and self._inside == "row":
            self.cells[-1].append("")
            self.keys[-1].append(found["data-key"])
        if tag == "script":
            self._inside = "script"
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "row" and self.cells[-1]:
            self.cells[-1][-1] += data
        if self._inside == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tr", "script"):
            self._inside = ""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep, and a row for every hostile name."""
    names = [*HOSTILE[:-1], *ENDS]
    fakes = [*sweep(("none", "ka"), (8, 16), (0, 1), images=3)]
    fakes += [Fake(name, 8, seed=n, recipe=name, images=3) for n, name in enumerate(names)]
    root = write_all(tmp_path_factory.mktemp("page"), fakes, samples=2)
    with open_store(str(root / "results.db")) as store:
        collect(root, store)
    return root


@pytest.fixture(scope="module")
def made(workspace: Path) -> tuple[str, pd.DataFrame]:
    with open_store(str(workspace / "results.db"), readonly=True) as store:
        board = leaderboard(store)
        return as_html(store, board), board


def test_every_row_says_what_the_board_says(made: tuple[str, pd.DataFrame]) -> None:
    page, board = Page(made[0]), made[1]
    columns = formats.shown_columns(board)
    expected = [[sinks.visible(text) for text in formats.cells(column, board)] for column in columns]
    assert page.cells == [list(row) for row in zip(*expected, strict=True)]
    place = [column.name for column in columns].index("macs")
    assert [float(keys[place]) for keys in page.keys] == pytest.approx(list(board["macs"] / 1e9))
    assert all(f"<pre>{sinks.html(command)}" in made[0] for command in board["reproduce"].str.split("\n").str[0])


def test_it_holds_all_that_it_needs_and_asks_for_nothing(made: tuple[str, pd.DataFrame]) -> None:
    page = Page(made[0])
    assert not [tag for tag, found in page.tags if {"src", "href"} & found.keys() or tag in ("link", "iframe")]
    (policy,) = [found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-inline' 'unsafe-eval" not in policy
    assert not re.search(r"https?:|\*", policy)
    specs, library, own = page.scripts
    assert len(json.loads(specs)) >= 3 and "vegaEmbed" in library and "aria-sort" in own
    assert len(made[0].encode()) < 5e6


def test_names_are_only_text(made: tuple[str, pd.DataFrame]) -> None:
    page = Page(made[0])
    assert len(page.scripts) == 3 and not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    body = made[0].split("<script type='application/json'")[0].split("</style>")[-1]
    assert not {c for c in body if ord(c) < 32 and c not in "\n"} and "\u202e" not in body


@pytest.mark.parametrize("text", [*HOSTILE, *ENDS])
def test_html_is_only_text(text: str) -> None:
    shown = sinks.html(text)
    assert not set("<>\"'") & set(shown) and "&" not in re.sub(r"&(amp|lt|gt|quot|#x27);", "", shown)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_in_a_script_is_the_same_json(value: object) -> None:
    shown = sinks.script(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value and not {"<", ">", "\u2028"} & set(shown)


def test_rows_that_are_left_out_are_counted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ROWS >= 1000
    monkeypatch.setattr("results.page.MOST_ROWS", 2)
    with open_store(str(workspace / "results.db"), readonly=True) as store:
        board = leaderboard(store, {"method": ["none", "ka"], "recipe": ["quick-1a2b3c"]})
        page = as_html(store, board)
        assert len(Page(page).cells) == 2 and f"{len(board) - 2} more rows are not shown" in page
        assert "No row fits" in as_html(store, board.head(0))


def test_hidden_rows_stand_apart_with_the_reason(workspace: Path) -> None:
    with open_store(str(workspace / "results.db"), readonly=True) as store:
        board = leaderboard(store, {"method": ["none", "ka"], "recipe": ["quick-1a2b3c"]})
        gone = board.iloc[0]
        reasons = dict.fromkeys(gone["keys"].split(","), "<b>wrong split")
        page = as_html(store, board, hidden=reasons)
        assert len(Page(page).cells) == len(board) - 1 and "&lt;b&gt;wrong split" in page and "1 hidden rows" in page
        assert gone["row"] not in page.split("<script type='application/json'")[1]  # nor is it drawn
        everything = dict.fromkeys(",".join(board["keys"]).split(","), "all")
        assert not Page(as_html(store, board, hidden=everything)).cells


def test_the_command_writes_it_with_pictures(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "board.html"
    words = ["export", "board", "-w", str(workspace), "-m", "none,ka", "-s", "16", "--out", str(out)]
    assert run([*words, "--pictures", "1"]) == 0
    assert f"{out}: 2 rows" in capsys.readouterr().out
    images = [found["src"] for tag, found in Page(out.read_text()).tags if tag == "img"]
    assert len(images) == 4 and all(source.startswith("data:image/") for source in images)
    assert run([*words[:-1], str(tmp_path / "board.csv"), "--pictures", "1"]) == 2
    assert "csv holds no pictures" in capsys.readouterr().err
