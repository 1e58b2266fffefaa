"""The commands, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.collect import collect
from harness.cli.dashboard import command as serving
from harness.cli.dashboard import dashboard
from harness.cli.leaderboard import leaderboard
from harness.cli.plot import plot
from harness.cli.show import show
from harness.errors import HarnessError
from tests.results.factory import sweep, write_all

FAKES = sweep(("none", "ka"), (8, 16), (0, 1), images=4)
app = typer.Typer()
for command in (collect, leaderboard, plot, show, dashboard):
    app.command()(command)


def harness(*words: str) -> str:
    """What a command prints. User errors come as they are."""
    result = CliRunner().invoke(app, list(words), standalone_mode=False)
    if isinstance(result.exception, HarnessError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, collected, and named by the environment as a user would."""
    monkeypatch.delenv("HARNESS_DB", raising=False)
    monkeypatch.setenv("HARNESS_WORKSPACE", str(write_all(tmp_path, FAKES)))
    assert harness("collect") == "9 added, 0 unchanged\n"
    return tmp_path


def test_the_first_rows_of_many(workspace: Path) -> None:
    """All that is said of all rows is said, and how many are not shown."""
    whole, first = " ".join(harness("leaderboard").split()), " ".join(harness("leaderboard", "--top", "2").split())
    assert "3 more rows: --top 0 shows all." in first and "more rows" not in whole
    assert whole.split("±")[-1] == first.split("±")[-1]  # the notes
    assert len(json.loads(harness("leaderboard", "--top", "2", "-f", "json"))) == 2
    assert harness("leaderboard", "--top", "0") == harness("leaderboard")


def test_collect(workspace: Path, tmp_path: Path) -> None:
    assert (workspace / "results.db").is_file()
    assert json.loads(harness("collect", "--json"))["unchanged"] == sorted(fake.key for fake in FAKES)
    (workspace / "stages" / FAKES[0].key / "record.json").write_text("{")
    result = CliRunner().invoke(app, ["collect", "--json", "--db", str(tmp_path / "other.db")])
    assert result.exit_code == 1 and "invalid: " in result.stderr  # something was set aside
    found = json.loads(result.stdout)
    assert len(found["added"]) == 8 and len(found["invalid"]) == 1
    with pytest.raises(HarnessError, match="not a workspace"):
        harness("collect", "--workspace", str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_leaderboard(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert harness("leaderboard").count(" ± ") == 8  # four rows over seeds, two differences, two shares of the gap
    words = ["--format", "json", "--method", "ka,none", "--stride", "16", "--sort", "macs"]
    rows = json.loads(harness("leaderboard", *words))
    assert {(row["method"], row["stride"]) for row in rows} == {("ka", 16), ("none", 16)}
    assert harness("leaderboard", "-f", "csv", "-m", "ka").count("\n") == 3
    assert "not measured by us" in harness("leaderboard", "--reported", "--dataset", "camvid")
    assert len(json.loads(harness("leaderboard", "--reported", "--top", "3", "-f", "json"))) == 3
    for words in (["--max-gmacs", "1"], ["--tag", "paper"], ["--group-by", "stride"], ["--metric", "boundary_iou"]):
        with pytest.raises(HarnessError, match=f"{words[0]} is about rows measured here"):
            harness("leaderboard", "--reported", *words)


def test_a_budget(workspace: Path) -> None:
    rows = json.loads(harness("leaderboard", "--format", "json", "--max-gmacs", "3", "--max-latency", "100"))
    assert {row["stride"] for row in rows} == {16} and all(row["gmacs"] <= 3 for row in rows)


def test_plot(workspace: Path, tmp_path: Path) -> None:
    for name, words in (("strides", []), ("tradeoff", ["--over", "latency_ms"]), ("class-gains", ["-s", "16"])):
        file = tmp_path / f"{name}.svg"
        assert str(file) in harness("plot", name, "--out", str(file), *words) and b"<svg" in file.read_bytes()[:200]
    for words, said in (
        (["strides", "--out", "figure.jpg"], "written as .svg, .png, .pdf"),
        (["stride", "--out", "figure.svg"], "no figure 'stride'"),
        (["strides", "--over", "speed", "--out", "figure.svg"], "nothing is drawn over 'speed'"),
        (["class-gains", "--out", "figure.svg"], "shows one row of a method"),
        (["ablation", "--out", "figure.svg"], "no row has a method that was taken apart"),
        (["strides", "--max-gmacs", "0.1", "--out", "figure.svg"], "no row fits"),
    ):
        with pytest.raises(HarnessError, match=re.escape(said)):
            harness("plot", *words)


def test_wrong_words_are_user_errors(workspace: Path, tmp_path: Path) -> None:
    for words, said in (
        (["leaderboard", "--format", "xml"], "no format"),
        (["leaderboard", "--method", "kaa"], "no run has the method"),
        (["leaderboard", "--sort", "speed"], "no column"),
        (["leaderboard", "--db", str(tmp_path / "none.db")], "run harness collect"),
        (["show", "kaa"], "did you mean ka"),
        (["show", "ka"], "means 4 runs"),
    ):
        with pytest.raises(HarnessError, match=said):
            harness(*words)


def test_show(workspace: Path) -> None:
    text = harness("show", "ka", "@16", "seed=1")
    assert "evaluated" in text and "whole image" in text
    fake = next(f for f in FAKES if (f.method, f.stride, f.seed) == ("ka", 16, 1))
    for said in (fake.key, "person", "GMACs", "aten::hardtanh_", "affinity", "node1", "harness sweep --methods ka"):
        assert said in text
    assert f"{FAKES[0].key} teacher" in text
    found = json.loads(harness("show", fake.key[:8], "--json"))
    assert found["record"]["key"] == fake.key and found["parents"]["teacher"]["key"] == FAKES[0].key


def test_dashboard_says_when_its_port_is_taken(workspace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HarnessError, match="is taken"):
            harness("dashboard", "--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dashboard_serves_and_ends(number: signal.Signals, workspace: Path, tmp_path: Path) -> None:
    """For somebody who has never run Streamlit, which would ask for an e-mail address: nothing is asked.

    And who has a coding agent, for which Streamlit would offer to install files: it takes nobody for a developer.
    """
    opens, opened = tmp_path / "opens", tmp_path / "opened"
    opens.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    opens.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A shell lets background jobs ignore SIGINT, and children inherit that: the tests may run in one.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + (
        "from harness.cli.dashboard import dashboard; from pathlib import Path; import sys; "
        "dashboard(Path(sys.argv[1]), None, int(sys.argv[2]), '127.0.0.1', False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(workspace), str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "HOME": str(tmp_path / "home"), "BROWSER": str(opens)},
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        while not (opened.exists() and opened.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert opened.read_text() == f"http://localhost:{port}\n"
    finally:
        process.send_signal(number)
        assert process.wait(240) in (0, -number)
    with socket.socket() as probe:  # nobody listens there any more
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_board_takes_nobody_for_its_developer() -> None:
    """Streamlit writes files for coding agents on the click of a viewer, unless its server is headless."""
    words = serving("127.0.0.1", 8501)
    assert words[words.index("--server.headless") + 1] == "true"
