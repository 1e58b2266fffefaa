"""The pages made of figures: Trade-off, Strides, Lengths, Classes, Ablation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from harness.workspace.folders import Workspace
from harness.workspace.hidden import hide
from results import queries
from results.ingest import collect
from results.leaderboard import leaderboard
from results.metrics import STATE_METRICS
from results.store import open_store
from tests.dashboards.conftest import look_at, page
from tests.results.factory import Fake, add_outlines, sweep, write_all

NAMES = ("tradeoff", "strides", "lengths", "classes", "ablation")
KA = {"ka": {"adapt": 50.0, "affinity": 1.0}, "ka-affinity": {"adapt": 50.0}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a sweep in it, and `ka` without a term at one stride, which tests only read."""
    workspace = tmp_path_factory.mktemp("swept")
    fakes = sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=4)
    fakes += [Fake("ka-affinity", 16, seed, images=4, teacher_key=fakes[0].key) for seed in (0, 1, 2)]
    fakes += [Fake("none", 16, 0, "timm:mobilenetv2_100/aspp", images=4)]
    write_all(workspace, fakes)
    for fake in fakes:
        if fake.method in KA:
            file = workspace / "stages" / fake.key / "record.json"
            record = json.loads(file.read_text())
            record["spec"]["method"]["parts"] = [{"name": "ka", "weights": KA[fake.method]}]
            file.write_text(json.dumps(record))
    with open_store(workspace / "results.db") as store:
        collect(workspace, store)
    return workspace


