"""Finished runs looked at again: `harness verify` and `evaluate` evaluate their weights, `rerun` trains them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.app import run
from harness.evaluation.evaluate import Evaluation
from harness.stage.surroundings import changed_environment
from harness.stage.verify import differing_images
from harness.workspace.files import file_digest
from harness.workspace.folders import StageFolder
from tests.end_to_end.tiny import make_plan, run_all, stage_folders, tiny_sweep

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which `none` and `ka` were swept: a teacher, a translator and two students."""
    root = tmp_path_factory.mktemp("again") / "runs"
    run_all(make_plan(tiny_sweep(methods=("none", "ka"))), root)
    assert run(["collect", "--workspace", str(root)]) == 0
    return root


@pytest.fixture
def workspace(swept: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(swept, tmp_path / "runs")
    return tmp_path / "runs"


def stage(root: Path, method: str) -> StageFolder:
    found = {f.record().cell.method if f.record().cell else "translator": f for f in stage_folders(root)}  # type: ignore[union-attr]
    return found[method]


def answer(capture: Capture, *words: str) -> tuple[int, Any]:
    capture.readouterr()
    code = run([*words, "--json"])
    out = capture.readouterr().out
    return code, json.loads(out) if out else None


def test_stored_weights_give_the_matrices_of_the_record(swept: Path, capsys: Capture) -> None:
    before = {file: file.read_bytes() for file in swept.rglob("*") if file.is_file()}
    for method in ("ka", "teacher"):
        code, found = answer(capsys, "verify", stage(swept, method).key, "-w", str(swept))
        assert code == 0 and found["same"] and found["images"] == 4, found
        assert found["differing"] == {} and found["files"] == {} and found["environment"] == {}
    assert run(["verify", "ka", "@16", "-w", str(swept)]) == 0
    assert "the confusion matrices of all 4 images are identical" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in swept.rglob("*") if file.is_file()} == before


def test_a_translator_has_its_files_checked(workspace: Path, capsys: Capture) -> None:
    folder = stage(workspace, "translator")
    assert answer(capsys, "verify", folder.key, "-w", str(workspace))[1]["images"] == 0
    folder.weights_file.write_bytes(folder.weights_file.read_bytes()[:-1])
    code, found = answer(capsys, "verify", folder.key, "-w", str(workspace))
    assert code == 1 and found["files"] == {"weights.safetensors": "changed"}


def test_where_the_matrices_differ_is_said(workspace: Path, capsys: Capture) -> None:
    """The record of another network's matrices: the images that differ are named, with the pixels that moved."""
    folder, other = stage(workspace, "ka"), stage(workspace, "none")
    shutil.copyfile(other.path / "confusion.npz", folder.path / "confusion.npz")
    record = json.loads(folder.record_file.read_bytes())
    record["artefacts"]["confusion.npz"] = file_digest(folder.path / "confusion.npz")
    folder.record_file.write_text(json.dumps(record))
    code, found = answer(capsys, "verify", folder.key, "-w", str(workspace))
    assert code == 1 and 1 <= len(found["differing"]) <= found["images"] == 4 and found["files"] == {}
    assert run(["verify", folder.key, "-w", str(workspace)]) == 1
    said = capsys.readouterr().out
    assert "different: the confusion matrices of" in said and next(iter(found["differing"])) in said


def test_changed_files_and_changed_data_are_named(workspace: Path, capsys: Capture) -> None:
    folder = stage(workspace, "none")
    (folder.path / "confusion.npz").unlink()
    code, found = answer(capsys, "verify", folder.key, "-w", str(workspace))
    assert code == 1 and found["files"] == {"confusion.npz": "missing"} and found["miou"][0] == found["miou"][1]
    folder.weights_file.unlink()
    assert run(["verify", folder.key, "-w", str(workspace)]) == 2
    assert "its weights are missing" in capsys.readouterr().err
    assert run(["verify", "zzzz", "-w", str(workspace)]) == 2


