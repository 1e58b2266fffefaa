"""Secrets are in nothing that is stored: they go on by the environment alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import run
from harness.launch.launchers import make_options
from harness.system.secrets import database_without_password, stored_command, without_secrets
from tests.end_to_end.tiny import tiny_flags


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("postgresql://me:SECRET@host/db", "postgresql://me@host/db"),
        ("postgresql+psycopg://me:S3:CR@ET@host:5432/db", "postgresql+psycopg://me@host:5432/db"),
        ("postgres://:SECRET@host/db", "postgres://@host/db"),
        ("--db=postgresql://me:SECRET@host/db", "--db=postgresql://me@host/db"),
        ("postgresql://host/db?user=me&password=SECRET", "postgresql://host/db?user=me"),
        ("postgresql://host/db?password=SECRET&user=me", "postgresql://host/db?user=me"),
        ("setup=export WANDB_API_KEY=SECRET", "setup=export WANDB_API_KEY=***"),
        ("hf_token=SECRET", "hf_token=***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("/data/results.db", "/data/results.db"),
        ("ka[beta=10]", "ka[beta=10]"),
        ("timm:resnet18/linear@16", "timm:resnet18/linear@16"),
    ],
)
def test_what_is_stored_of_a_word(text: str, stored: str) -> None:
    assert without_secrets(text) == stored
    assert "SECRET" not in stored_command(["harness", "sweep", text])


def test_the_password_of_a_database_goes_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSWORD", "of before")
    assert database_without_password("postgresql://me@host/db") == "postgresql://me@host/db"
    import os

    assert os.environ["PGPASSWORD"] == "of before"
    options = make_options(tmp_path, "postgresql://me:a%40b@host/db", [])
    assert options.database == "postgresql://me@host/db" and os.environ["PGPASSWORD"] == "a@b"


@pytest.mark.parametrize("command", [["collect"], ["leaderboard"], ["show", "kd", "16"]], ids=" ".join)
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:SECRET@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=me&password=SECRET",
        "postgresql://me@127.0.0.1:1/db?sslpassword=SECRET",
        "postgresql://me:SECRET@[::1/db",
        "mysql://me:SECRET@host/db",
    ],
)
def test_no_message_on_a_database_holds_the_password(
    url: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "")
    (tmp_path / "stages").mkdir()
    assert run([*command, "--workspace", str(tmp_path), "--db", url]) == 2
    said = capsys.readouterr()
    assert "SECRET" not in said.out + said.err


def test_no_file_of_a_workspace_holds_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With everything but the server: the sweep is saved as the launcher gets it."""
    monkeypatch.setenv("PGPASSWORD", "")
    monkeypatch.setattr("harness.launch.preflight.check_database", lambda _: None)
    monkeypatch.setattr("harness.launch.opened.OpenedWorkspace.collect", lambda _: None)
    root, words = tmp_path / "runs", tiny_flags(tmp_path / "runs", methods="none")
    url = "postgresql://me:SECRET@127.0.0.1:9/board"
    monkeypatch.setattr("sys.argv", ["harness", "sweep", *words, "--db", url])
    run(["sweep", *words, "--db", url])
    files = [file for file in root.rglob("*") if file.is_file()]
    assert (root / "sweeps").is_dir() and any(file.name == "record.json" for file in files)
    assert not [file for file in files if b"SECRET" in file.read_bytes()]
    assert {file.stat().st_mode & 0o777 for file in (root / "sweeps").iterdir()} == {0o600}
    capsys.readouterr()
