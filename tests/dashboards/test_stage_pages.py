"""The pages of stages, finished or not: Run and Sweeps, on a workspace in which something runs and something failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import curves, stages
from harness.workspace.files import write_json
from harness.workspace.folders import AttemptFolder, Workspace
from harness.workspace.status import PlannedStage, StageStatus, State
from results.ingest import collect
from results.store import open_store
from tests.dashboards import conftest
from tests.dashboards.conftest import look_at
from tests.dashboards.test_pages import texts
from tests.results.factory import Fake, write_all

HOSTILE = "![x](http://evil.invalid/a.png) <img src=x> \x1b[2J"
TEACHER = Fake("teacher", 8, images=4)
DONE = [Fake(method, seed=0, images=4, teacher_key=TEACHER.key) for method in ("none", "ka")]
RUNNING, FAILED, BLOCKED, WAITING = ("a" * 20, "b" * 20, "c" * 20, "d" * 20)
COMMAND = "harness sweep --methods none,ka --workspace here"


def progress(iteration: int, loss: float, **terms: float) -> dict[str, Any]:
    return {
        "event": "progress", "iteration": iteration, "iterations": 100, "loss": loss, "terms": terms, "lr": 0.1,
        "step_ms": 10.0, "eta_s": 90.0,
    }  # fmt: skip


def write_events(attempt: AttemptFolder, *events: dict[str, Any], rest: str = "") -> None:
    attempt.events.write_text("".join(json.dumps(event) + "\n" for event in events) + rest)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A sweep with a stage in every state."""
    look_at(tmp_path, monkeypatch)
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, [TEACHER, *DONE], samples=2), store)
    found = Workspace(tmp_path)
    running = found.stage(RUNNING).new_attempt()
    running.begin()
    ce = [progress(n, 5.0 / n, **{"ce": 1.0 / n, "ka.adapt": 0.1}) for n in range(1, 41)]
    validation = {"event": "validation", "split": "val", "miou": 0.5, "iteration": 40}
    write_events(running, *ce, validation, rest='{"event": "progr')
    running.log.write_text(f"numerics: all right\n{HOSTILE}\n")
    write_json(found.stage(RUNNING).job_file, {"name": "kd a@16 seed 0", "reproduce": "harness sweep --methods kd"})
    parts = [{"name": "ka", "version": 1, "weights": {"adapt": 50.0}}]
    write_json(found.stage(RUNNING).path / "spec.json", {"kind": "student", "method": {"parts": parts}})
    failed = found.stage(FAILED).new_attempt()
    failed.begin()
    failed.log.write_text("starting\nValueError: the loss is nan\n")
    failed.end("failed", f"the loss is nan at iteration 12 {HOSTILE}")
    keys = [TEACHER.key, *(fake.key for fake in DONE), RUNNING, FAILED, BLOCKED, WAITING]
    kinds = ["teacher", *["student"] * 6]
    listed = [{"key": k, "name": f"stage {k[:4]}", "kind": kind, "parents": []} for k, kind in zip(keys, kinds)]
    listed[3]["parents"], listed[5]["parents"] = [TEACHER.key], [FAILED]
    write_json(
        found.sweeps / "s1.json",
        {"id": "s1", "command": COMMAND, "stages": listed, "skips": [{"cell": "x", "reason": HOSTILE}]},
    )
    return found


def page(name: str, **address: Any) -> AppTest:
    """A page at an address, run; nothing of a record is markup."""
    app = conftest.page(name, **address)
    for element in [*app.markdown, *app.caption, *app.warning, *app.error, *app.header, *app.info]:
        assert "](http" not in element.value.replace("\\]\\(", "") and "<img" not in element.value.replace("\\<", "")
        assert "\x1b" not in element.value
    return app


def test_a_run_that_is_being_trained(workspace: Workspace) -> None:
    app = page("run", run=RUNNING)
    said = texts(app)
    assert "kd a@16 seed 0" in app.header[0].value and "running" in said and "harness sweep --methods kd" in said
    assert "40 of 100 iterations, 90 s left" in str(app.get("progress")[0].proto)
    assert {"Curves", "What depends on it"} <= {one.value for one in app.subheader}
    assert len(app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")) == 5
    assert any("\\x1b" in code.value for code in app.code)


def test_a_run_that_is_done(workspace: Workspace) -> None:
    app = page("run", run=TEACHER.key)
    tables = [frame.value for frame in app.dataframe]
    (children,) = [table for table in tables if list(table.columns) == ["stage", "state", "key"]]
    assert set(children["key"]) == {*(fake.key for fake in DONE if fake.method == "ka"), RUNNING}
    assert set(children["state"]) == {"done", "running"}
    assert {"Attempts", "Environment", "IoU by class", "Sample predictions"} <= {one.value for one in app.subheader}


def test_a_run_is_found_by_words_and_by_the_beginning_of_its_key(workspace: Workspace) -> None:
    for words in (DONE[1].key[:8], "ka @16 seed=0"):
        assert page("run", run=words).header[0].value.startswith("ka timm")


@pytest.mark.parametrize("word", ["nobody", "../../etc", "zzzz.", HOSTILE])
def test_a_run_that_is_none_is_said(workspace: Workspace, word: str) -> None:
    app = page("run", run=word)
    assert not app.header and (app.info or app.warning)


def test_without_a_run_the_page_offers_what_runs(workspace: Workspace) -> None:
    assert "Choose a run" in texts(page("run"))


def test_sweeps(workspace: Workspace) -> None:
    app = page("sweeps")
    overview = app.dataframe[0].value.iloc[0]
    counts = {name: overview[name] for name in ("failed", "running", "blocked", "waiting", "done")}
    assert counts == {"failed": 1, "running": 1, "blocked": 1, "waiting": 1, "done": 3}
    states = app.dataframe[1].value
    assert list(states["state"]) == ["failed", "running", "blocked", "waiting", "done", "done", "done"]
    running = states[states["state"] == "running"].iloc[0]
    assert running["progress"] == 40 and "90 s left" in running["what"]
    assert "the loss is nan" in app.error[0].value
    codes = [code.value for code in app.code]
    assert codes.count(COMMAND) == 1 and "To try again: the sweep's own command, above." in texts(app)
    assert "ValueError: the loss is nan" in codes


def test_states_are_chosen_by_the_address(workspace: Workspace) -> None:
    app = page("sweeps", state=["running", "failed"])
    assert list(app.dataframe[1].value["state"]) == ["failed", "running"]


def test_a_stage_of_a_cluster_is_tried_again_by_retry(workspace: Workspace) -> None:
    write_json(workspace.stage(FAILED).job_file, {"launcher": "slurm"})
    codes = [code.value for code in page("sweeps").code]
    assert f"harness retry --failed --sweep s1 --workspace {workspace.root}" in codes


def test_no_sweep_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WORKSPACE", str(tmp_path))
    assert "No sweep was started" in texts(page("sweeps"))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "bad.json").write_text('{"stages": 3}')
    assert "No sweep was started" in texts(page("sweeps"))


