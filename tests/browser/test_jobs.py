"""What people come to the board for: every job is done in Chromium from the front page, and its clicks are counted."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.workspace.files import write_json
from harness.workspace.folders import AttemptFolder, Workspace
from results.ingest import collect
from results.store import open_store
from tests.browser.test_address import said, wait_for
from tests.browser.test_board import CHARTS, PATIENCE_MS, address, board, browser
from tests.browser.watching import settle, watch
from tests.results.factory import Fake, sweep, write_all

__all__ = ["address", "board", "browser"]  # fixtures
pytestmark = pytest.mark.browser
MOST = 3
TERMS = {"ka": {"adapt": 50.0, "affinity": 1.0}, "ka-affinity": {"adapt": 50.0}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of three methods at three strides and of `ka` without a term, with pictures, curves and a sweep."""
    found = tmp_path_factory.mktemp("jobs")
    fakes = sweep(("none", "kd", "ka"), (8, 16, 32), images=6)
    fakes += [Fake("ka-affinity", 16, seed, images=6, teacher_key=fakes[0].key) for seed in (0, 1, 2)]
    write_all(found, fakes, samples=2)
    for fake in fakes:
        _say_terms(found / "stages" / fake.key / "record.json", TERMS.get(fake.method))
        attempt = AttemptFolder(found / "stages" / fake.key / "attempts" / "1")
        attempt.path.mkdir(parents=True)
        points = [{"event": "progress", "iteration": n, "loss": 5 / n, "terms": {"ce": 1 / n}} for n in range(1, 30)]
        attempt.events.write_text("".join(json.dumps(point) + "\n" for point in points))
    waiting = {"key": "a" * 20, "name": "kd a@16 seed 0", "kind": "student", "parents": []}
    stages = [{"key": fake.key, "name": fake.method, "kind": "student", "parents": []} for fake in fakes]
    write_json(
        Workspace(found).sweeps / "s1.json", {"id": "s1", "command": "harness sweep", "stages": [*stages, waiting]}
    )
    with open_store(found / "results.db") as store:
        collect(found, store)
    return found


def _say_terms(file: Path, weights: dict[str, float] | None) -> None:
    """The terms of a method in its record, as a worker writes them."""
    if weights:
        record = json.loads(file.read_text())
        record["spec"]["method"]["parts"] = [{"name": "ka", "version": 1, "weights": weights}]
        file.write_text(json.dumps(record))


