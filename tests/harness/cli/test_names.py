"""Names and logs that steer a terminal: commands show them, and nothing happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import run

NAME = "ka[beta=1] \x1b[2J\x1b]0;title\x07 \u202eevil"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """One stage that has failed, with a name, a reason and a log of that kind."""
    key = "a" * 20
    attempt = tmp_path / "stages" / key / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "attempt.json").write_text(json.dumps({"started": "2026-01-01T00:00:00+00:00", "host": "h", "pid": 1}))
    (attempt / "outcome.json").write_text(json.dumps({"outcome": "failed", "reason": f"no {NAME}", "ended": ""}))
    (attempt / "log").write_text(f"first line\n{NAME}\rsecond\tline\n")
    stage = {"key": key, "name": NAME, "kind": "student", "parents": []}
    (tmp_path / "sweeps").mkdir()
    sweep = {"id": "s", "command": "harness sweep", "sweep": {}, "stages": [stage], "skips": []}
    (tmp_path / "sweeps" / "s.json").write_text(json.dumps(sweep))
    return tmp_path


@pytest.mark.parametrize("words", [["status", "--all"], ["logs", "a" * 8], ["retry", "--failed", "--dry-run"]])
def test_nothing_of_a_name_or_a_log_steers(
    words: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run([*words, "--workspace", str(workspace)])
    printed = capsys.readouterr()
    shown = printed.out + printed.err
    assert "\\x1b[2J" in shown.replace("\n", "") and "beta=1]" in shown
    assert not set(shown) & {"\x1b", "\x07", "\r", "\u202e"}


def test_a_word_that_is_echoed_in_an_error_does_not_steer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "--methods", "\x1b[2Jka", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "\\x1b[2Jka" in said and "\x1b" not in said
