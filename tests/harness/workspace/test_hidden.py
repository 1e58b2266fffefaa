"""Hidden runs: said in a file of the workspace, shown as hidden by the board, never deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import HarnessError
from harness.workspace.folders import Workspace
from harness.workspace.hidden import hidden_runs, hide, unhide
from tests.dashboards.conftest import page
from tests.dashboards.test_pages import texts
from tests.harness.workspace.two_rows import KA, NONE, command


def test_a_reason_is_kept_and_taken_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert hidden_runs(workspace) == {}
    hide(workspace, ["a", "b"], " the wrong split ")
    hide(workspace, ["b"], "another")
    assert {key: entry.reason for key, entry in hidden_runs(workspace).items()} == {
        "a": "the wrong split",
        "b": "another",
    }
    assert hidden_runs(workspace)["a"].since.startswith("20")
    assert unhide(workspace, ["a", "nobody"]) == ["a"] and list(hidden_runs(workspace)) == ["b"]
    with pytest.raises(HarnessError, match="a reason is needed"):
        hide(workspace, ["a"], " ")


def test_a_damaged_file_hides_nothing_and_is_not_written_over(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.hidden_file.write_text("{")
    assert hidden_runs(workspace) == {}
    with pytest.raises(HarnessError, match="not valid JSON"):
        hide(workspace, ["a"], "why")
    assert workspace.hidden_file.read_text() == "{"
    workspace.hidden_file.write_text('{"a": 3, "b": {"reason": 5}}')
    assert {key: entry.reason for key, entry in hidden_runs(workspace).items()} == {"b": "5"}


def test_the_command(workspace: Workspace) -> None:
    root = str(workspace.root)
    code, said = command("hide", "ka @16", "--reason", "learning rate \x1b[2J", "--workspace", root)
    assert code == 0 and "learning rate \\x1b[2J" in said
    assert set(hidden_runs(workspace)) == {fake.key for fake in KA}
    listed = json.loads(command("hide", "--json", "--workspace", root)[1])
    assert {entry["reason"] for entry in listed.values()} == {"learning rate \x1b[2J"}
    assert "1 run shown again" in command("hide", KA[0].key[:10], "--undo", "--workspace", root)[1]
    assert "2 runs" not in command("hide", "ka @16", "--undo", "--workspace", root)[1]
    assert "nothing is hidden" in command("hide", "--workspace", root)[1]


def test_prints_and_exports_leave_hidden_rows_out_and_say_so(workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root)]
    hide(workspace, [fake.key for fake in NONE], "the wrong split")
    code, said = command("leaderboard", *place)
    assert code == 0 and "1 row hidden by `harness hide` left out (--hidden shows them)" in " ".join(said.split())
    for words in (["leaderboard", "-f", "json"], ["export", "board", "-f", "json"]):
        shown = CliRunner().invoke(app, [*words, *place])
        assert [row["method"] for row in json.loads(shown.stdout)] == ["ka"]
        assert "1 hidden row left out" in shown.stderr and "--hidden includes them" in shown.stderr
        everything = CliRunner().invoke(app, [*words, *place, "--hidden"])
        assert {row["method"] for row in json.loads(everything.stdout)} == {"ka", "none"} and not everything.stderr
    figure = CliRunner().invoke(app, ["plot", "tradeoff", "--out", str(workspace.root / "tradeoff.svg"), *place])
    assert figure.exit_code == 0 and "1 hidden row left out" in figure.stderr
    drawn = (workspace.root / "tradeoff.svg").read_text()
    assert ">ka<" in drawn and ">none<" not in drawn


@pytest.mark.parametrize(("words", "why"), [(["ka @16"], "a reason is needed"), (["nonsense"], "nothing is called")])
def test_what_cannot_be_hidden_is_said(workspace: Workspace, words: list[str], why: str) -> None:
    found = CliRunner().invoke(app, ["hide", *words, "--workspace", str(workspace.root)])
    assert isinstance(found.exception, HarnessError) and why in str(found.exception)


def test_the_board_shows_a_hidden_row_apart_and_counts_it_all_the_same(workspace: Workspace) -> None:
    before = page("leaderboard").dataframe[0].value.set_index("row")
    hide(workspace, [fake.key for fake in NONE], "![x](http://evil.invalid) trained on the wrong split")
    app = page("leaderboard")
    shown = app.dataframe[0].value.set_index("row")
    assert shown["method"].tolist() == ["ka"]
    assert shown["Δ none [points]"].tolist() == before.loc[shown.index, "Δ none [points]"].tolist()
    (apart,) = [frame.value for frame in app.dataframe if "hidden because" in frame.value]
    assert apart["method"].tolist() == ["none"] and "wrong split" in apart["hidden because"].iloc[0]
    hide(workspace, [KA[0].key], "one of two")
    assert page("leaderboard").dataframe[0].value["method"].tolist() == ["ka"]  # a row is hidden as a whole only


def test_the_runs_say_why_they_are_hidden(workspace: Workspace) -> None:
    hide(workspace, [KA[0].key], "diverged")
    table = page("runs").dataframe[0].value
    assert len(table) == 4 and sorted(table["hidden"]) == ["", "", "", "diverged"]
    assert "diverged" in texts(page("run", run=KA[0].key))
