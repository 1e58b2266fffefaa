"""What can be deleted: never a record, never what another stage depends on, and nothing without --yes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from harness.cli.app import run
from harness.errors import HarnessError
from harness.workspace.folders import Workspace
from harness.workspace.prune import CHECKPOINT, STUDENT, TEMPORARY, find_removable
from tests.results.factory import Fake, sweep, write_all

FAKES = sweep(("none", "kd", "ka"), (16, 32), (0,), images=3)
STUDENTS = [fake for fake in FAKES if fake.method != "teacher"]
BEST = {fake.key for fake in STUDENTS if fake.method == "ka"}
"""Of each stride."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace in which every stage has weights of its own size."""
    root = write_all(tmp_path, FAKES)
    for place, fake in enumerate(FAKES):
        (root / "stages" / fake.key / "weights.safetensors").write_bytes(b"w" * (1000 + place))
    return root


def stage(root: Path, fake: Fake) -> Path:
    return root / "stages" / fake.key


def test_checkpoints_of_what_is_done_and_old_temporaries(root: Path) -> None:
    done, running = stage(root, STUDENTS[0]), root / "stages" / "abc123"
    (done / "checkpoint.pt").write_bytes(b"c" * 7)
    running.mkdir()
    (running / "checkpoint.pt").write_bytes(b"needed to go on")
    for name, age in ((".record.json.host.1.tmp", 7200), (".spec.json.host.2.tmp", 10)):
        (done / name).write_bytes(b"12345")
        os.utime(done / name, (time.time() - age, time.time() - age))
    found = find_removable(Workspace(root))
    assert [(each.path, each.size, each.why) for each in found] == [
        (done / ".record.json.host.1.tmp", 5, TEMPORARY),
        (done / "checkpoint.pt", 7, CHECKPOINT),
    ]


def test_students_weights_but_for_the_best(root: Path) -> None:
    found = find_removable(Workspace(root), weights=True)
    expected = {stage(root, fake) / "weights.safetensors" for fake in STUDENTS if fake.key not in BEST}
    assert {each.path for each in found} == expected and {each.why for each in found} == {STUDENT}
    assert len(find_removable(Workspace(root), weights=True, keep=0)) == len(STUDENTS)
    assert not find_removable(Workspace(root), weights=True, keep=3)


@pytest.mark.parametrize("said_by", ["record", "newer record", "plan", "spec", "job"])
def test_what_another_depends_on_is_never_offered(root: Path, said_by: str) -> None:
    """Whatever says so: a record (also one that cannot be read here), a saved plan, a stage that has only begun."""
    parent, child = STUDENTS[0], root / "stages" / "child1"
    weights = stage(root, parent) / "weights.safetensors"
    if said_by == "plan":
        (root / "sweeps").mkdir()
        planned = {"key": "child1", "name": "c", "kind": "student", "parents": [parent.key]}
        (root / "sweeps" / "a.json").write_text(json.dumps({"stages": [planned]}))
    else:
        child.mkdir()
        name = {"spec": "spec.json", "job": "job.json"}.get(said_by, "record.json")
        said = {"weights": {"sha": str(weights)}} if said_by == "job" else {"parents": {"teacher": parent.key}}
        (child / name).write_text(json.dumps({"schema_version": 99 if "newer" in said_by else 1, **said}))
    offered = {each.path for each in find_removable(Workspace(root), weights=True, keep=0)}
    assert weights not in offered and len(offered) == len(STUDENTS) - 1


def test_nothing_goes_without_yes_and_no_record_ever(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "--weights", "-w", str(root)]
    records = {file: file.read_bytes() for file in root.rglob("record.json")}
    size = sum(each.size for each in find_removable(Workspace(root), weights=True))
    assert run(words) == 0
    assert f"{size} bytes could be deleted: give --yes" in capsys.readouterr().out
    assert all((stage(root, fake) / "weights.safetensors").is_file() for fake in FAKES)
    assert run([*words, "--yes"]) == 0
    assert f"{size} bytes deleted" in capsys.readouterr().out
    left = {path.parent.name for path in root.rglob("weights.safetensors")}
    assert left == BEST | {fake.key for fake in FAKES if fake.method == "teacher"}
    assert {file: file.read_bytes() for file in root.rglob("record.json")} == records
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [], "bytes": 0, "deleted": False}


def test_a_living_attempt_keeps_its_files(root: Path) -> None:
    folder = Workspace(root).stage(STUDENTS[0].key)
    (folder.path / "checkpoint.pt").write_bytes(b"c")
    folder.new_attempt().begin()
    assert not find_removable(Workspace(root))
    offered = {each.path for each in find_removable(Workspace(root), weights=True, keep=0)}
    assert folder.weights_file not in offered


def test_only_a_workspace_is_pruned(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not a workspace"):
        find_removable(Workspace(tmp_path / "nowhere"))
