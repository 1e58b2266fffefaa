"""The leaderboard as files: read back, each says what the board says."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import run
from results.exports import EXPORTS, SUFFIXES
from results.formats import export_frame, notes
from results.ingest import collect
from results.latex import as_latex
from results.leaderboard import leaderboard
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all

HOSTILE = '[x] & * % $ # _ ^ ~ { } \\input{/etc/passwd} \\\\ ` < > | " Δ ± 中 -- é'


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, two strides and two seeds, and a method whose name is anything but plain; only read."""
    fakes = [*sweep(("none", "ka"), (8, 16), (0, 1), images=4), Fake(method=HOSTILE, images=4)]
    root = write_all(tmp_path_factory.mktemp("exports"), fakes)
    with open_store(str(root / "results.db")) as store:
        collect(root, store)
    return root


@pytest.fixture(scope="module")
def board(workspace: Path) -> pd.DataFrame:
    with open_store(str(workspace / "results.db"), readonly=True) as store:
        return leaderboard(store)


def test_parquet_holds_every_column_with_its_type(board: pd.DataFrame) -> None:
    pytest.importorskip("pyarrow")
    found, expected = pd.read_parquet(io.BytesIO(EXPORTS["parquet"](board))), export_frame(board)
    assert list(found.columns) == list(expected.columns)
    assert found["miou_percent"].dtype == float and found["stride"].astype(int).tolist() == board["stride"].tolist()
    pd.testing.assert_series_equal(found["miou_percent"], expected["miou_percent"])
    assert found["method"].tolist() == board["method"].tolist()


def rows_of(table: str) -> list[list[str]]:
    """The cells between the rules."""
    body = table.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]


def test_a_latex_table_is_well_formed_whatever_names_hold(board: pd.DataFrame) -> None:
    table = as_latex(board)
    rows, alignment = rows_of(table), re.search(r"begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", table)
    assert alignment and len(rows) == 1 + len(board)
    assert {len(row) for row in rows} == {len(alignment[1])}
    # Braces that are no characters close as they opened, in every cell; nothing else is a command.
    for cell in [cell for row in rows for cell in row]:
        depth = 0
        for brace in re.sub(r"\\[{}]", "", cell):
            depth += {"{": 1, "}": -1}.get(brace, 0)
            assert depth >= 0, cell
        assert depth == 0, cell
        assert not re.match(r"\s*[\[*]", cell), "taken for an argument of the row's end before it"
    assert set(re.findall(r"\\(begin|end)\{(\w+)\}", table)) == {
        (side, name) for side in ("begin", "end") for name in ("table", "tabular")
    }
    assert r"\input" not in table and r"\textbackslash{}input" in table and "U+4E2D" in table
    assert all(character.isascii() or character == "é" for character in table)
    assert table.count(r"\footnotesize") == len(notes(board)) and r"\texttt{none}" in table


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
def test_a_latex_table_compiles(board: pd.DataFrame, tmp_path: Path) -> None:
    text = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\\begin{document}\n"
    (tmp_path / "table.tex").write_text(f"{text}{as_latex(board)}\n\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:]
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_s_name_says_the_format(
    workspace: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"board.{suffix}"
    assert run(["export", "board", "-w", str(workspace), "-m", "ka", "-s", "16", "--out", str(out)]) == 0
    assert f"{out}: 1 rows" in capsys.readouterr().out
    assert (b"ka" in out.read_bytes()) and out.stat().st_size > 100


def test_text_is_printed_and_filtered_as_the_leaderboard_is(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-w", str(workspace), "-m", "ka,none", "-s", "16", "--format", "json"]
    assert run(["export", "board", *words]) == 0
    exported = capsys.readouterr().out
    assert run(["leaderboard", *words]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(exported) and len(json.loads(exported)) == 2


def test_wrong_words_are_user_errors(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--format", "xls"], "there is no format 'xls'"),
        ([], "the format is missing"),
        (["--format", "parquet"], "--out board.parquet"),
        (["--format", "csv", "-m", "kaa"], "no run has the method"),
    ):
        assert run(["export", "board", "-w", str(workspace), *words]) == 2
        assert said in capsys.readouterr().err
