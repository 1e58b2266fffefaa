"""The board of a sweep that really runs: watched while it trains, then every page of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.leaderboard import leaderboard
from results.store import open_store
from tests.browser.test_board import CHARTS, PATIENCE_MS, browser, served
from tests.browser.test_every_page import NAMES, opened
from tests.browser.watching import settle
from tests.end_to_end.tiny import tiny_flags
from tests.processes import Command

__all__ = ["browser"]  # fixture
pytestmark = pytest.mark.browser
METHODS = "none,kd,ka,ka-affinity"
PICTURES = "[...document.querySelectorAll('[data-testid=stImage] img')].filter(i => i.naturalWidth > 0).length"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the workspace."""
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """The board over the workspace, opened before there is anything in it."""
    with served(root) as found:
        yield found


@pytest.fixture(scope="module")
def watched(root: Path, address: str, browser: Any) -> list[str]:
    """What the page Sweeps said, in one window that nobody touches, from before a sweep until it had ended."""
    page, wrong = opened(browser)
    page.goto(f"{address}/sweeps")
    page.get_by_text("No sweep was started").wait_for()
    flags = tiny_flags(root, methods=METHODS, strides="8,16", samples="2")
    command = Command(["-m", "harness", "sweep", *flags, "--set", "iterations=60"])
    said = []
    for words in ("Looks again every few seconds", r"[1-9]\d* running", "Nothing runs now", "10 done"):
        found = page.get_by_test_id("stMain").get_by_text(re.compile(words)).first
        found.wait_for()
        said.append(found.inner_text())
    out, errors = command.communicate(timeout=PATIENCE_MS / 1000)
    assert command.returncode == 0, out + errors
    page.context.close()
    assert wrong == []
    return said


@pytest.fixture(scope="module")
def rows(root: Path, watched: list[str]) -> dict[str, str]:
    """`method@stride` -> row of the leaderboard that the sweep left."""
    with open_store(root / "results.db", readonly=True) as store:
        board = leaderboard(store)
    return {f"{row.method}@{row.stride}": row.row for row in board.itertuples()}


def test_the_page_sweeps_follows_it_untouched(watched: list[str]) -> None:
    assert "running" in watched[1] and watched[-1] == "10 done"


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_every_page_shows_it(browser: Any, address: str, rows: dict[str, str], width: int, scheme: str) -> None:
    assert len(rows) == 9
    words = {
        "": f"?row={rows['ka@8']}",
        "classes": f"?row={rows['ka@16']}&score=boundary_iou&score=interior_iou",
        "tradeoff": f"?row={rows['kd@8']}",
        "compare": f"?side={rows['none@8']}&side={rows['ka@16']}",
        "run": "?run=ka%20@16",
    }
    page, wrong = opened(browser, width, scheme)
    for name in NAMES:
        page.goto(f"{address}/{name}{words.get(name, '')}")
        page.get_by_role("heading").first.wait_for()
        if name in ("", "tradeoff", "strides", "ablation", "classes", "compare", "run"):
            page.locator(CHARTS).first.wait_for()
        settle(page)
        assert page.get_by_test_id("stException").count() == 0, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.context.close()
    assert wrong == []


def test_predictions_stand_side_by_side(browser: Any, address: str, rows: dict[str, str]) -> None:
    page, wrong = opened(browser)
    page.goto(f"{address}/compare?side={rows['none@8']}&side={rows['ka@16']}")
    page.get_by_text("who is right").first.wait_for()
    page.wait_for_function(f"{PICTURES} >= 6")  # image, labels, teacher, two predictions, the map
    page.get_by_role("heading", name="Curves").wait_for()
    assert page.get_by_text("teacher", exact=True).count() >= 1
    page.goto(f"{address}/?row={rows['ka@8']}")
    page.get_by_role("heading", name="Sample predictions").wait_for()
    page.wait_for_function(f"{PICTURES} >= 6")
    page.context.close()
    assert wrong == []
