"""The board in a real browser: Chromium, driven by Playwright, on a server that `harness dashboard` would start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.dashboard import command
from results.ingest import collect
from results.store import open_store
from tests.results.factory import sweep, write_all

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
CHARTS = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
PATIENCE_MS = 180_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The board's address, over a sweep of three seeds."""
    root = tmp_path_factory.mktemp("board")
    with open_store(root / "results.db") as store:
        collect(write_all(root, sweep(("none", "kd", "ka"), (8, 16, 32), images=4), samples=2), store)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"HARNESS_WORKSPACE": str(root), "HARNESS_DB": str(root / "results.db")}
    process = subprocess.Popen(command("127.0.0.1", port, True), env=os.environ | place, cwd=root)
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
    page.locator(CHARTS).nth(1).wait_for()
    page.get_by_text("Choose a row of the table").wait_for()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 35 + 17)  # the box in front of the second row
    page.get_by_role("heading", name="IoU by class").wait_for()
    page.get_by_text("harness sweep --methods ka").wait_for()
    page.get_by_role("heading", name="Sample predictions").wait_for()
    page.wait_for_function("[...document.querySelectorAll('[data-testid=stImage] img')].some(i => i.naturalWidth > 0)")
    picture = tmp_path / "leaderboard.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 50_000


def test_other_pages_open(page: Any) -> None:
    page.locator(CHARTS).nth(1).wait_for()
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
