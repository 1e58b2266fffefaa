"""Trade-off, Strides, Lengths and Classes in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.test_board import CHARTS, PATIENCE_MS, address, board, browser, page, root
from tests.browser.watching import settle

__all__ = ["address", "board", "browser", "page", "root"]
pytestmark = pytest.mark.browser
SEVERAL = "classes?score=miou&score=mean_class_accuracy"


@pytest.fixture(params=["light", "dark"])
def narrow(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[tuple[Any, str]]:
    """A page as wide as a telephone, on a light or a dark system, and the board's address."""
    context = browser.new_context(viewport={"width": 390, "height": 900}, color_scheme=request.param)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    yield opened, address
    context.close()


def test_a_point_leads_to_its_row(page: Any) -> None:
    """From the sidebar to the figure, from a point to all that is known of its row: three clicks."""
    page.get_by_role("link", name="Trade-off").click()
    page.get_by_role("heading", name="Trade-off").wait_for()
    chart = page.locator(CHARTS).first
    chart.wait_for()
    page.get_by_text("Filled: on the frontier").wait_for()
    box = chart.bounding_box()
    page.mouse.click(*_point(page, box))
    link = page.get_by_role("link", name="All that is known of this row")
    link.wait_for()
    link.click()
    page.get_by_role("heading", name="IoU by class").wait_for()
    assert "row=" in page.url


def _point(page: Any, box: dict[str, float]) -> tuple[float, float]:
    """Where a point with a tooltip lies."""
    for y in range(20, int(box["height"]) - 60, 9):
        for x in range(60, int(box["width"]) - 10, 9):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.evaluate("!!document.querySelector('#vg-tooltip-element.visible')"):
                return box["x"] + x, box["y"] + y
    raise AssertionError("no point was found")


def test_figures_fit_a_telephone_in_light_and_dark(narrow: tuple[Any, str]) -> None:
    page, address = narrow
    for name, charts in (("tradeoff", 1), ("strides", 2), ("lengths", 1), (SEVERAL, 2)):
        page.goto(f"{address}/{name}")
        page.locator(CHARTS).nth(charts - 1).wait_for()
        settle(page)
        # The sidebar leaves a narrow window by sliding out.
        page.wait_for_function("document.getAnimations().every(each => each.playState !== 'running')")
        assert page.get_by_test_id("stException").count() == 0
        widest = page.evaluate("document.documentElement.scrollWidth")
        assert widest <= 390, name
        for place in range(charts):
            box = page.locator(CHARTS).nth(place).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 391, name
