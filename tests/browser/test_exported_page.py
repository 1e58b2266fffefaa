"""The board as one file, in a real browser without a network: it sorts, filters, draws, and asks for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.ingest import collect
from results.leaderboard import leaderboard
from results.page import as_html
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep in which one name is hostile."""
    root = tmp_path_factory.mktemp("page")
    fakes = [*sweep(("none", "kd", "ka"), (8, 16, 32), images=4), Fake(EVIL, 8, images=4)]
    with open_store(root / "results.db") as store:
        collect(write_all(root, fakes, samples=2), store)
        (root / "board.html").write_text(as_html(store, leaderboard(store), 1, root))
    return root / "board.html"


@pytest.fixture
def page(file: Path) -> Iterator[Any]:
    """The page, opened from the disk; nothing went wrong in it, and nothing was asked for."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_context(offline=True, viewport={"width": 1400, "height": 900}).new_page()
        wrong: list[str] = []
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        opened.on("request", lambda asked: wrong.append(asked.url) if asked.url[:5] not in ("file:", "data:") else None)
        opened.goto(file.as_uri())
        yield opened
        assert not wrong
        browser.close()


def column(page: Any, place: int) -> list[str]:
    """What a column shows, in the rows that are not filtered out."""
    found: list[str] = page.locator(f".row:visible > td:nth-child({place})").all_inner_texts()
    return found


def place_of(page: Any, heading: str) -> int:
    return [text.strip() for text in page.locator("thead th").all_inner_texts()].index(heading) + 1


def test_it_draws_and_no_name_runs(page: Any) -> None:
    page.locator(".chart .marks").nth(2).wait_for(timeout=60_000)
    assert page.locator(".chart").count() == page.locator(".chart .marks").count() >= 3
    assert page.title() == "Segmentation distillation" and EVIL in column(page, place_of(page, "method"))
    assert page.locator(".pictures img").count() >= 3
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_sorts_by_numbers_with_the_unknown_last(page: Any) -> None:
    page.get_by_role("button", name="Δ none [points]").click()
    place = place_of(page, "Δ none [points]")
    shown = column(page, place)
    values = [float(text.split()[0]) for text in shown if text]
    assert values == sorted(values, reverse=True) and shown[len(values) :] == [""] * (len(shown) - len(values))
    page.get_by_role("button", name="Δ none [points]").click()
    again = column(page, place)
    assert [text for text in again if text] and not again[-1]
    values = [float(text.split()[0]) for text in again if text]
    assert values == sorted(values)
    page.get_by_role("button", name="method", exact=True).click()
    names = column(page, place_of(page, "method"))
    assert names.index("ka") < names.index("none")


def test_it_filters_by_text_and_by_number(page: Any) -> None:
    everything = len(column(page, 1))
    page.get_by_label("filter method").fill("KA")
    page.get_by_label("filter stride").fill(">= 16")
    assert set(column(page, place_of(page, "method"))) == {"ka"}
    assert sorted(column(page, place_of(page, "stride"))) == ["16", "32"]
    assert f"2 of {everything} rows." in page.locator(".count").inner_text()
    page.get_by_label("filter stride").fill("many")
    assert "wrong" in page.get_by_label("filter stride").get_attribute("class") and len(column(page, 1)) == 3


def test_a_row_shows_the_command_that_makes_it_again(page: Any) -> None:
    more = page.locator(".more").first
    assert not more.is_visible()
    page.locator(".row").first.click()
    assert "harness sweep" in more.inner_text()
    page.locator(".row").first.press("Enter")
    assert not more.is_visible()
