"""A metric in one file: with nothing else changed it is in the record, the database, the leaderboard, CSV and page."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import source
from harness.cli.app import run
from results import queries
from results.leaderboard import leaderboard
from results.record import Record
from results.store import open_store
from tests.end_to_end.tiny import tiny_flags
from tests.processes import harness

METRIC = """
import torch
from harness.evaluation.metrics.base import Metric


class WrongPixels(Metric):
    name = "wrong_pixels"
    heading = "wrong pixels"
    unit = "px"
    direction = "lower"
    digits = 2
    summary = "wrong pixels of an image, on average"

    def image_state(self, prediction, label):
        wrong = ((prediction != label) & (label != 255)).sum()
        return torch.stack([wrong, torch.ones_like(wrong)])[:, None]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which none and kd were swept with the metric as a plugin."""
    root = tmp_path_factory.mktemp("metric")
    (root / "wrong_pixels.py").write_text(METRIC)
    done = harness("sweep", *tiny_flags(root / "runs"), "--plugin", str(root / "wrong_pixels.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "runs"


def test_it_is_in_the_record_and_its_states_beside(swept: Path) -> None:
    for file in sorted(swept.glob("stages/*/record.json")):
        record = Record.model_validate_json(file.read_bytes())
        assert record.metrics
        said = record.metrics.values["wrong_pixels"]
        assert (said.unit, said.direction, said.digits) == ("px", "lower", 2)
        with np.load(file.parent / "confusion.npz") as arrays:
            labelled = arrays["confusion"].sum((0, 2)) > 0
        there = [name for name, found in zip(record.metrics.per_class_iou, labelled, strict=True) if found]
        assert record.metrics.classes == there and not set(record.metrics.predicted_absent) & set(there)
        assert "metrics.npz" in record.artefacts
        with np.load(file.parent / "metrics.npz") as arrays:
            numerators, denominators = arrays["wrong_pixels"].sum(0)[:, 0]
        assert said.value == pytest.approx(numerators / denominators)
        assert denominators == record.metrics.images
        wrong = (1 - record.metrics.pixel_accuracy) * 32 * 32
        assert said.value == pytest.approx(wrong, rel=0.2)  # void pixels count in neither


def test_it_is_in_the_database_and_ranks_the_board(swept: Path) -> None:
    with open_store(swept / "results.db", readonly=True) as store:
        assert queries.metrics(store)["wrong_pixels"].summary == "wrong pixels of an image, on average"
        board = leaderboard(store, metric="wrong_pixels")
        by_miou = leaderboard(store)
    assert board["wrong_pixels"].is_monotonic_increasing  # less is better
    row = board[board["method"] == "kd"].iloc[0]
    none = board[board["method"] == "none"].iloc[0]
    assert row["wrong_pixels_low"] <= row["wrong_pixels"] <= row["wrong_pixels_high"]
    assert row["delta"] == pytest.approx(row["wrong_pixels"] - none["wrong_pixels"])
    assert row["delta_low"] <= row["delta"] <= row["delta_high"] and "images" in row["delta_basis"]
    assert by_miou.set_index("row")["wrong_pixels"].to_dict() == board.set_index("row")["wrong_pixels"].to_dict()


def test_it_is_in_leaderboard_and_csv_and_show(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def said(*words: str) -> str:
        assert run([*words, "--workspace", str(swept)]) == 0
        return capsys.readouterr().out

    table = said("leaderboard", "--metric", "wrong_pixels")
    assert "wrong pixels" in table and "[px]" in table
    assert "wrong_pixels" in said("leaderboard")  # and named where it does not rank
    text = said("leaderboard", "--format", "csv", "--metric", "wrong_pixels")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(float(row["wrong_pixels_px"]) >= 0 for row in rows) and {"delta_px", "miou_percent"} <= set(rows[0])
    assert "wrong pixels [px]" in said("show", "kd")
    assert run(["leaderboard", "--workspace", str(swept), "--metric", "wrong"]) == 2
    assert "wrong_pixels" in capsys.readouterr().err


def test_it_is_on_the_pages(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WORKSPACE", str(swept))
    monkeypatch.setenv("HARNESS_DB", str(swept / "results.db"))
    st.cache_data.clear()
    pages = Path(source.__file__).parent / "pages"
    board = AppTest.from_file(str(pages / "leaderboard.py"), default_timeout=120).run()
    next(box for box in board.sidebar.selectbox if box.label == "Metric").select("wrong_pixels").run()
    assert not board.exception
    assert {"wrong pixels [px]", "Δ none [px]"} <= set(board.dataframe[0].value.columns)
    runs = AppTest.from_file(str(pages / "runs.py"), default_timeout=120).run()
    assert not runs.exception and "wrong pixels [px]" in runs.dataframe[0].value.columns
    st.cache_data.clear()
