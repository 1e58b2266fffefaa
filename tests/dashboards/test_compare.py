"""The page Compare: two to six runs or rows by its address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import comparison, figures
from results.ingest import collect
from results.leaderboard import leaderboard
from results.store import open_store
from tests.dashboards import conftest
from tests.dashboards.conftest import look_at
from tests.dashboards.test_pages import texts
from tests.results.factory import Fake, write_all

TEACHER = Fake("teacher", 8, images=6)
RUNS = {
    method: [Fake(method, seed=seed, images=6, teacher_key=TEACHER.key) for seed in (0, 1, 2)]
    for method in ("none", "ka", "kd")
}
ELSEWHERE = [Fake("none", dataset="camvid", manifest="data-2", images=6)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A workspace with pictures and curves, which tests only read; method -> key of its row."""
    root = tmp_path_factory.mktemp("swept")
    fakes = [TEACHER, *(fake for some in RUNS.values() for fake in some), *ELSEWHERE]
    with open_store(root / "results.db") as store:
        collect(write_all(root, fakes, samples=3), store)
        board = leaderboard(store, {"dataset": ["shapes"]})
    for fake in RUNS["none"] + RUNS["ka"]:
        attempt = root / "stages" / fake.key / "attempts" / "1"
        attempt.mkdir(parents=True)
        events = [{"event": "progress", "iteration": n, "loss": 1.0 / n, "terms": {"ce": 1.0 / n}} for n in (1, 2, 3)]
        (attempt / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return root, dict(zip(board["method"], board["row"], strict=True))


@pytest.fixture
def rows(swept: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Method -> key of its row, in that workspace, named in the environment."""
    look_at(swept[0], monkeypatch)
    return swept[1]


def page(*sides: str, **address: Any) -> AppTest:
    return conftest.page("compare", side=list(sides), **address)


def frames(app: AppTest) -> list[pd.DataFrame]:
    return [frame.value for frame in app.dataframe]


def test_rows_are_compared(rows: dict[str, str]) -> None:
    app = page(rows["none"], rows["ka"], rows["kd"])
    scores, gaps, differing, images = frames(app)
    assert scores["seeds"].tolist() == ["0, 1, 2"] * 3 and len(gaps) == 3
    assert gaps["A is"].iloc[0] == "better" and "paired over 3 seeds" in gaps["rests on"].iloc[0]
    assert len(images) == 6 and images["difference"].is_monotonic_decreasing
    labels = [label for label in differing.columns if label not in ("of", "what")]
    assert [label.split()[0] for label in labels] == ["none", "ka", "kd"]
    headings = [one.value for one in app.subheader]
    assert headings == [
        "Differences of mIoU", "What differs", "IoU by class", "Images on which they differ most", "Curves",
    ]  # fmt: skip


def test_pictures_of_all_sides_the_teacher_and_who_is_right(rows: dict[str, str]) -> None:
    app = page(rows["none"], rows["ka"])
    captions = [caption for picture in app.get("image") for caption in picture.captions]
    assert len(captions) == 3 * 6
    assert [word.split()[0] for word in captions[:6]] == ["image", "labels", "teacher", "none", "ka", "who"]
    assert "blue where ka" in texts(app)


def test_two_runs_by_words_and_by_key(rows: dict[str, str]) -> None:
    app = page("none @16 seed=1", RUNS["ka"][1].key[:10])
    scores, gaps, *_ = frames(app)
    assert scores["seeds"].tolist() == ["1", "1"] and gaps["A is"].tolist() == ["one seed: images only"]


def test_sides_are_added_and_taken_off(rows: dict[str, str]) -> None:
    app = page(rows["none"])
    assert "Tick two to six rows" in texts(app)
    app.sidebar.text_input[0].set_value("ka @16").run()
    assert not app.exception and app.query_params["side"] == [rows["none"], "ka @16"]
    assert len(frames(app)[0]) == 2
    app.sidebar.multiselect[0].unselect("ka @16").run()
    assert app.query_params["side"] == rows["none"] and "Tick two to six rows" in texts(app)


def test_methods_are_compared_over_all_settings_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("HARNESS_DB", str(tmp_path / "results.db"))
    fakes = [Fake(m, stride, s, images=3) for m in ("none", "ka") for stride in (8, 16) for s in (0, 1, 2)]
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, fakes), store)
    app = page("none @8", "ka @8")
    shown = next(one.value for one in app.dataframe if "settings" in one.value)
    assert list(shown["A"]) == ["ka"] and list(shown["settings"]) == [2] and list(shown["A is"]) == ["better"]
    assert "Their methods over all settings" in texts(app)
    assert "Their methods over all settings" not in texts(page("ka @8", "ka @16"))


def test_what_cannot_be_compared_is_said(rows: dict[str, str]) -> None:
    assert "nothing is called" in texts(page(rows["none"], "<img src=x>")).replace("\\", "")
    unlike = page(rows["none"], ELSEWHERE[0].key)
    assert frames(unlike)[1]["A is"].tolist() == ["not evaluated on the same data set"]
    assert "Their images were not kept, or are not the same." in texts(unlike)


def test_nothing_to_compare_in_an_empty_workspace(workspace: Path) -> None:
    assert "there is no database" in texts(page("a", "b"))


def test_the_images_of_both_ways_are_told_apart() -> None:
    gaps = {"a": 0.3, "b": -0.2, "c": 0.1, "d": float("nan"), "e": -0.4, "f": 0.2}
    assert comparison.both_ways(gaps, 2) == (["a", "f"], ["e", "b"])
    assert comparison.both_ways({"a": 0.1}, 3) == (["a"], [])


def test_short_labels_tell_sides_apart() -> None:
    assert comparison.short(["none a@8 seed 0", "ka a@8 seed 0"]) == ["none", "ka"]
    assert comparison.short(["ka a@8", "ka a@16"]) == ["@8", "@16"]
    assert comparison.short(["ka a", "ka a b"]) == ["ka a", "ka a b"]


def test_a_method_has_its_own_colour_where_methods_differ(rows: dict[str, str]) -> None:
    from dashboards import source

    look = figures.looks(source.rows_in_brief())
    found = source.comparison([rows["none"], rows["ka"]], "miou").sides
    assert list(comparison.colours(found, look).values()) == [look.colours["none"], look.colours["ka"]]
    same = source.comparison([RUNS["ka"][0].key, RUNS["ka"][1].key], "miou").sides
    assert len(set(comparison.colours(same, look).values())) == 2
