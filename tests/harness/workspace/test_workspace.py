"""The stage folder: what is whole, what is done, who is alive."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.workspace.events import Events, Movement
from harness.workspace.files import read_json, write_atomic, write_json
from harness.workspace.folders import StageFolder, Workspace, close_silent_attempts
from harness.workspace.status import State, read_sweeps, stage_state, stage_states


def test_write_atomic_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.json"
    write_atomic(file, "old")
    write_atomic(file, b"new")
    assert file.read_text() == "new"
    assert [p.name for p in file.parent.iterdir()] == ["file.json"]


def _write_for_ever(path: str) -> None:
    while True:
        write_atomic(Path(path), b"x" * 3_000_000)


def test_a_writer_killed_in_the_middle_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    for pause in (0.02, 0.05, 0.11):
        process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(str(file),))
        process.start()
        while not file.exists():
            time.sleep(0.01)
        time.sleep(pause)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert file.stat().st_size == 3_000_000


@pytest.mark.parametrize("key", ["../../etc", "a/b", "", "a b", ".."])
def test_keys_cannot_leave_the_workspace(tmp_path: Path, key: str) -> None:
    with pytest.raises(HarnessError):
        Workspace(tmp_path).stage(key)


def test_attempts_are_numbered_and_tell_their_end(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "key1")
    first = folder.new_attempt()
    first.begin(resumed_at=7)
    assert stage_state(folder)[0] == State.RUNNING and first.silence_s() < 5
    first.end("interrupted", "SIGTERM")
    assert stage_state(folder) == (State.INTERRUPTED, "SIGTERM", 1)
    second = folder.new_attempt()
    assert [a.number for a in folder.attempts()] == [1, 2]
    told = first.summary()
    assert (told.outcome, told.reason, told.resumed_at) == ("interrupted", "SIGTERM", 7)
    assert second.summary().outcome == "unknown"


def test_silence_is_death(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "key1")
    attempt = folder.new_attempt()
    attempt.begin()
    old = time.time() - 1000
    os.utime(attempt.path / "heartbeat", (old, old))
    state, reason, attempts = stage_state(folder)
    assert state == State.LOST and reason.startswith("no heartbeat for 100") and attempts == 1


def _ended_process() -> int:
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join()
    return process.pid or 0


@pytest.mark.parametrize(
    ("host", "alive", "ahead_s", "state"),
    [
        ("here", False, 3600, State.LOST),
        ("here", False, 20, State.LOST),
        ("here", True, 3600, State.RUNNING),
        ("elsewhere", False, 3600, State.LOST),
        ("elsewhere", False, 20, State.RUNNING),
    ],
)
def test_a_sign_of_life_in_the_future_keeps_nobody_alive(
    host: str, alive: bool, ahead_s: float, state: State, tmp_path: Path
) -> None:
    folder = StageFolder(tmp_path / "key1")
    attempt = folder.new_attempt()
    attempt.begin()
    pid = os.getpid() if alive else _ended_process()
    where = attempt.started()["host"] if host == "here" else host
    write_json(attempt.path / "attempt.json", {**attempt.started(), "host": where, "pid": pid})
    os.utime(attempt.path / "heartbeat", (time.time() + ahead_s,) * 2)
    found, reason, _ = stage_state(folder)
    assert found is state
    assert ("in the future" in reason) == (state is State.LOST)


def test_a_living_attempt_that_does_not_move_says_since_when(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "key1")
    attempt = folder.new_attempt()
    attempt.begin()
    assert stage_state(folder)[:2] == (State.RUNNING, "")
    attempt.beat(still_s=45.0, iteration=7)
    assert stage_state(folder)[:2] == (State.RUNNING, "")
    attempt.beat(still_s=1560.0, iteration=7)
    state, reason, _ = stage_state(folder)
    assert state is State.RUNNING and reason.startswith("no progress since ") and "(26 min)" in reason
    assert attempt.heartbeat()["iteration"] == 7
    # A heartbeat of an older version is an empty file; half a word is none.
    for text in ("", '{"still_s": 15'):
        (attempt.path / "heartbeat").write_text(text)
        assert stage_state(folder)[:2] == (State.RUNNING, "")


def test_what_is_written_down_is_movement(tmp_path: Path) -> None:
    movement = Movement(tmp_path / "events.jsonl")
    first = movement.look()
    assert "iteration" not in first
    time.sleep(0.3)
    assert movement.look()["still_s"] >= 0.3
    events = Events(tmp_path / "events.jsonl")
    events.write("progress", iteration=12)
    assert movement.look() == {"still_s": 0.0, "iteration": 12}
    time.sleep(0.3)
    assert movement.look()["still_s"] >= 0.3
    events.write("evaluating", done=1, total=9)
    assert movement.look() == {"still_s": 0.0, "iteration": 12}


def test_attempts_that_ended_without_a_word_are_closed_and_living_ones_left_alone(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "key1")
    old, ended, living = (folder.new_attempt() for _ in range(3))
    for attempt in (old, ended, living):
        attempt.begin()
    ended.end("failed", "the loss is nan")
    os.utime(old.path / "heartbeat", (time.time() - 1000,) * 2)
    close_silent_attempts(folder, folder.new_attempt().number)
    assert old.summary().outcome == "interrupted" and "ended without an outcome" in old.summary().reason
    assert ended.summary().reason == "the loss is nan"
    assert living.outcome() is None


def test_read_json_of_a_missing_file(tmp_path: Path) -> None:
    assert read_json(tmp_path / "nothing.json") is None


_DAMAGED = {
    "empty": b"",
    "null": b"null",
    "list": b"[1]",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "odd": b'{"outcome": 5, "reason": [1], "pid": "x", "host": 7, "still_s": null, "started": 4, "resumed_at": -1}',
    "huge": b'{"outcome": "zebra", "pid": 99999999999999999999, "still_s": 1e308, "resumed_at": 1e400}',
    "half a pair": b'{"outcome": "failed", "reason": "\\ud800", "started": "", "ended": ""}',
}


@pytest.mark.parametrize("content", _DAMAGED.values(), ids=_DAMAGED)
@pytest.mark.parametrize("file", ["attempt.json", "outcome.json", "heartbeat", "events.jsonl"])
def test_a_damaged_file_of_an_attempt_costs_no_record(file: str, content: bytes, tmp_path: Path) -> None:
    folder = Workspace(tmp_path).stage("abc")
    attempt = folder.new_attempt()
    attempt.begin()
    (attempt.path / file).write_bytes(content)
    assert isinstance(stage_state(folder)[1], str)
    close_silent_attempts(folder, 2)
    assert attempt.summary().number == 1


def test_what_is_no_attempt_is_passed_over(tmp_path: Path) -> None:
    folder = Workspace(tmp_path).stage("abc")
    folder.new_attempt()
    for name in ("0", "007", "²", "٣", "rank1", "9" * 30):
        (folder.path / "attempts" / name).mkdir()
    assert [attempt.number for attempt in folder.attempts()] == [1]


def test_a_reason_that_no_record_can_hold_is_made_text(tmp_path: Path) -> None:
    """As the name of a file that is not UTF-8 brings it into an error."""
    attempt = Workspace(tmp_path).stage("abc").new_attempt()
    attempt.begin()
    attempt.end("failed", "cannot read \udcff.png")
    assert attempt.summary().reason == "cannot read \\udcff.png"


def test_a_heartbeat_outlives_its_folder(tmp_path: Path) -> None:
    attempt = Workspace(tmp_path).stage("abc").new_attempt()
    shutil.rmtree(tmp_path / "stages")
    attempt.beat(iteration=1)
    assert not attempt.shows_life()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        '{"stages": [{"key": 5, "name": "a", "kind": "student", "parents": []}]}',
        '{"stages": [{"key": "a", "name": null, "kind": "student", "parents": []}]}',
        '{"stages": [{"key": "../../etc", "name": "a", "kind": "student", "parents": []}]}',
        '{"stages": [{"key": "a", "name": "a", "kind": "student", "parents": "bc"}]}',
    ],
)
def test_a_damaged_plan_is_named_and_stops_no_other(content: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_atomic(workspace.sweeps / "bad.json", content)
    with pytest.raises(HarnessError, match=r"bad\.json cannot be read as the plan of a sweep"):
        read_sweeps(workspace)
    good = {"stages": [{"key": "a", "name": "a", "kind": "student", "parents": ["gone"]}], "command": ""}
    write_json(workspace.sweeps / "good.json", good)
    assert [status.state for status in stage_states(workspace, read_sweeps(workspace))] == [State.WAITING]