def test_failures_that_differ_in_numbers_have_one_cause(workspace: Workspace) -> None:
    failed = [
        StageStatus(FAILED, "one", "student", State.FAILED, "nan at iteration 12"),
        StageStatus("e" * 20, "two", "student", State.FAILED, "out of memory"),
        StageStatus("f" * 20, "three", "student", State.FAILED, "nan at iteration 940"),
    ]
    found = stages.causes(failed, {FAILED: "again", "f" * 20: "again", "e" * 20: "other"})
    assert [(cause.reason, [s.name for s in cause.stages], cause.retry) for cause in found] == [
        ("nan at iteration 12", ["one", "three"], "again"),
        ("out of memory", ["two"], "other"),
    ]
    assert found[0].line == "ValueError: the loss is nan" and found[1].line == ""


def test_a_record_that_was_read_is_not_read_again(workspace: Workspace) -> None:
    stage = [PlannedStage(TEACHER.key, "t", "teacher", ())]
    assert stages.states(stage)[0].state is State.DONE
    record = workspace.stage(TEACHER.key).record_file
    stamp = record.stat()
    record.write_text("{}")
    assert stages.states(stage)[0].state is State.LOST
    assert stamp.st_mtime_ns != record.stat().st_mtime_ns


# ------------------------------------------------------------------------------------------------- curves


def test_an_attempt_that_went_on_replaces_what_came_after_its_checkpoint(workspace: Workspace) -> None:
    folder = workspace.stage(WAITING)
    first, second = folder.new_attempt(), folder.new_attempt()
    write_events(first, *(progress(n, 10.0 + n, ce=1.0) for n in range(1, 9)))
    write_events(second, *(progress(n, 20.0 + n, ce=2.0) for n in range(5, 7)))
    found = curves.read_curves([first.events, second.events])
    loss = found[found["curve"] == "loss"]
    assert loss["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert loss["value"].tolist() == [11.0, 12.0, 13.0, 14.0, 25.0, 26.0]


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    good = json.dumps(progress(1, 2.0, ce=1.0))
    file.write_text(f'{good}\n[]\n{{"event": "progress"}}\n{{"event": "progress", "iteration": 2, "loss": "x"}}\n{{"e')
    found = curves.read_curves([file, tmp_path / "missing"])
    assert found[found["curve"] == "loss"]["value"].tolist() == [2.0]


def test_terms_are_multiplied_by_their_weights() -> None:
    spec = {"method": {"parts": [{"name": "ka", "weights": {"adapt": 50, "affinity": 2.0}}]}}
    assert curves.term_weights(spec) == {"ce": 1.0, "ka.adapt": 50.0, "ka.affinity": 2.0}
    assert curves.term_weights({"method": None}) == {"ce": 1.0}
    frame = pd.DataFrame([("ka.adapt", 1, 0.5), ("ce", 1, 3.0), ("loss", 1, 9.0)], columns=curves.COLUMNS)
    assert curves.weighted(frame, curves.term_weights(spec))["value"].tolist() == [25.0, 3.0, 9.0]


def test_smoothing() -> None:
    values = [1.0, 0.0, 0.0, 4.0]
    assert curves.smoothed(values, 0).tolist() == values
    found = curves.smoothed(values, 50)
    # Bias-corrected: sum of 0.5^k v / sum of 0.5^k.
    assert found == pytest.approx([1.0, 1 / 3, 1 / 7, (0.125 * 1 + 4) / (1 + 0.5 + 0.25 + 0.125)])
    assert curves.smoothed([2.0, float("nan"), 2.0], 90)[2] == pytest.approx(2.0)


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    frame = pd.DataFrame({"curve": "loss", "iteration": range(5000), "value": 1.0, "run": "a"})
    found = curves.prepared(frame, 0)
    assert len(found) <= curves.MOST_POINTS + 1 and found["iteration"].iloc[[0, -1]].tolist() == [0, 4999]