@pytest.fixture
def filled(swept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, named in the environment."""
    return look_at(swept, monkeypatch)


def texts(app: AppTest) -> str:
    """All that the page says in words."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_database_a_page_says_what_to_do(workspace: Path, name: str) -> None:
    assert "harness sweep --methods" in texts(page(name))


def test_tradeoff(filled: Path) -> None:
    app = page("tradeoff")
    table = app.dataframe[0].value
    assert table.columns.tolist()[-1] == "frontier" and set(table["frontier"]) <= {"on the frontier", "perhaps"}
    said = texts(app)
    assert "Best\\: ka @8" in said and "Filled: on the frontier" in said
    assert len(app.get("vega_lite_chart")) == 1
    for cost, title in (("latency_ms", "latency [ms]"), ("training_s", "training [h]")):
        assert title in page("tradeoff", cost=cost).dataframe[0].value.columns


def test_a_budget_and_a_head_in_the_address(filled: Path) -> None:
    app = page("tradeoff", max_macs="3")
    assert set(app.dataframe[0].value["stride"]) == {"16"}
    assert "No row fits" in texts(page("tradeoff", max_macs="0.1"))
    assert "is no number" in texts(page("tradeoff", max_macs="three"))
    app = page("leaderboard", head="aspp")
    assert app.dataframe[0].value["method"].tolist() == ["teacher", "none"]
    assert "student timm" in texts(app) and "100/aspp · " in texts(app)
    assert set(page("leaderboard", head="linear", max_macs="3").dataframe[0].value["stride"]) == {16}


def test_a_clicked_row_says_what_it_is(filled: Path) -> None:
    row = str(page("leaderboard").dataframe[0].value["row"].iloc[1])
    said = texts(page("tradeoff", row=row))
    assert "**ka** · timm" in said and "harness sweep --methods ka" in said


def test_strides(filled: Path) -> None:
    app = page("strides")
    said = texts(app)
    assert "none at stride 8" in said and "of its MACs" in said and "Difference to `none`" in said
    assert len(app.get("vega_lite_chart")) == 2
    assert app.dataframe[0].value["method"].tolist() == ["ka", "ka-affinity", "kd"]
    assert "ka at stride" not in texts(page("strides", method="kd"))
    assert len(page("strides", over="macs").get("vega_lite_chart")) == 2
    assert "not training noise" not in texts(app)
    assert "over images alone: not training noise" in texts(page("strides", student="timm:mobilenetv2_100/aspp"))


def test_lengths(filled: Path) -> None:
    app = page("lengths", stride="16")
    said = texts(app)
    assert "One length of training so far" in said and "with 95 % intervals" in said
    assert len(app.get("vega_lite_chart")) == 1
    table = app.dataframe[0].value
    assert table["method"].tolist() == ["ka", "ka-affinity", "kd", "none"] and set(table["iterations"]) == {240}
    assert page("lengths", stride="16", method="kd").dataframe[0].value["method"].tolist() == ["kd", "none"]


def test_classes(filled: Path) -> None:
    app = page("classes")
    table = app.dataframe[0].value
    assert table["class"].tolist()[0] == "background" and table["Δ [points]"].notna().all()
    assert len(app.get("vega_lite_chart")) == 2
    assert page("classes", order="pixels").dataframe[0].value["pixels [%]"].is_monotonic_decreasing
    alone = page("classes", against="nothing")
    assert alone.dataframe[0].value["Δ [points]"].isna().all() and "Choose a row to compare with" in texts(alone)


def test_boundary_against_interior(workspace: Path) -> None:
    fakes = sweep(("none", "ka"), (8, 16), (0, 1), images=3)
    write_all(workspace, fakes)
    for fake in fakes[1:]:
        add_outlines(fake, workspace, list(STATE_METRICS)[: 1 if fake.stride == 8 else 2])
    with open_store(workspace / "results.db") as store:
        assert not collect(workspace, store).invalid
        rows = leaderboard(store).set_index(["method", "stride"])["row"]
    both = {"score": ["boundary_iou", "interior_iou"]}
    app = page("classes", row=rows["ka", 16], order="pixels", **both)
    table = app.dataframe[0].value
    assert {"boundary IoU [%]", "Δ boundary IoU", "interior IoU [%]", "Δ interior IoU"} < set(table.columns)
    assert table["Δ boundary IoU"].gt(0).all() and table.set_index("class").loc["pole"].isna().sum() == 2
    assert table["pixels [%]"].is_monotonic_decreasing and table["class"].iloc[0] != "pole"
    assert len(app.get("vega_lite_chart")) == 2 and "not all of these runs" not in texts(app)
    app = page("classes", row=rows["ka", 8], **both)  # of before there was interior IoU: boundary alone
    assert app.dataframe[0].value["score [%]"].notna().all()
    assert "interior IoU: not all of these runs" in texts(app) and "the link asks for “interior" in texts(app)
    app = page("classes", row=rows["ka", 16], against=rows["none", 8], **both)
    assert "The row compared with lacks interior IoU" in texts(app)
    table = app.dataframe[0].value
    assert table["Δ boundary IoU"].notna().all() and table["Δ interior IoU"].isna().all()


def test_ablation(filled: Path) -> None:
    app = page("ablation")
    table = app.dataframe[0].value
    assert table["row"].tolist() == ["none", "full", "without affinity, only adapt"]
    assert table["affinity"].tolist() == ["○", "●", "○"] and table["adapt"].tolist() == ["○", "●", "●"]
    assert table["gain over none"].str.startswith("+").sum() == 2 and len(app.get("vega_lite_chart")) == 1


def test_hidden_rows_are_left_out_of_every_figure(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = look_at(shutil.copytree(swept, tmp_path / "hiding"), monkeypatch)
    with open_store(root / "results.db", readonly=True) as store:
        aside = queries.runs(store, {"method": ["ka-affinity"]})["key"]
    hide(Workspace(root), aside, "trained on the wrong split")
    for name in ("tradeoff", "strides", "classes"):
        assert "1 hidden row is left out" in texts(page(name))
    assert page("strides").dataframe[0].value["method"].tolist() == ["ka", "kd"]
    assert page("ablation").dataframe[0].value["row"].tolist() == ["none", "full"]


def test_without_an_ablation_the_page_says_how_to_make_one(workspace: Path) -> None:
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, [Fake("none", images=2), Fake("kd", images=2)]), store)
    assert "harness ablate ka" in texts(page("ablation"))


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_single_row_is_no_error(workspace: Path, name: str) -> None:
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, [Fake("none", images=2)]), store)
    page(name)


def test_names_from_records_are_no_markup(workspace: Path) -> None:
    hostile = "ka[![x](http://evil.invalid/a.png)<img src=x>"
    fakes = [Fake(m, s, seed, images=2) for m in ("none", hostile) for s in (8, 16) for seed in (0, 1)]
    with open_store(workspace / "results.db") as store:
        collect(write_all(workspace, fakes), store)
    for name in NAMES[:3]:
        app = page(name)
        for element in [*app.markdown, *app.caption, *app.info]:
            assert "](http" not in str(element.value) and "<img" not in str(element.value).replace("\\<", "")
