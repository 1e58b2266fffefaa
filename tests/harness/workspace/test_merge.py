"""Workspaces joined by key: what is whole is taken, what differs is told, nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import run
from harness.errors import HarnessError
from harness.workspace.folders import Workspace
from harness.workspace.hidden import hidden_runs, hide
from harness.workspace.merge import merge
from harness.workspace.status import read_sweeps
from tests.results.factory import Fake, sweep, write_all

HERE, THERE = sweep(("none", "kd"), (16,), (0,), images=3), sweep(("none", "ka"), (16,), (0, 1), images=3)


def files(root: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return write_all(tmp_path / "here", HERE)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    root = write_all(tmp_path / "there", THERE)
    (root / "sweeps").mkdir()
    stage = {"key": THERE[0].key, "name": "a", "kind": "teacher", "parents": []}
    (root / "sweeps" / "abc.json").write_text(json.dumps({"id": "abc", "stages": [stage]}))
    return root


def keys(root: Path) -> set[str]:
    return {path.parent.name for path in (root / "stages").glob("*/record.json")}


def test_boards_are_joined_by_key(here: Path, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, source = files(here), files(there)
    assert run(["merge", str(there), "--workspace", str(here), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ours, theirs = {f.key for f in HERE}, {f.key for f in THERE}
    assert set(found["added"]) == theirs - ours and set(found["same"]) == theirs & ours
    assert keys(here) == ours | theirs and files(there) == source
    assert all(file.read_bytes() == content for file, content in before.items())
    for key in theirs - ours:
        assert (here / "stages" / key / "confusion.npz").read_bytes() == (
            there / "stages" / key / "confusion.npz"
        ).read_bytes()
    assert [stage.name for stage in read_sweeps(Workspace(here))] == ["a"]
    assert run(["leaderboard", "-w", str(here), "-f", "json"]) == 0
    assert {row["method"] for row in json.loads(capsys.readouterr().out)} == {"none", "kd", "ka", "teacher"}
    again = merge([there], Workspace(here))
    assert not again.added and set(again.same) == theirs


def test_what_is_hidden_there_is_hidden_here_and_old_reasons_stay(here: Path, there: Path) -> None:
    new, old = THERE[-1].key, HERE[1].key
    hide(Workspace(there), [new, old], "wrong split")
    hide(Workspace(here), [old], "of ours")
    merge([there], Workspace(here))
    assert {key: entry.reason for key, entry in hidden_runs(Workspace(here)).items()} == {
        new: "wrong split",
        old: "of ours",
    }


def test_a_dry_run_takes_nothing(here: Path, there: Path) -> None:
    before = files(here)
    found = merge([there, there], Workspace(here), dry_run=True)
    assert found.added == sorted({f.key for f in THERE} - {f.key for f in HERE}) and files(here) == before


def test_other_results_under_one_key_are_a_conflict(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_all(tmp_path / "other", [HERE[-1]])
    record = other / "stages" / HERE[-1].key / "record.json"
    data = json.loads(record.read_text())
    data["artefacts"] |= {"weights.safetensors": "0" * 64}
    record.write_text(json.dumps(data))
    before = files(here)
    assert run(["merge", str(other), "-w", str(here)]) == 1
    assert f"conflict  {HERE[-1].key}: other weights.safetensors here" in capsys.readouterr().out
    assert files(here) == before


def test_what_is_not_whole_or_not_finished_stays_away(tmp_path: Path, there: Path) -> None:
    damaged, linked, unfinished, begun = (there / "stages" / fake.key for fake in THERE[:4])
    (damaged / "confusion.npz").write_bytes(b"half")
    (tmp_path / "secret").write_text("of another folder")
    (linked / "confusion.npz").unlink()
    (linked / "confusion.npz").symlink_to(tmp_path / "secret")
    (unfinished / "record.json").unlink()
    target = Workspace(tmp_path / "new")
    (target.root / "stages" / begun.name / "attempts" / "1").mkdir(parents=True)
    (there / "stages" / "no-key.x").mkdir()
    found = merge([there], target)
    assert found.damaged[str(damaged)] == "confusion.npz is not the one of its record"
    assert found.damaged[str(linked)] == "confusion.npz is missing"
    assert found.unfinished == 1 and "unfinished in" in found.conflicts[begun.name]
    assert keys(target.root) == set(found.added) == {f.key for f in THERE[4:]}


def test_an_artefact_outside_its_folder_is_not_taken(tmp_path: Path) -> None:
    root = write_all(tmp_path / "evil", [Fake(images=2)])
    (tmp_path / "evil" / "stages" / "secret").write_text("x")
    record = root / "stages" / Fake(images=2).key / "record.json"
    data = json.loads(record.read_text())
    data["artefacts"] |= {"../secret": "0" * 64}
    record.write_text(json.dumps(data))
    found = merge([root], Workspace(tmp_path / "new"))
    assert not found.added and "../secret is missing" in found.damaged.values()


def test_only_workspaces_can_be_merged(here: Path, tmp_path: Path) -> None:
    for source, said in ((tmp_path / "nowhere", "not a workspace"), (here, "into itself")):
        with pytest.raises(HarnessError, match=said):
            merge([source], Workspace(here))
