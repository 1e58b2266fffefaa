"""Every page by its own address: on an empty board, a board of one row and a longer one; wide, narrow, light and dark.

Nothing may go wrong: no traceback, no error in the console, no answer that is a refusal, nothing wider than the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards import source
from dashboards.discovery import pages
from results.ingest import collect
from results.store import open_store
from tests.browser.test_address import click_row, wait_for
from tests.browser.test_board import PATIENCE_MS, browser, served
from tests.browser.watching import settle, watch
from tests.results.factory import Fake, sweep, write_all

__all__ = ["browser"]  # fixture
pytestmark = pytest.mark.browser
FILES = [page.file.stem for page in pages(Path(source.__file__).parent / "pages")]
NAMES = ["", *FILES[1:]]
BOARDS = {
    "empty": [],
    "one row": [Fake("ka", images=4)],
    "many": sweep(("none", "kd", "ka"), (8, 16), range(40), images=2),
}
WRONG = {
    "?row=zzz": "not among those shown",
    "?dataset=zzz": "the link asks for “zzz”",
    "?metric=zzz&sort=zzz&page=abc&stride=abc&max_macs=nan": "the link asks for “abc”",
    "tradeoff?cost=zzz&row=zzz": "the link asks for “zzz”",
    "strides?over=zzz&student=zzz&recipe=zzz": "the link asks for “zzz”",
    "classes?row=zzz&against=zzz&score=zzz": "the link asks for “zzz”",
    "run?run=zzz": "there is no run 'zzz'",
    "runs?run=zzz&page=-1": "the link asks for “zzz”",
    "compare?side=zzz&side=yyy": "nothing is called 'zzz'",
    "reported?dataset=zzz": "the link asks for “zzz”",
}


@pytest.fixture(scope="module", params=BOARDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A board by its name, and its address."""
    root = tmp_path_factory.mktemp("every")
    if fakes := BOARDS[request.param]:
        with open_store(root / "results.db") as store:
            collect(write_all(root, fakes), store)
    with served(root) as address:
        yield request.param, address


def opened(browser: Any, width: int = 1400, scheme: Any = "light") -> tuple[Any, list[str]]:
    """A window, and what goes wrong in it."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page, watch(page)


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_every_page_opens_by_its_address(browser: Any, place: tuple[str, str], width: int, scheme: str) -> None:
    page, wrong = opened(browser, width, scheme)
    for name in NAMES:
        page.goto(f"{place[1]}/{name}")
        page.get_by_role("heading").first.wait_for()
        settle(page)
        assert page.get_by_test_id("stException").count() == 0, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.context.close()
    assert wrong == []


def test_an_address_that_means_nothing_gets_a_sentence(browser: Any, place: tuple[str, str]) -> None:
    if place[0] != "many":
        pytest.skip("there is nothing to choose from")
    page, wrong = opened(browser)
    for words, sentence in WRONG.items():
        page.goto(f"{place[1]}/{words}")
        page.get_by_text(sentence).first.wait_for(state="attached")
        settle(page)
        assert page.get_by_test_id("stException").count() == 0, words
    page.goto(f"{place[1]}/{FILES[0]}?stride=8")
    page.get_by_role("heading", name="Leaderboard").wait_for()
    assert page.url == f"{place[1]}/?stride=8"
    page.context.close()
    assert wrong == []


def test_ticks_stay_on_the_other_pages_of_a_table(browser: Any, place: tuple[str, str]) -> None:
    if place[0] != "many":
        pytest.skip("one page holds all rows")
    page, wrong = opened(browser)
    page.goto(f"{place[1]}/runs")
    page.get_by_text("finished stages, newest first").wait_for()
    click_row(page, 1)
    page.get_by_role("link", name="Open this run alone").wait_for()
    first = page.evaluate("new URLSearchParams(location.search).get('run')")
    following = page.get_by_role("spinbutton", name="Page, of 2")
    following.fill("2")
    following.press("Enter")
    page.wait_for_function("new URLSearchParams(location.search).get('page') === '2'")
    settle(page)
    click_row(page, 1)
    page.get_by_role("link", name="Compare these 2 runs").wait_for()
    both = page.evaluate("new URLSearchParams(location.search).getAll('run')")
    assert both[0] == first and len(both) == 2
    following.fill("1")
    following.press("Enter")
    wait_for(page, run=both)
    page.wait_for_function("!new URLSearchParams(location.search).has('page')")
    ticked = page.get_by_test_id("stDataFrame").first.locator("canvas tr[aria-selected=true]")
    ticked.wait_for(state="attached")
    assert ticked.get_attribute("aria-rowindex") == "3"  # the heading is the first
    page.context.close()
    assert wrong == []
