"""A long board in a real browser: every page, filters, links, sorting, choosing, downloads, back, dark and narrow.

It is made by the benchmark's script: 258 rows, two pages of a table. HARNESS_TEST_BOARD names the database of a larger
one to run the same on, for instance 100 845 runs:

    python benchmarks/board.py --runs 2241 --datasets 1 --copies 44 --undrawn --workspace big
    HARNESS_TEST_BOARD=big/results.db pytest tests/browser/test_large_board.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.board_workspace import write
from dashboards import source
from results import queries
from results.brief import brief
from results.ingest import collect
from results.store import open_store
from tests.browser.test_address import click_row, said, wait_for
from tests.browser.test_board import CHARTS, browser, served
from tests.browser.test_every_page import NAMES, opened
from tests.browser.watching import settle

__all__ = ["browser"]  # fixture
pytestmark = pytest.mark.browser
RUNS = 750
CELL = "[data-testid=stDataFrame] canvas tr[aria-rowindex='{}'] td[aria-colindex='{}']"
"""Tables are drawn on a canvas, and written inside it for screen readers; the heading is row 1."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of many runs."""
    if given := os.environ.get("HARNESS_TEST_BOARD"):
        return Path(given).resolve(strict=True)
    root = tmp_path_factory.mktemp("large")
    write(root, RUNS, datasets=1)
    with open_store(root / "results.db") as store:
        collect(root, store, patience_s=0)
    return root / "results.db"


@pytest.fixture(scope="module")
def rows(database: Path) -> pd.DataFrame:
    """The rows that the board opens with, best first."""
    with open_store(database, readonly=True) as store:
        dataset = source.most_runs_first(queries.rows_in_brief(store), "dataset")[0]
        return brief(store, {"dataset": [dataset]}, also=("delta",))


