"""A PostgreSQL server that lives and says no: every command says why, with the remedy, and nothing is launched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import run
from results.store import open_store
from tests.end_to_end.tiny import tiny_flags
from tests.results.factory import Fake, write_all

pytestmark = pytest.mark.postgres


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_all(tmp_path / "runs", [Fake()])
    return tmp_path / "runs"


@pytest.mark.parametrize("password", ["WRONG", ""])
def test_a_wrong_password(
    password: str,
    locked_url: str,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Set, so that it is taken back: a password in a URL goes on by the environment.
    monkeypatch.setenv("PGPASSWORD", "")
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    url = locked_url.replace(":right@", f":{password}@" if password else "@")
    new = tmp_path / "new"
    for words in (
        ["sweep", *tiny_flags(new, methods="none")],
        ["collect", "--workspace", str(workspace)],
        ["leaderboard", "--workspace", str(workspace)],
        ["show", "none", "--workspace", str(workspace)],
    ):
        assert run([*words, "--db", url]) == 2, words
        said = capsys.readouterr().err
        assert "password" in said and "PGPASSWORD or ~/.pgpass" in said, said
        assert "WRONG" not in said and "bug of the harness" not in said
    assert not (new / "stages").exists() and not (new / "sweeps").exists()


def test_the_right_password_and_a_database_that_is_not_there(
    locked_url: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "right")
    url = locked_url.replace(":right@", "@")
    assert run(["collect", "--workspace", str(workspace), "--db", url]) == 0
    assert "1 added" in capsys.readouterr().out
    before, _, options = url.partition("?")
    with pytest.raises(ValueError, match=r"_other\?.*does not exist; make it on the server \(createdb\)"):
        open_store(f"{before}_other?{options}")
