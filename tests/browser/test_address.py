"""A page's state in its address, in a real browser: links, back, forward, clicks on rows and cells."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from tests.browser.test_board import CHARTS, PATIENCE_MS, address, board, browser, page, root
from tests.browser.watching import settle

__all__ = ["address", "board", "browser", "page", "root"]  # fixtures
pytestmark = pytest.mark.browser


def said(page: Any) -> dict[str, list[str]]:
    """What the address bar says."""
    return parse_qs(urlsplit(page.evaluate("location.href")).query)


def wait_for(page: Any, /, **wanted: Any) -> None:
    """Until the address says this, and all that follows from it is drawn."""
    for name, values in wanted.items():
        test = "([n, w]) => JSON.stringify(new URLSearchParams(location.search).getAll(n)) === JSON.stringify(w)"
        page.wait_for_function(test, arg=[name, values])
    settle(page)


def click_row(page: Any, row: int, x: int = 18) -> None:
    """Click into a row of the first table, by default on the box in front of it."""
    table = page.get_by_test_id("stDataFrame").first
    table.locator("canvas").first.wait_for()
    settle(page)
    box = table.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + 35 * row + 52)


def test_a_copied_link_opens_the_same_page_in_another_browser(
    page: Any, browser: Any, address: str, board: pd.DataFrame
) -> None:
    page.get_by_test_id("stSidebar").get_by_role("combobox", name="Methods").click()
    page.get_by_role("option", name="kd").click()
    wait_for(page, method=["kd"])
    page.keyboard.press("Escape")
    click_row(page, 1)
    page.get_by_role("heading", name="IoU by class").wait_for()
    row = board[board["method"] == "kd"]["row"].iloc[1]
    wait_for(page, method=["kd"], row=[row])
    title = page.get_by_role("heading", name="kd").first.inner_text()
    other = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.evaluate("location.href"))
    other.get_by_role("heading", name=title).wait_for()
    other.locator(CHARTS).first.wait_for()
    assert said(other) == said(page) == {"method": ["kd"], "row": [row]}
    assert other.get_by_test_id("stSidebar").get_by_text("kd", exact=True).count() == 1
    other.context.close()


def test_back_and_forward_go_through_what_was_chosen(page: Any, board: pd.DataFrame) -> None:
    page.get_by_text("Choose a row of the table").wait_for()
    click_row(page, 1)
    wait_for(page, row=[board["row"].iloc[1]])
    click_row(page, 2, x=150)  # on the name of the method
    wait_for(page, row=[board["row"].iloc[2]])
    title = page.get_by_role("heading", name="@").first
    second = title.inner_text()
    page.go_back()
    wait_for(page, row=[board["row"].iloc[1]])
    page.wait_for_function("t => !document.body.innerText.includes(t)", arg=second)
    page.go_back()
    page.get_by_text("Choose a row of the table").wait_for()
    assert said(page) == {}
    page.go_forward()
    wait_for(page, row=[board["row"].iloc[1]])
    page.get_by_role("heading", name="IoU by class").wait_for()
    page.get_by_role("link", name="Runs").click()
    page.get_by_text("28 finished stages").wait_for()
    page.go_back()
    page.get_by_role("heading", name="IoU by class").wait_for()
    wait_for(page, row=[board["row"].iloc[1]])