def test_stored_weights_are_evaluated_on_a_split_of_ones_choice(
    swept: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reported split gives the record's numbers; another gives those of its own images. Nothing is written."""
    before = {file: file.read_bytes() for file in swept.rglob("*") if file.is_file()}
    record = stage(swept, "ka").record()
    assert record.metrics
    code, found = answer(capsys, "evaluate", "ka @16", "-w", str(swept))
    (label,) = found
    (scores,) = found[label]["runs"]
    assert code == 0 and scores["key"] == record.key and scores["split"] == record.metrics.split
    assert scores["values"] == {name: value.value for name, value in record.metrics.values.items()}
    assert scores["per_class_iou"] == record.metrics.per_class_iou and found[label]["mean"] == scores["values"]
    code, other = answer(capsys, "evaluate", record.key, "none @16", "--split", "train", "-w", str(swept))
    one = next(iter(other.values()))["runs"][0]
    assert code == 0 and len(other) == 2 and one["split"] == "train" and one["images"] != scores["images"]
    assert one["values"]["miou"] != scores["values"]["miou"]
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["evaluate", "ka @16", "--split", "val", "-w", str(swept)]) == 0
    said = capsys.readouterr().out
    assert "on val" in said and "mIoU [%]" in said and "boundary" in said and "interior" in said
    assert {file: file.read_bytes() for file in swept.rglob("*") if file.is_file()} == before


def test_what_cannot_be_evaluated_is_said(workspace: Path, capsys: Capture) -> None:
    folder = stage(workspace, "none")
    assert run(["evaluate", "none @16", "--split", "tset", "-w", str(workspace)]) == 2
    assert "has no split 'tset'" in (said := capsys.readouterr().err) and "it has train" in said
    assert run(["evaluate", "nothing @16", "-w", str(workspace)]) == 2
    folder.weights_file.write_bytes(folder.weights_file.read_bytes()[:-1])
    assert run(["evaluate", "none @16", "-w", str(workspace)]) == 2
    assert "its weights are not those of its record" in capsys.readouterr().err
    folder.weights_file.unlink()
    assert run(["evaluate", folder.key, "-w", str(workspace)]) == 2
    assert "its weights are missing" in capsys.readouterr().err


def test_differing_images_counts_pixels_that_moved() -> None:
    then = Evaluation(np.array([[[5, 1], [0, 4]], [[2, 0], [0, 2]]], np.uint32), ("a", "b"))
    now = Evaluation(np.array([[[4, 2], [0, 4]], [[2, 0], [0, 2]], [[1, 0], [0, 0]]], np.uint32), ("a", "b", "c"))
    assert differing_images(then, now) == {"a": 1, "c": 1}
    assert differing_images(then, then) == {}


@pytest.mark.parametrize("method", ["ka", "translator"])
def test_a_run_trained_again_ends_with_the_same_weights(workspace: Path, capsys: Capture, method: str) -> None:
    folder = stage(workspace, method)
    before = {file: file.read_bytes() for file in (workspace / "stages").rglob("*") if file.is_file()}
    code, found = answer(capsys, "rerun", folder.key, "-w", str(workspace))
    assert code == 0 and found["same"] and found["weights_same"] and not found["differing"], found
    assert Path(found["folder"]).is_relative_to(workspace / "reruns")
    assert {file: file.read_bytes() for file in (workspace / "stages").rglob("*") if file.is_file()} == before


def test_a_rerun_says_what_differs_and_refuses_a_wrong_parent(workspace: Path, tmp_path: Path, capsys: Capture) -> None:
    folder, into = stage(workspace, "none"), tmp_path / "again"
    record = json.loads(folder.record_file.read_bytes())
    record["environment"] |= {"revision": "of old", "dirty": False}
    record["environment"]["versions"]["torch"] = "1.0"
    folder.record_file.write_text(json.dumps(record))
    assert run(["rerun", folder.key, "-w", str(workspace), "--into", str(into)]) == 0
    said = capsys.readouterr().out
    assert "weights: identical" in said and "code: of old then" in said and "torch: 1.0 then" in said
    assert run(["rerun", folder.key, "-w", str(workspace), "--into", str(into)]) == 2  # it is there already
    assert run(["rerun", folder.key, "-w", str(workspace), "--into", str(workspace)]) == 2
    assert "cannot use the workspace of the original run" in capsys.readouterr().err
    teacher = stage(workspace, "teacher")
    teacher.weights_file.write_bytes(stage(workspace, "none").weights_file.read_bytes())
    assert run(["rerun", stage(workspace, "ka").key, "-w", str(workspace)]) == 2
    assert "its weights are missing or have changed" in capsys.readouterr().err


def test_environments_are_compared_field_by_field(swept: Path) -> None:
    then = stage(swept, "none").record().environment
    now = then.model_copy(update={"device": "cuda:0: X", "versions": {**then.versions, "extra": "2"}})
    assert changed_environment(then, now) == {"device": (then.device, "cuda:0: X"), "extra": ("absent", "2")}
    assert changed_environment(then, then) == {}