@dataclass
class Visitor:
    """Somebody on the front page who clicks and types."""

    page: Any
    clicks: int = 0

    def click(self, target: Any) -> None:
        """Click what can be seen, once the page is drawn."""
        settle(self.page)
        self.clicks += 1
        target.click()

    def row(self, number: int, x: int = 18) -> None:
        """Click into a row of the first table, by default on the box in front of it."""
        table = self.page.get_by_test_id("stDataFrame").first
        table.locator("canvas").first.wait_for()
        settle(self.page)
        box = table.bounding_box()
        self.clicks += 1
        self.page.mouse.click(box["x"] + x, box["y"] + 35 * number + 52)

    def sees(self, text: str | re.Pattern[str]) -> None:
        """Wait for words on the page."""
        self.page.get_by_test_id("stMain").get_by_text(text).first.wait_for()


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Visitor]:
    """On the front page, with a window of usual size; nothing goes wrong, and the job takes three clicks at most."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    wrong = watch(page)
    page.goto(address)
    page.get_by_text("Choose a row of the table").wait_for()
    found = Visitor(page)
    yield found
    settle(page)
    assert page.get_by_test_id("stException").count() == 0
    page.close()
    assert wrong == []
    assert found.clicks <= MOST


def test_which_is_best_at_my_stride_and_how_sure(visitor: Visitor) -> None:
    sidebar = visitor.page.get_by_test_id("stSidebar")
    visitor.click(sidebar.get_by_role("combobox", name="Output strides"))
    visitor.click(visitor.page.get_by_role("option", name="16"))
    visitor.sees("best student: ka @16")
    visitor.sees(re.compile(r"Best: ka @16, \d+\.\d ± \d+\.\d %"))


def test_does_stride_16_with_ka_match_stride_8_without_and_at_what_share(visitor: Visitor, board: pd.DataFrame) -> None:
    rows = {f"{row.method}@{row.stride}": place for place, row in enumerate(board.itertuples())}
    visitor.row(rows["none@8"])
    wait_for(visitor.page, row=[board["row"].iloc[rows["none@8"]]])
    visitor.row(rows["ka@16"])
    visitor.click(visitor.page.get_by_role("link", name="Compare these 2 rows"))
    visitor.sees(re.compile(r"ka .*@16 costs 32 % of the multiply-adds of none .*@8"))
    visitor.sees("Differences of mIoU")


def test_what_stride_does_a_method_buy(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("link", name="Strides"))
    visitor.sees(re.compile(r"ka at stride \d+ .* none at stride \d+ \(.* points\), at \d+ % of its MACs"))


def test_compare_two_runs(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("link", name="Runs"))
    visitor.sees("finished stages, newest first")
    visitor.row(0)
    visitor.page.get_by_role("link", name="Open this run alone").wait_for()
    visitor.row(1)
    visitor.sees("Differences of mIoU")
    visitor.sees("What differs")


def test_ablation(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("link", name="Ablation"))
    visitor.page.locator(CHARTS).first.wait_for()
    visitor.sees("gain over none")


def test_watch_a_sweep(visitor: Visitor) -> None:
    visitor.click(visitor.page.get_by_role("link", name="Sweeps"))
    visitor.sees("1 waiting, 31 done")


def test_pictures_side_by_side(visitor: Visitor, board: pd.DataFrame) -> None:
    visitor.row(1)
    wait_for(visitor.page, row=[board["row"].iloc[1]])
    visitor.row(2)
    visitor.click(visitor.page.get_by_role("link", name="Compare these 2 rows"))
    visitor.sees("who is right")
    visitor.page.wait_for_function(
        "[...document.querySelectorAll('[data-testid=stImage] img')].filter(i => i.naturalWidth > 0).length >= 5"
    )


def test_curves(visitor: Visitor) -> None:
    visitor.row(1)
    visitor.click(visitor.page.get_by_role("link", name="Curves of seed 0"))
    visitor.page.get_by_role("heading", name="Curves").wait_for()
    visitor.page.locator(CHARTS).nth(1).wait_for()


def test_export(visitor: Visitor, board: pd.DataFrame) -> None:
    with visitor.page.expect_download() as download:
        visitor.click(visitor.page.get_by_role("button", name="Download as CSV"))
    with Path(download.value.path()).open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(board)


def test_share(visitor: Visitor, browser: Any, board: pd.DataFrame) -> None:
    visitor.row(1)
    wait_for(visitor.page, row=[board["row"].iloc[1]])
    other = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE_MS)
    other.goto(visitor.page.evaluate("location.href"))
    other.get_by_text("Make it again:").wait_for()
    assert said(other) == said(visitor.page) == {"row": [board["row"].iloc[1]]}
    other.context.close()


def test_under_two_gmacs(visitor: Visitor) -> None:
    sidebar = visitor.page.get_by_test_id("stSidebar")
    visitor.click(sidebar.get_by_text("Budget"))
    limit = sidebar.get_by_role("textbox", name="GMACs at most")
    visitor.click(limit)
    limit.fill("2")
    limit.press("Enter")
    visitor.sees("best student: ka @32")


def test_cheapest_within_a_point_of_the_best(visitor: Visitor) -> None:
    visitor.sees(re.compile("Cheapest within a point of it|No cheaper row is within a point of it"))
    assert visitor.clicks == 0
