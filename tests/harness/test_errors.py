"""What the surroundings are to blame for is told so, with a remedy; the rest is called a bug of the harness."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy.exc

from harness.cli import app as command_line
from harness.errors import surroundings
from tests.end_to_end.tiny import tiny_flags
from tests.processes import Command

ROOT = Path(__file__).resolve().parents[2]


def _rolled_back() -> Exception:
    """As SQLAlchemy raises it when SQLite has thrown the transaction away by itself."""
    full = sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))
    after = sqlalchemy.exc.OperationalError("ROLLBACK TO", {}, Exception("no such savepoint: sa_savepoint_2"))
    after.__context__ = full
    return after


def _chained() -> Exception:
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")
    except OSError as error:
        outer = RuntimeError("could not save")
        outer.__cause__ = error
        return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), "/runs/x: no space is left"),
        (_chained(), "/runs/x: no space is left"),
        (_rolled_back(), "the database cannot be used: database or disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/runs/xx"), "/runs/xx: the name is too long"),
        (OSError(errno.ENOTDIR, "Not a directory", "/dev/null/x"), "/dev/null/x: a part of its path is a file"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "/runs"), "/runs: its symbolic links form a circle"),
        (
            OSError(errno.ENOTCONN, "Transport endpoint is not connected", "/mnt"),
            "/mnt: the file system is not",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/runs"), "/runs: the file system is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/a"), "/runs/a: permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "too many files"),
        (MemoryError(), "out of memory"),
        (ConnectionResetError("peer"), "a connection failed"),
        (
            sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection\nmore")),
            "the database cannot be used: server closed the connection",
        ),
        (
            sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full")),
            "the database cannot be used: database or disk is full",
        ),
    ],
)
def test_the_surroundings_are_named(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(command_line, "app", fails)
    assert command_line.run(["status"]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "hint:" in shown and "bug of the harness" not in shown


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252:strict"])
def test_a_terminal_that_lacks_a_character_shows_a_question_mark(encoding: str) -> None:
    """The board has Δ and ±; an error for that would be called a bug of the harness."""
    script = "from harness.cli import app; app.app = lambda *_, **__: print('Δ none'); app.run([])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and done.stdout.decode("latin-1").strip() == "? none"


def test_a_path_that_is_no_utf8_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a record nor a database can hold it: it would be found out after the training."""
    assert command_line.run(["status", "--workspace", "runs-\udcff"]) == 2
    assert "'runs-\\udcff' is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", f"kd[tau={'9' * 5000}]"], "the number is too long"),
        (["--set", f"optimizer.lr={'[' * 3000}"], "too many brackets"),
        (["--set", "crop=[99999999999,99999999999]"], "crop.0: Input should be less than or equal to 65536"),
        (["--set", "student.iterations=9223372036854775808"], "iterations: Input should be less than"),
        (["--students", "timm:test_efficientnet/linear@0"], "there is no output stride 0"),
        (["--students", f"timm:test_efficientnet/linear@{'9' * 5000}"], "is not a model"),
        (["--workspace", "x" * 300], "the name is too long"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_words_that_are_too_much_are_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.run(["sweep", *tiny_flags(tmp_path), *words, "--dry-run"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), OSError(errno.ENOENT, "none", "x"), TypeError("y")])
def test_what_nobody_expected_stays_a_fault(error: Exception) -> None:
    assert surroundings(error) is None


@pytest.mark.parametrize("arguments", [["sweep", "--help"], ["methods"], ["sweep", "--dry-run"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    """As `harness ... | head -1` does: the first bytes are read, then nobody reads any more."""
    words = [*arguments, *(tiny_flags(tmp_path) if "--dry-run" in arguments else [])]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = Command(["-m", "harness", *words], env={"PYTHONUNBUFFERED": "1"}, stdout=pipe)
    os.close(os.open(pipe, os.O_RDONLY))
    assert process.wait(120) == 0
    said = process.errors()
    assert "error" not in said and "Traceback" not in said, said
