"""What people and programs are shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from results import formats
from results.brief import brief
from results.ingest import collect
from results.leaderboard import leaderboard
from results.reported import render_reported, reported
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("formats")
    fakes = sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=8)
    fakes += [Fake("ka", 32, images=8, numerics="bf16 is wrong"), Fake("none", 32, images=8)]
    with open_store(root / "results.db") as store:
        collect(write_all(root, fakes), store)
        return leaderboard(store)


def test_text(board: pd.DataFrame) -> None:
    text = formats.render(board, "table")
    row = board[(board["method"] == "ka") & (board["stride"] == 16)].iloc[0]
    half = 50 * (row["miou_high"] - row["miou_low"])
    assert f"{100 * row['miou']:.1f} ± {half:.1f}" in text
    assert f"{100 * row['delta']:+.1f} ± " in text
    for said in ("GMACs", "[%]", "[points]", "1 MAC = 2 FLOPs", "one seed", "Holm", "fell back", "dataset shapes"):
        assert said in text
    assert "GFLOP" not in text


@pytest.mark.parametrize("width", [90, 126, 145, 200])
def test_text_fits_or_leaves_columns_out(board: pd.DataFrame, width: int) -> None:
    table = [line for line in formats.as_text(board, width, colour=False).splitlines() if "±" in line or "[" in line]
    needed = 124  # without what may be left out
    assert max(map(len, table)) <= max(width, needed)
    assert ("latency" in formats.as_text(board, width)) == (width == 200)


def test_colour_is_for_terminals(board: pd.DataFrame) -> None:
    assert "\x1b[" not in formats.as_text(board, 160)
    assert "\x1b[" in formats.as_text(board, 160, colour=True)


def test_markdown(board: pd.DataFrame) -> None:
    lines = formats.render(board, "md").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(board)
    assert len({line.count("|") for line in table}) == 1
    assert "mIoU [%]" in table[0] and "±" in table[3]
    headings = [text.strip() for text in table[0].split("|")]
    assert len(set(headings)) == len(headings) - 1 and {"tier", "gap closed [%]", "GMACs"} <= set(headings)


def test_csv_and_json_agree(board: pd.DataFrame) -> None:
    rows = list(csv.DictReader(io.StringIO(formats.render(board, "csv"))))
    objects = json.loads(formats.render(board, "json"))
    assert len(rows) == len(objects) == len(board)
    for row, found, (_, line) in zip(rows, objects, board.iterrows(), strict=True):
        assert float(row["miou_percent"]) == pytest.approx(found["miou_percent"]) == pytest.approx(100 * line["miou"])
        assert float(row["gmacs"]) == pytest.approx(found["gmacs"]) == pytest.approx(line["macs"] / 1e9)
        assert (row["delta_points"] == "") == (found["delta_points"] is None) == bool(pd.isna(line["delta"]))
        assert found["seeds"] == line["seeds"] and isinstance(found["frontier"], bool)


def test_an_empty_table_is_said_to_be_empty(board: pd.DataFrame) -> None:
    assert formats.render(board.iloc[:0]) == "no row fits"
    assert json.loads(formats.render(board.iloc[:0], "json")) == []
    with pytest.raises(ValueError, match="no format 'xml'"):
        formats.render(board, "xml")


def test_an_empty_board_says_why(tmp_path: Path) -> None:
    """Was: "no row fits", and after a sweep "no student is done yet", of students whose mIoU is that of no pixel."""
    with open_store(tmp_path / "results.db") as store:
        for read in (leaderboard, brief):
            assert formats.render(read(store)).startswith("no results yet: harness collect")
        folder = Fake("kd").write(tmp_path)
        record = json.loads((folder / "record.json").read_text())
        record["metrics"] |= {"miou": None, "values": {}}
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "confusion.npz").unlink()
        collect(tmp_path, store)
        for read in (leaderboard, brief):
            assert formats.render(read(store)).startswith("1 finished run has no miou: no pixel of the labels")


def test_rows_that_look_alike_show_their_variant(tmp_path: Path) -> None:
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, [Fake("ka"), Fake("ka", version=2)]), store)
        board = leaderboard(store)
    (column,) = [column for column in formats.shown_columns(board) if column.name == "method"]
    shown = formats.cells(column, board)
    assert len(set(shown)) == 2 and all(method.startswith("ka (") for method in shown)


@pytest.mark.parametrize(
    ("value", "factor", "text"),
    [
        (2.51e9, 1e-9, "2.51"),
        (42e9, 1e-9, "42.0"),
        (264.68e9, 1e-9, "265"),
        (float("nan"), 1, ""),
        (0.0412e9, 1e-9, "0.0412"),
        (0.54, 1, "0.540"),
        (0.0, 1, "0"),
    ],
)
def test_numbers(value: float, factor: float, text: str) -> None:
    assert formats.number(value, factor) == text


# ------------------------------------------------------------------------------------------------ published


def test_reported_rows_are_labelled_and_whole() -> None:
    rows = reported()
    assert len(rows) == 48 and rows["label"].str.contains("not measured by us").all()
    assert rows["miou"].between(0.3, 0.8).all() and (rows["source"] != "").all() and (rows["protocol"] != "").all()
    ours = rows[(rows["student"] == "DeepLabV3-ResNet18") & (rows["method"] == "dist")]
    assert ours["delta"].tolist() == pytest.approx([0.0289])
    ka = rows[rows["method"] == "ka"]
    assert ka["delta"].tolist() == pytest.approx([0.025]) and ka["split"].tolist() == ["test"]


def test_reported_filters() -> None:
    assert set(reported({"dataset": ["camvid"]})["dataset"]) == {"CamVid"}
    assert set(reported({"method": ["ka"]})["method"]) == {"ka"}  # and not ka_torchdistill
    with pytest.raises(ValueError, match="no published row has the method 'foo'"):
        reported({"method": ["foo"]})
    with pytest.raises(ValueError, match="no stride to choose by"):
        reported({"stride": ["8"]})


@pytest.mark.parametrize("form", ["table", "md", "csv", "json"])
def test_reported_is_never_shown_as_ours(form: str) -> None:
    text = render_reported(reported({"dataset": ["CamVid"]}), form)
    assert "not measured by us" in text and "69.27" in text
