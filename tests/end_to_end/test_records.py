"""A sweep that meets records it cannot read: a bad one is set aside and run again, a newer one is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli.app import run
from harness.data.base import IGNORE, Sample
from harness.data.sets.shapes import Shapes, ShapesSplit
from harness.planning.plan import make_plan
from harness.worker import DONE, main
from harness.workspace.folders import StageFolder
from results.ingest import collect
from results.store import open_store
from tests.end_to_end.tiny import Never, job_of, run_all, stage_folders, tiny_flags, tiny_sweep


def sweep(root: Path, *words: str) -> int:
    return run(["sweep", *tiny_flags(root, methods="none"), "--device", "cpu", *words])


class Void(ShapesSplit):
    """Pictures whose labels count for nothing."""

    def _make(self, index: int) -> Sample:
        sample = super()._make(index)
        return replace(sample, label=np.full_like(sample.label, IGNORE))


@pytest.mark.parametrize("void", [("test",), ("val", "test")], ids="+".join)
def test_a_split_of_void_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, void: tuple[str, ...]
) -> None:
    """Its mIoU is a mean over nothing: the teacher is done, can be collected, and its student is trained."""
    monkeypatch.setattr(Shapes, "split", lambda self, name: (Void if name in void else ShapesSplit)(self.params, name))
    plan = make_plan(tiny_sweep(methods=("kd",)))
    run_all(plan, tmp_path)
    folders = stage_folders(tmp_path)
    assert len(folders) == 2 and all(folder.done() for folder in folders)
    for folder in folders:
        metrics = folder.record().metrics
        assert metrics is not None and metrics.best is not None
        assert math.isnan(metrics.miou) == ("test" in void) and math.isnan(metrics.best.miou) == ("val" in void)
    with open_store(str(tmp_path / "results.db")) as store:
        summary = collect(tmp_path, store)
    assert len(summary.added) == 2 and summary.invalid == []


@pytest.fixture
def swept(tmp_path: Path) -> StageFolder:
    """The one stage of a workspace in which `none` was swept."""
    assert sweep(tmp_path / "runs") == 0
    (folder,) = stage_folders(tmp_path / "runs")
    return folder


def test_a_bad_record_is_set_aside_and_its_stage_run_again(
    swept: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = swept.weights_file.read_bytes()
    record = json.loads(swept.record_file.read_bytes())
    record["metrics"]["images"] = None
    swept.record_file.write_text(json.dumps(record))
    capsys.readouterr()
    assert sweep(swept.path.parents[1]) == 0
    assert f"{swept.record_file} is not a valid record: metrics.images" in capsys.readouterr().err
    assert swept.record().metrics is not None and swept.weights_file.read_bytes() == weights
    assert json.loads((swept.path / "record-invalid-1.json").read_bytes()) == record


def test_a_sweep_says_with_its_exit_code_that_a_record_was_left_out(
    swept: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """As collect does, although all that this sweep asked for is done."""
    other = swept.path.with_name("f" * 20)
    other.mkdir()
    (other / "record.json").write_text('{"schema_version": 1, "name": "\\u001b[2J"}')
    assert sweep(swept.path.parents[1]) == 1
    said = capsys.readouterr().err
    assert f"not collected: {other}" in said and "\x1b" not in said


def test_a_newer_record_is_refused_before_anything_and_stays(
    swept: StageFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = swept.path.parents[1]
    content = json.dumps(json.loads(swept.record_file.read_bytes()) | {"schema_version": 2, "wings": 4})
    swept.record_file.write_text(content)
    capsys.readouterr()
    for words in ((), ("--dry-run",)):
        assert sweep(root, *words) == 2
        said = capsys.readouterr().err
        assert f"{swept.record_file} was written by a newer version" in said and "update the harness" in said
    plan = make_plan(tiny_sweep(methods=("none",)))
    assert main(job_of(plan, plan.nodes[swept.key], root).write(), stop=Never()) == DONE
    assert swept.record_file.read_text() == content and len(swept.attempts()) == 1
