"""Runs and rows by what people call them, and `harness compare` of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import run
from results.ingest import collect
from results.leaderboard import leaderboard
from results.naming import named_sides
from results.store import Store, open_store
from tests.results.factory import Fake, sweep, write_all

FAKES = [*sweep(("none", "ka"), (8, 16), (0, 1), images=4), Fake("kd", images=4, recipe="long-9f")]
KA = [fake for fake in FAKES if fake.method == "ka" and fake.stride == 16]
NONE = [fake for fake in FAKES if fake.method == "none" and fake.stride == 16]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_all(tmp_path_factory.mktemp("naming"), FAKES)
    with open_store(str(root / "results.db")) as opened:
        collect(root, opened)
    return root


@pytest.fixture
def store(workspace: Path) -> Store:
    return open_store(str(workspace / "results.db"), readonly=True)


def test_rows_and_runs_by_words_and_keys(store: Store) -> None:
    board = leaderboard(store)
    row = board[(board["method"] == "none") & (board["stride"] == 16)].iloc[0]
    by_words = [fake.key for fake in KA]
    for arguments in (["ka @16", row["row"][:6]], ["stride=16 method=ka shapes", "none 16 mobilenetv2_100"]):
        sides = named_sides(store, arguments)
        assert [sorted(keys) for keys in sides.values()] == [sorted(by_words), sorted(row["keys"].split(","))]
    sides = named_sides(store, ["ka @16 seed=1", KA[0].key[:9], "kd", "kd"])
    assert list(sides.values()) == [[KA[1].key], [KA[0].key], [FAKES[-1].key], [FAKES[-1].key]]
    assert len(sides) == 4 and next(iter(sides)).endswith("seed 1")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("ka", "'ka' means 2 rows: .* ka timm:mobilenetv2_100/linear@"),
        ("kaa @16", "nothing is called 'kaa'.*methods: ka, kd, none"),
        ("ka @4", "no run has the stride '@4'"),
        ("kd @8", "no row fits 'kd @8'"),
        ("ffff", "nothing is called 'ffff'"),
    ],
)
def test_what_means_nothing_or_too_much(store: Store, argument: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        named_sides(store, [argument])


def test_compare_says_what_differs_and_how_much(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert run(["compare", "none @16", "ka @16", "-w", str(workspace), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with open_store(str(workspace / "results.db"), readonly=True) as store:
        board = leaderboard(store)
    row = board[(board["method"] == "ka") & (board["stride"] == 16)].iloc[0]
    (gap,) = found["gaps"]
    for name, column in (("value", "delta"), ("low", "delta_low"), ("high", "delta_high"), ("p", "p")):
        assert gap[name] == pytest.approx(row[column])
    assert (gap["ours"], gap["theirs"]) == tuple(side["label"] for side in reversed(found["sides"]))
    assert "parents.teacher" in {d["name"] for d in found["differing"] if d["section"] == "plan"}
    assert [len(row["iou"]) for row in found["classes"]] == [2] * 6 and len(found["images"]) == 4
    assert run(["compare", "none @16", "ka @16", "-w", str(workspace)]) == 0
    said = capsys.readouterr().out
    assert "B - A" in said and "parents.teacher" in said and "person" in said
    assert f"{100 * row['delta']:+.1f} ({100 * row['delta_low']:+.1f} to {100 * row['delta_high']:+.1f})" in said


def test_three_sides_and_wrong_words(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-w", str(workspace)]
    assert run(["compare", "none @16", "ka @16", "kd", *words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["gaps"]) == 3
    for arguments, said in (
        (["ka @16"], "two to 6 runs or rows can be compared, not 1"),
        (["ka @16", "kb"], "nothing is called 'kb'"),
        (["ka @16", "none @16", "--metric", "speed"], "no run has the metric 'speed'"),
    ):
        assert run(["compare", *arguments, *words]) == 2
        assert said in capsys.readouterr().err
