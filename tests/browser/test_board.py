"""The board in a real browser: Chromium, driven by Playwright, on a server that `harness dashboard` would start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards import tables
from harness.cli.dashboard import command
from results.ingest import collect
from results.leaderboard import leaderboard
from results.statistics import IMAGES_ONLY
from results.store import open_store
from tests.browser.watching import settle
from tests.results.factory import Fake, sweep, write_all

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
CHARTS = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
PATIENCE_MS = 180_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a sweep of three seeds."""
    found = tmp_path_factory.mktemp("board")
    with open_store(found / "results.db") as store:
        collect(write_all(found, sweep(("none", "kd", "ka"), (8, 16, 32), images=4), samples=2), store)
    return found


@pytest.fixture(scope="module")
def board(root: Path) -> pd.DataFrame:
    """Its leaderboard."""
    with open_store(root / "results.db", readonly=True) as store:
        return leaderboard(store)


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """The board's address."""
    with served(root) as found:
        yield found


@contextmanager
def served(root: Path, database: Path | None = None) -> Iterator[str]:
    """The board over a workspace and, if it is another than its own, a database; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"HARNESS_WORKSPACE": str(root), "HARNESS_DB": str(database or root / "results.db")}
    process = subprocess.Popen(command("127.0.0.1", port), env=os.environ | place, cwd=root)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium fonts-liberation")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A tall page on the board; errors in its console fail the test."""
    opened = browser.new_page(viewport={"width": 1500, "height": 2300})
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(address)
    opened.get_by_role("heading", name="Leaderboard").wait_for()
    yield opened
    opened.close()
    assert errors == []


def test_leaderboard_is_drawn_and_a_click_shows_the_run(page: Any, tmp_path: Path) -> None:
    table = page.get_by_test_id("stDataFrame").first
    table.locator("canvas").first.wait_for()
    page.get_by_text("Choose a row of the table").wait_for()
    settle(page)
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 35 + 17)  # the box in front of the second row
    page.get_by_role("heading", name="IoU by class").wait_for()
    page.get_by_text("harness sweep --methods ka").wait_for()
    page.get_by_role("heading", name="Sample predictions").wait_for()
    page.wait_for_function("[...document.querySelectorAll('[data-testid=stImage] img')].some(i => i.naturalWidth > 0)")
    picture = tmp_path / "leaderboard.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 50_000


def test_the_page_asks_nobody_but_its_own_server(browser: Any, tmp_path: Path) -> None:
    """Names in records that are Markdown pictures, HTML and addresses; and Streamlit's own icons."""
    hostile = "ka[![x](http://evil.invalid/a.png)<img src=http://evil.invalid/b.png>http://evil.invalid/c"
    fakes = [
        Fake(name, seed=s, images=3, recipe=hostile, dataset=hostile) for name in ("none", hostile) for s in (0, 1)
    ]
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, fakes, samples=1), store)
        row = leaderboard(store)["row"].iloc[0]
    asked: list[str] = []
    with served(tmp_path) as address:
        for place in (f"?row={row}", "tradeoff", "strides", "classes", "reported", "runs"):
            opened = browser.new_page(viewport={"width": 1500, "height": 2300})
            opened.set_default_timeout(PATIENCE_MS)
            opened.on("request", lambda request: asked.append(request.url))
            opened.goto(f"{address}/{place}")
            opened.get_by_role("heading").first.wait_for()
            if place.startswith("?"):
                opened.locator(CHARTS).first.wait_for()
                opened.get_by_role("heading", name="Sample predictions").wait_for()
            opened.wait_for_load_state("networkidle")
            opened.close()
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == [] and len(asked) > 20


def test_no_column_is_narrower_than_its_numbers(page: Any, board: pd.DataFrame) -> None:
    """Measured in the browser, in the font that the table is drawn in."""
    page.get_by_test_id("stDataFrame").first.locator("canvas").first.wait_for()
    page.wait_for_function("document.fonts.status === 'loaded'")
    measure = """([texts, font]) => { const c = document.createElement('canvas').getContext('2d'); c.font = font;
        return Math.max(...texts.map(t => c.measureText(t).width)); }"""
    family = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).fontFamily")
    padding = 16
    # Intervals of one seed, below ten and below zero: the longest that a number can be.
    odd = board.assign(delta=-0.101, delta_low=-0.123, delta_high=-0.1, delta_basis=IMAGES_ONLY)
    for frame in (board, odd):
        texts = tables.board_texts(frame)
        for column, cells in texts.items():
            width = tables.board_fit(texts).widths[column.title]
            drawn = page.evaluate(measure, [[column.title, *cells], f"14px {family}"])
            assert drawn + padding <= width, column.name


def test_other_pages_open(page: Any) -> None:
    page.get_by_role("link", name="Reported").click()
    page.get_by_text("none was measured by us").wait_for()
    page.get_by_role("link", name="Runs").click()
    page.get_by_text("28 finished stages").wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_only_this_machine_is_listened_to(address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            outside = probe.getsockname()[0]
        except OSError:
            outside = "127.0.0.1"
    if outside.startswith("127."):
        pytest.skip("this machine has no address but its own")
    with socket.socket() as probe:
        probe.settimeout(5)
        assert probe.connect_ex((outside, port)) != 0
