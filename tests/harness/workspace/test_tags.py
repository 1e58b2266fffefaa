"""Tags: said in a file of the workspace, filtered by everywhere, and no number changes with them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness
from harness.cli.app import app
from harness.errors import HarnessError
from harness.workspace.files import write_json
from harness.workspace.folders import Workspace
from harness.workspace.tags import LONGEST, Retagged, by_run, read_tags, retag, runs_tagged
from tests.dashboards.conftest import page
from tests.dashboards.test_pages import texts
from tests.harness.workspace.two_rows import KA, NONE


def call(*words: str) -> str:
    found = CliRunner().invoke(app, [*words])
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(*words: str) -> str:
    error = CliRunner().invoke(app, [*words]).exception
    assert isinstance(error, HarnessError)
    return f"{error.message} {error.hint}"


# ----------------------------------------------------------------------------------------------------- the file


def test_tags_are_given_and_taken(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert read_tags(workspace) == {}
    assert retag(workspace, ["b", "a"], ["paper", "ablation-2"]) == Retagged(4, 0)
    assert retag(workspace, ["a", "c"], ["draft"], ["paper"]) == Retagged(2, 1)
    assert by_run(read_tags(workspace)) == {"a": ["ablation-2", "draft"], "b": ["ablation-2", "paper"], "c": ["draft"]}
    assert retag(workspace, ["a", "b", "c"], [], ["paper", "draft", "nothing"]) == Retagged(0, 3)
    assert json.loads(workspace.tags_file.read_text()) == {"ablation-2": ["a", "b"]}


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        (" ", "empty"),
        ("-x", "is no tag"),
        ("a b", "is no tag"),
        ("a\x1b", "is no tag"),
        ("x" * (LONGEST + 1), "41 char"),
    ],
)
def test_what_is_no_tag_is_said(tmp_path: Path, tag: str, why: str) -> None:
    with pytest.raises(HarnessError, match=why):
        retag(Workspace(tmp_path), ["a"], [tag])
    assert not Workspace(tmp_path).tags_file.exists()


def test_letters_of_any_script_are_one_tag_however_they_are_typed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    retag(workspace, ["a"], ["für_ICCV.2"])
    retag(workspace, ["b"], ["fu\u0308r_ICCV.2"])
    assert read_tags(workspace) == {"für_ICCV.2": frozenset("ab")}


def test_a_damaged_file_has_no_tags_and_is_not_written_over(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.tags_file.write_text("[")
    assert read_tags(workspace) == {}
    with pytest.raises(HarnessError, match="not valid JSON"):
        retag(workspace, ["a"], ["paper"])
    assert workspace.tags_file.read_text() == "["
    workspace.tags_file.write_text('{"paper": 3, "<b>": ["a"], "draft": ["a", 5]}')
    assert read_tags(workspace) == {"draft": frozenset("a")}


def test_nothing_is_lost_when_two_tag_at_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: retag(workspace, [f"run{n}"], ["paper"]), range(40)))
    assert len(read_tags(workspace)["paper"]) == 40


# -------------------------------------------------------------------------------------------------- the command


def test_the_command(workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root)]
    assert "no run is tagged" in call("tag", *place)
    assert not [file for file in workspace.root.iterdir() if "tags" in file.name]
    said = call("tag", "ka @16", NONE[0].key[:10], "--add", "paper,draft", *place)
    assert "3 runs: 6 tags added, 0 removed" in said and f"{KA[0].key}: draft, paper" in said
    assert "1 run: 1 tag added, 1 removed" in call("tag", "ka @16 seed=1", "-a", "late", "--remove", "draft", *place)
    assert "paper: 3 runs (" in call("tag", "--list", *place)
    runs = {"paper": {KA[0].key, KA[1].key, NONE[0].key}, "draft": {KA[0].key, NONE[0].key}, "late": {KA[1].key}}
    assert {tag: set(keys) for tag, keys in json.loads(call("tag", "--json", *place)).items()} == runs
    assert json.loads(call("tag", "ka @16", "--json", *place)) == {
        KA[0].key: ["draft", "paper"],
        KA[1].key: ["late", "paper"],
    }
    assert "tags: draft, paper" in call("show", KA[0].key, *place)
    assert json.loads(call("show", NONE[1].key, "--json", *place))["tags"] == []


def test_a_sweep_is_tagged_before_it_is_finished(workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root)]
    stages = [("t", "teacher"), (KA[0].key, "student"), ("later", "student")]
    planned = [{"key": key, "name": key, "kind": kind, "parents": []} for key, kind in stages]
    write_json(workspace.sweeps / "1c9f00.json", {"stages": planned})
    said = call("tag", "--sweep", "1c9f", "--add", "ablation-2", *place)
    assert said.splitlines() == ["2 runs: 2 tags added, 0 removed", f"{KA[0].key}: ablation-2", "later: ablation-2"]
    assert json.loads(call("tag", "--sweep", "1c9f", "--json", *place)) == {
        key: ["ablation-2"] for key in (KA[0].key, "later")
    }
    assert [row["method"] for row in json.loads(call("leaderboard", "--tag", "ablation-2", "-f", "json", *place))] == [
        "ka"
    ]
    assert "no sweep 'zz'" in refused("tag", "--sweep", "zz", "--add", "x", *place)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nonsense", "--add", "x"], "nothing is called 'nonsense'"),
        (["ka @16", "--add", ""], "a tag is empty"),
        (["ka @16", "--add", "two words"], "'two words' is no tag"),
        (["ka @16", "--add", "a", "--remove", "a"], "'a' is to be added and removed"),
        (["--add", "a"], "name the runs to tag"),
        (["ka @16", "--list"], "--list lists all tags"),
    ],
)
def test_what_cannot_be_tagged_is_said(workspace: Workspace, words: list[str], why: str) -> None:
    assert why in refused("tag", *words, "--workspace", str(workspace.root))
    assert not workspace.tags_file.exists()


def test_prints_exports_and_python_filter_by_tags(workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root)]
    every = {row["row"]: row for row in json.loads(call("leaderboard", "-f", "json", *place))}
    assert {row["tags"] for row in every.values()} == {""} and "tags" not in call("leaderboard", *place)
    retag(workspace, [KA[1].key], ["paper", "b"])
    for words in (["leaderboard"], ["export", "board"]):
        (row,) = json.loads(call(*words, "-f", "json", "--tag", "paper", *place))
        assert row == every[row["row"]] | {"tags": "b, paper"} and row["seeds"] == 2
    assert "b, paper" in call("leaderboard", *place) and "\nnone" not in call("leaderboard", "--tag", "b", *place)
    assert "did you mean paper?" in refused("leaderboard", "--tag", "papers", *place)
    call("plot", "tradeoff", "--tag", "paper", "--out", str(workspace.root / "tradeoff.svg"), *place)
    assert ">none<" not in (workspace.root / "tradeoff.svg").read_text()
    opened = harness.open(workspace.root)
    assert opened.leaderboard(tag="paper")[["method", "tags"]].values.tolist() == [["ka", "b, paper"]]
    assert opened.runs(tag=["b"])["key"].tolist() == [KA[1].key] and set(opened.runs()["tags"]) == {"", "b, paper"}
    with pytest.raises(HarnessError, match="no run is tagged 'x'"):
        opened.runs(tag="x")


def test_an_unknown_tag_where_there_are_none_says_how_to_tag() -> None:
    with pytest.raises(HarnessError) as error:
        runs_tagged({}, ["paper"])
    assert "harness tag" in error.value.hint


# ---------------------------------------------------------------------------------------------------- the board


def test_the_board_filters_by_tags_and_no_number_changes(workspace: Workspace) -> None:
    before = page("leaderboard")
    assert "Tags" not in [box.label for box in before.sidebar.multiselect] and "tags" not in before.dataframe[0].value
    retag(workspace, [KA[1].key], ["paper"])
    retag(workspace, [NONE[0].key], ["draft"])
    shown = page("leaderboard")
    assert shown.dataframe[0].value.set_index("method")["tags"].to_dict() == {"ka": "paper", "none": "draft"}
    box = next(box for box in shown.sidebar.multiselect if box.label == "Tags")
    assert box.options == ["draft", "paper"]
    box.select("paper").run()
    assert shown.query_params["tag"] == "paper" and not shown.exception
    table, old = (app.dataframe[0].value.set_index("row") for app in (shown, before))
    assert table["method"].tolist() == ["ka"]
    common = [name for name in table if name in old and name != "front"]
    assert table[common].equals(old.loc[table.index, common])
    both = page("leaderboard", tag="paper", row=str(table.index[0]))
    assert sorted(both.dataframe[1].value["tags"]) == ["", "paper"]
    assert "“gone”" in texts(page("leaderboard", tag="gone"))
    for name in ("tradeoff", "classes", "strides", "lengths"):
        assert "Tags" in [box.label for box in page(name, tag="paper").sidebar.multiselect]


def test_references_stay_whatever_the_tags(workspace: Workspace) -> None:
    retag(workspace, [KA[1].key], ["paper"])
    retag(workspace, [NONE[0].key], ["draft"])
    for tag, methods in (("paper", ["ka", "none"]), ("draft", ["none"])):
        assert sorted(page("lengths", tag=tag).dataframe[0].value["method"]) == methods
        legend = page("strides", tag=tag).get("html")[0].proto.body
        assert ("ka" in legend, "none" in legend) == ("ka" in methods, True)


def test_the_runs_filter_by_tags(workspace: Workspace) -> None:
    assert "tags" not in page("runs").dataframe[0].value
    retag(workspace, [KA[0].key, NONE[1].key], ["paper"])
    table = page("runs", tag="paper").dataframe[0].value
    assert set(table["key"]) == {KA[0].key[:10], NONE[1].key[:10]} and set(table["tags"]) == {"paper"}
    assert len(page("runs").dataframe[0].value) == 4
    assert "Tags: paper" in texts(page("run", run=KA[0].key))
