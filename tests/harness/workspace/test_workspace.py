"""The stage folder: what is whole, what is done, who is alive."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.workspace.files import read_json, write_atomic
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.status import State, stage_state


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
    assert state == State.LOST and reason.startswith("no sign of life for 100") and attempts == 1


def test_read_json_of_a_missing_file(tmp_path: Path) -> None:
    assert read_json(tmp_path / "nothing.json") is None
