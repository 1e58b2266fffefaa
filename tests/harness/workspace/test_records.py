"""Records: what is written can be read; what cannot be read is set aside and named; what is newer is left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, StageFailed
from harness.workspace.folders import InvalidRecord, NewerRecord, StageFolder, Workspace
from harness.workspace.status import State, stage_state
from results.record import Record
from tests.results.factory import record_of

KEY = "abc123"


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    """A stage that is done."""
    found = Workspace(tmp_path).stage(KEY)
    found.write_record(record_of(KEY))
    return found


def edit(folder: StageFolder, **changes: Any) -> bytes:
    """Change fields of the record's file; its content."""
    content = json.dumps(json.loads(folder.record_file.read_bytes()) | changes).encode()
    folder.record_file.write_bytes(content)
    return content


def with_health(record: Record, value: float) -> None:
    record.training.health = {"latent_variance": value}


def with_miou(record: Record, value: float) -> None:
    assert record.metrics is not None
    record.metrics.miou = value


def with_loss(record: Record, value: float) -> None:
    record.training.loss_last = value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("change", [with_health, with_miou, with_loss])
def test_what_is_written_can_be_read_or_is_not_written(
    tmp_path: Path, change: Callable[[Record, float], None], value: float
) -> None:
    """JSON has no NaN: a mean over nothing must not make a record that its own schema refuses."""
    folder, record = Workspace(tmp_path).stage(KEY), record_of(KEY)
    change(record, value)
    try:
        folder.write_record(record)
    except StageFailed as error:
        assert KEY in error.message and not folder.record_file.exists() and folder.missing()
    else:
        assert folder.done() and folder.record().key == KEY


@pytest.mark.parametrize(
    "changes", [{"kind": "nothing"}, {"key": "another"}, {"spec": None}, {"schema_version": "one"}]
)
def test_what_is_no_record_is_not_written(folder: StageFolder, changes: dict[str, Any]) -> None:
    before = folder.record_file.read_bytes()
    with pytest.raises(StageFailed, match=f"the record of stage {KEY} could not be read back"):
        folder.write_record(record_of(KEY).model_copy(update=changes))
    assert folder.record_file.read_bytes() == before


def test_a_stage_without_a_record_is_missing(tmp_path: Path) -> None:
    folder = Workspace(tmp_path).stage(KEY)
    assert folder.missing() and not folder.done() and folder.set_aside_record() == ""
    with pytest.raises(HarnessError, match="has no record"):
        folder.record()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f.record_file.write_bytes(f.record_file.read_bytes()[:-40]), "Invalid JSON"),
        (lambda f: f.record_file.write_bytes(b""), "Invalid JSON"),
        (lambda f: f.record_file.write_bytes(b"\xff\xfe"), "Invalid JSON"),
        (lambda f: f.record_file.write_text("[]"), "Input should be an object"),
        (lambda f: edit(f, attempts=None), "attempts: Input should be a valid array"),
        (lambda f: edit(f, key="another"), "it belongs to stage another"),
        (lambda f: edit(f, colour="red"), "colour: Extra inputs are not permitted"),
        (lambda f: edit(f, schema_version=0), "schema_version: Input should be 1"),
        (lambda f: edit(f, schema_version="2"), "schema_version: Input should be 1"),
        (lambda f: f.record_file.write_text("[" * 100_000 + "]" * 100_000), "Invalid JSON"),
    ],
)
def test_a_bad_record_is_set_aside_and_named(
    folder: StageFolder, damage: Callable[[StageFolder], Any], said: str
) -> None:
    damage(folder)
    content = folder.record_file.read_bytes()
    assert folder.missing() and not folder.done()
    with pytest.raises(InvalidRecord, match=KEY):
        folder.record()
    state, reason, _ = stage_state(folder)
    assert state == State.LOST and said in reason
    note = folder.set_aside_record()
    assert str(folder.record_file) in note and said in note and "record-invalid-1.json" in note
    assert (folder.path / "record-invalid-1.json").read_bytes() == content and not folder.record_file.exists()
    folder.write_record(record_of(KEY))
    assert folder.done() and folder.set_aside_record() == ""


def test_several_bad_records_are_all_kept(folder: StageFolder) -> None:
    for number in (1, 2, 3):
        folder.record_file.write_text(str(number))
        assert f"record-invalid-{number}.json" in folder.set_aside_record()
    assert [(folder.path / f"record-invalid-{n}.json").read_text() for n in (1, 2, 3)] == ["1", "2", "3"]


@pytest.mark.parametrize("changes", [{"schema_version": 2}, {"schema_version": 17, "kind": "ensemble", "key": 5}])
def test_a_newer_record_is_neither_missing_nor_overwritten(folder: StageFolder, changes: dict[str, Any]) -> None:
    content = edit(folder, **changes)
    version = changes["schema_version"]
    assert folder.done() and folder.set_aside_record() == ""
    for call in (folder.record, folder.missing, lambda: folder.write_record(record_of(KEY))):
        with pytest.raises(NewerRecord, match=rf"newer version of the harness \(schema {version}, this one knows 1\)"):
            call()
    assert folder.record_file.read_bytes() == content
    assert stage_state(folder)[0] == State.DONE and "newer version" in stage_state(folder)[1]
