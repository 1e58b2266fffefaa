"""Pages Compare, Run and Sweeps in a real browser: three clicks to a comparison, its link, and what moves by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.workspace.files import write_json
from harness.workspace.folders import AttemptFolder, Workspace
from results.ingest import collect
from results.store import open_store
from tests.browser.test_address import click_row, said, wait_for
from tests.browser.test_board import CHARTS, PATIENCE_MS, address, board, browser, page
from tests.results.factory import sweep, write_all

__all__ = ["address", "board", "browser", "page"]  # fixtures
pytestmark = pytest.mark.browser
RUNNING = "a" * 20


def progress(iteration: int) -> str:
    said = {"iteration": iteration, "iterations": 100, "loss": 5 / iteration, "terms": {"ce": 1 / iteration}, "lr": 0.1}
    return json.dumps({"event": "progress", **said, "step_ms": 10.0, "eta_s": 100.0 - iteration}) + "\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a sweep of three seeds, pictures and curves, and a stage that is being trained."""
    found = tmp_path_factory.mktemp("board")
    fakes = sweep(("none", "ka"), (8, 16), images=4)
    with open_store(found / "results.db") as store:
        collect(write_all(found, fakes, samples=2), store)
    for fake in fakes:
        attempt = AttemptFolder(found / "stages" / fake.key / "attempts" / "1")
        attempt.path.mkdir(parents=True)
        attempt.events.write_text("".join(map(progress, range(1, 30))))
    workspace = Workspace(found)
    attempt = workspace.stage(RUNNING).new_attempt()
    attempt.begin()
    attempt.events.write_text("".join(map(progress, range(1, 11))))
    write_json(workspace.stage(RUNNING).job_file, {"name": "kd a@16 seed 0"})
    stages = [{"key": fake.key, "name": f"done {fake.key[:4]}", "kind": "student", "parents": []} for fake in fakes]
    stages.append({"key": RUNNING, "name": "kd a@16 seed 0", "kind": "student", "parents": []})
    write_json(workspace.sweeps / "s1.json", {"id": "s1", "command": "harness sweep", "stages": stages})
    return found


def test_two_rows_are_compared_in_three_clicks_and_the_link_shows_the_same(
    page: Any, browser: Any, board: pd.DataFrame
) -> None:
    page.get_by_text("Choose a row of the table").wait_for()
    click_row(page, 1)
    wait_for(page, row=[board["row"].iloc[1]])
    click_row(page, 2)
    wait_for(page, row=list(board["row"].iloc[1:3]))
    page.get_by_role("link", name="Compare these 2 rows").click()
    page.get_by_role("heading", name="Images on which they differ most").wait_for()
    page.locator(CHARTS).nth(4).wait_for()
    page.get_by_text("terms times their weights").click()
    wait_for(page, side=list(board["row"].iloc[1:3]), weighted=["yes"])
    page.wait_for_function("[...document.querySelectorAll('[data-testid=stImage] img')].some(i => i.naturalWidth > 0)")
    other = browser.new_context(viewport={"width": 390, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(page.evaluate("location.href"))
    other.get_by_role("heading", name="Curves").wait_for()
    other.locator(CHARTS).nth(4).wait_for()
    assert said(other) == said(page)
    assert other.evaluate("document.documentElement.scrollWidth") == 390
    other.context.close()
    page.go_back()
    page.wait_for_function("!location.search.includes('weighted')")
    page.go_back()
    page.get_by_role("link", name="Compare these 2 rows").wait_for()
    wait_for(page, row=list(board["row"].iloc[1:3]))


def test_a_run_and_its_sweep_move_while_it_trains(page: Any, address: str, root: Path) -> None:
    attempt = Workspace(root).stage(RUNNING).last_attempt()
    assert attempt is not None
    attempt.beat()
    page.goto(f"{address}/run?run={RUNNING}&smooth=50")
    page.get_by_text("10 of 100 iterations").wait_for()
    with attempt.events.open("a") as file:
        file.write(progress(20))
    page.get_by_text("20 of 100 iterations, 80 s left").wait_for()
    attempt.beat()
    page.goto(f"{address}/sweeps")
    page.get_by_text("1 running, 13 done; the longest that runs now has 80 s left").wait_for()
    attempt.end("failed", "the loss is nan at iteration 21")
    page.get_by_text("the loss is nan at iteration 21").first.wait_for()
    page.get_by_text("Nothing runs now.").wait_for()
    assert page.get_by_test_id("stException").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_pages_fit(browser: Any, address: str, board: pd.DataFrame, scheme: Any) -> None:
    sides = "&".join(f"side={row}" for row in board["row"].iloc[1:3])
    opened = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme).new_page()
    opened.set_default_timeout(PATIENCE_MS)
    for place, heading in (
        (f"compare?{sides}", "Curves"),
        (f"run?run={board['keys'].iloc[0].split(',')[0]}", "Sample predictions"),
        ("sweeps", "Sweep s1"),
    ):
        opened.goto(f"{address}/{place}")
        opened.get_by_role("heading", name=heading).wait_for()
        assert opened.get_by_test_id("stException").count() == 0
        assert opened.evaluate("document.documentElement.scrollWidth") == 390, place
    ground = opened.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    opened.context.close()