@pytest.fixture(scope="module")
def address(database: Path) -> Iterator[str]:
    """The board's address."""
    with served(database.parent, database) as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A window on the leaderboard in which nothing goes wrong."""
    found, wrong = opened(browser)
    found.goto(address)
    found.get_by_text("Choose a row of the table").wait_for()
    settle(found)
    yield found
    assert found.get_by_test_id("stException").count() == 0
    found.context.close()
    assert wrong == []


def shown(page: Any, row: int, heading: str) -> str:
    """What a row of the leaderboard shows below a heading."""
    page.locator(CELL.format(row + 2, 1)).first.wait_for(state="attached")
    headings = page.locator("[data-testid=stDataFrame] canvas th").all_text_contents()
    return str(page.locator(CELL.format(row + 2, headings.index(heading) + 1)).first.text_content())


def choose(page: Any, label: str, option: str) -> None:
    """Choose an option of a widget in the sidebar."""
    box = page.get_by_test_id("stSidebar").get_by_role("combobox", name=label)
    box.click()
    box.fill(option)
    page.get_by_role("option").filter(has_text=re.compile(rf"^{re.escape(option)}$")).click()
    page.keyboard.press("Escape")


def counts(page: Any, rows: int) -> None:
    """Wait until the page says that it shows so many rows."""
    metric = page.get_by_test_id("stMetric").filter(has=page.get_by_text("rows", exact=True))
    metric.get_by_test_id("stMetricValue").get_by_text(str(rows), exact=True).wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (800, "dark"), (390, "light")])
def test_every_page_shows_it(browser: Any, address: str, rows: pd.DataFrame, width: int, scheme: str) -> None:
    students = rows[rows["method"] != "teacher"]
    first, second = students["row"].iloc[:2]
    words = {"classes": f"?row={first}", "tradeoff": f"?row={first}", "compare": f"?side={first}&side={second}"}
    page, wrong = opened(browser, width, scheme)
    for name in NAMES:
        page.goto(f"{address}/{name}{words.get(name, '')}")
        page.get_by_role("heading").first.wait_for()
        if name in ("tradeoff", "strides", "classes", "compare"):
            page.locator(CHARTS).first.wait_for()
        settle(page)
        assert page.get_by_test_id("stException").count() == 0, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    ground = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    page.context.close()
    assert wrong == []


def test_filters_and_their_link(page: Any, browser: Any, rows: pd.DataFrame) -> None:
    counts(page, len(rows))
    student = rows.loc[rows["method"].eq("ka"), "student"].iloc[0]
    choose(page, "Methods", "ka")
    wait_for(page, method=["ka"])
    choose(page, "Students", student)
    wait_for(page, method=["ka"], student=[student])
    expected = int((rows["method"].eq("ka") & rows["student"].eq(student)).sum())
    counts(page, expected)
    assert shown(page, 0, "method") == "ka"
    other, wrong = opened(browser)
    other.goto(page.evaluate("location.href"))
    other.get_by_text("Choose a row of the table").wait_for()
    settle(other)
    assert said(other) == said(page) == {"method": ["ka"], "student": [student]}
    counts(other, expected)
    other.context.close()
    page.go_back()
    page.wait_for_function("!new URLSearchParams(location.search).has('student')")
    counts(page, int(rows["method"].eq("ka").sum()))
    assert wrong == []


def test_sorting_and_leafing(page: Any, rows: pd.DataFrame) -> None:
    gains, upwards = "Δ none [points]", 100 * rows["delta"].sort_values()

    def begins_with(gain: float) -> None:
        text = re.compile("^" + ("-Infinity" if pd.isna(gain) else re.escape(str(gain)[:6])))
        cells = page.locator("[data-testid=stDataFrame] canvas tr[aria-rowindex='2'] td")
        cells.filter(has_text=text).first.wait_for(state="attached")

    choose(page, "Sort by", gains)
    wait_for(page, sort=["delta"])
    begins_with(upwards.max())
    page.get_by_test_id("stSidebar").get_by_text("in reverse").click()
    wait_for(page, sort=["delta"], reverse=["yes"])
    begins_with(upwards.iloc[0])
    pages = -(-len(rows) // source.PAGE)
    number = page.get_by_role("spinbutton", name=f"Page, of {pages}")
    number.fill(str(pages))
    number.press("Enter")
    wait_for(page, page=[str(pages)])
    begins_with(upwards.iloc[source.PAGE * (pages - 1)])
    page.go_back()
    wait_for(page, page=[])
    begins_with(upwards.iloc[0])


def test_groups_choosing_in_them_and_all_of_one(page: Any, rows: pd.DataFrame) -> None:
    choose(page, "Group by", "stride")
    wait_for(page, group=["stride"])
    first, second = list(dict.fromkeys(rows["stride"]))[:2]
    page.get_by_role("heading", name=f"stride {second}").wait_for()
    settle(page)
    table = page.get_by_test_id("stDataFrame").nth(1)
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 52)
    row = rows[rows["stride"] == second].iloc[0]
    wait_for(page, group=["stride"], row=[row["row"]])
    told = page.get_by_role("heading", name=f"@{second}").first
    told.wait_for()
    assert (
        table.bounding_box()["y"] < told.bounding_box()["y"] < page.get_by_text("Download as CSV").bounding_box()["y"]
    )
    count = int((rows["stride"] == first).sum())
    page.get_by_role("button", name=f"All {count} rows of stride {first}").click()
    page.get_by_role("button", name="All groups").wait_for()
    wait_for(page, group=["stride"], row=[row["row"]], only=[str(first)])
    page.go_back()
    wait_for(page, group=["stride"], row=[row["row"]])
    page.get_by_role("heading", name=f"stride {second}").wait_for()


def test_choosing_comparing_and_back(page: Any, rows: pd.DataFrame) -> None:
    choose(page, "Methods", "kd")
    wait_for(page, method=["kd"])
    kd = list(rows.loc[rows["method"].eq("kd"), "row"].iloc[:2])
    click_row(page, 0)
    wait_for(page, row=kd[:1])
    page.get_by_role("heading", name="IoU by class").wait_for()
    page.get_by_text("harness sweep --methods kd").wait_for()
    details = page.get_by_role("heading", name="kd ·").bounding_box()
    assert details["y"] + details["height"] - 16 <= page.viewport_size["height"]  # less the space below it
    click_row(page, 1)
    wait_for(page, row=kd)
    page.get_by_role("link", name="Compare these 2 rows").click()
    page.get_by_text(re.compile("Differences of mIoU")).first.wait_for()
    wait_for(page, side=kd)
    page.go_back()
    page.get_by_role("link", name="Compare these 2 rows").wait_for()
    wait_for(page, row=kd)
    counts(page, int(rows["method"].eq("kd").sum()))


def test_the_download_has_every_row_that_fits_the_filters(page: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    choose(page, "Methods", "none")
    wait_for(page, method=["none"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    download.value.save_as(tmp_path / "board.csv")
    found = pd.read_csv(tmp_path / "board.csv")
    assert list(found["row"]) == list(rows.loc[rows["method"].eq("none"), "row"])


def test_a_run_is_found_by_a_text(page: Any, address: str, database: Path) -> None:
    with open_store(database, readonly=True) as store:
        total, there = queries.count_runs(store), queries.count_runs(store, search="node7")
    page.goto(f"{address}/runs")
    page.get_by_text(f"{total} finished stages").wait_for()
    search = page.get_by_test_id("stSidebar").get_by_role("textbox", name="Search")
    search.fill("node7")
    search.press("Enter")
    page.get_by_text(f"{there} finished stages").wait_for()
    settle(page)
    click_row(page, 0)
    page.get_by_role("link", name="Open this run alone").click()
    page.get_by_role("heading", name="Environment").wait_for()
    assert 0 < there < total
