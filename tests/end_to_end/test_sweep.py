"""The whole path, as a user walks it: the command, the workspace, the database, the leaderboard."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from harness.workspace.folders import Workspace
from tests.end_to_end.tiny import stage_folders, tiny_flags
from tests.processes import Command
from tests.processes import harness as run

PLUGIN = """
from methods.base import Method, Term


class Broken(Method):
    name = "broken"
    summary = "raises in its third iteration"
    terms = {"boom": Term(weight=1.0)}
    needs_teacher = False

    def forward(self, step):
        if step.iteration >= 2:
            raise RuntimeError("on purpose")
        return {"boom": step.student.logits.mean()}
"""


def records(root: Path) -> dict[str, bytes]:
    """Every record of a workspace, by key."""
    return {folder.key: folder.record_file.read_bytes() for folder in stage_folders(root) if folder.done()}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which none and ka were swept over two strides."""
    root = tmp_path_factory.mktemp("sweep") / "runs"
    done = run("sweep", *tiny_flags(root, methods="none,ka", strides="16,32"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mIoU" in done.stdout
    return root


def test_stages_are_shared_and_every_record_is_whole(swept: Path) -> None:
    found = [folder.record() for folder in stage_folders(swept)]
    kinds = [record.kind for record in found]
    assert (kinds.count("student"), kinds.count("teacher"), kinds.count("translator")) == (4, 1, 1)
    for record in found:
        assert record.attempts[-1].outcome == "done"
        assert record.artefacts["weights.safetensors"]
        assert record.reproduce.startswith("harness sweep")
        if record.kind == "student":
            assert record.metrics and record.cost and 0 <= record.metrics.miou <= 1
            assert record.metrics.split == "test" and record.metrics.best and record.metrics.best.split == "val"
            assert record.cost.macs > 0 and record.cost.latency
            assert set(record.artefacts) >= {"confusion.npz", "weights.safetensors"}
    ka = next(r for r in found if r.cell and r.cell.method == "ka")
    assert set(ka.training.terms) == {"ce", "ka.adapt", "ka.affinity"}
    assert set(ka.parents) == {"teacher", "translator:ka"}


def test_the_same_sweep_again_does_nothing_but_say_so(swept: Path) -> None:
    before = records(swept)
    again = run("sweep", *tiny_flags(swept, methods="ka[beta=50],none", strides="32,16"))
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout and "6 of 6 stages exist already" in again.stdout
    assert records(swept) == before


def test_another_seed_trains_only_what_is_new(swept: Path) -> None:
    before = records(swept)
    more = run("sweep", *tiny_flags(swept, methods="none,ka", seeds="0,1"), "--json")
    assert more.returncode == 0, more.stderr
    after = records(swept)
    assert len(after) == len(before) + 2
    assert all(after[key] == content for key, content in before.items())


def test_the_database_can_be_deleted_and_made_again(swept: Path) -> None:
    first = run("leaderboard", "--workspace", str(swept), "--format", "json")
    (swept / "results.db").unlink()
    collected = run("collect", "--workspace", str(swept))
    assert collected.returncode == 0, collected.stderr
    second = run("leaderboard", "--workspace", str(swept), "--format", "json")
    assert first.stdout == second.stdout and json.loads(first.stdout)


def test_status_and_dry_run_read_and_change_nothing(swept: Path) -> None:
    before = records(swept)
    status = run("status", "--workspace", str(swept), "--json")
    assert status.returncode == 0
    assert {item["state"] for item in json.loads(status.stdout)} == {"done"}
    planned = run("sweep", *tiny_flags(swept, methods="none,ka", seeds="0,7"), "--dry-run", "--json")
    data = json.loads(planned.stdout)
    assert sum(not stage["done"] for stage in data["stages"]) == 2
    assert records(swept) == before


def test_one_failed_stage_never_stops_the_others(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN)
    root = tmp_path / "runs"
    done = run("sweep", *tiny_flags(root, methods="broken,none"), "--plugin", str(plugin))
    assert done.returncode == 1
    assert "broken" in done.stderr and "on purpose" in done.stderr and "line 13" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(records(root)) == 1
    status = run("status", "--workspace", str(root), "--json")
    assert status.returncode == 1
    assert sorted(item["state"] for item in json.loads(status.stdout)) == ["done", "failed"]


def test_a_failed_teacher_blocks_its_own_students_only(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    flags = tiny_flags(root, methods="none,kd")
    done = run("sweep", *flags, "--set", "teacher.optimizer.lr=1e18")
    assert done.returncode == 1
    status = {i["name"]: i for i in json.loads(run("status", "--workspace", str(root), "--json").stdout)}
    states = {name.split()[0]: item["state"] for name, item in status.items()}
    assert states == {"none": "done", "teacher": "failed", "kd": "blocked"}
    blocked = next(item for item in status.values() if item["state"] == "blocked")
    assert "the loss is" in blocked["reason"]


def _started(words: list[str], root: Path) -> Command:
    """The command, once a stage of it has written a checkpoint."""
    process = Command(["-m", "harness", *words])
    deadline = time.monotonic() + 200
    while not list(root.glob("stages/*/checkpoint.pt")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_and_ends_the_same(swept: Path, tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "runs"
    words = ["sweep", *tiny_flags(root, methods="none"), "--checkpoint-every", "1"]
    process = _started(words, root)
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130 and "run the same command again" in output + errors
    (folder,) = stage_folders(root)
    _wait_until_gone(folder.attempts()[-1].started()["pid"])
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert folder.weights_file.read_bytes() == Workspace(swept).stage(folder.key).weights_file.read_bytes()


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "a worker outlived its launcher"
        time.sleep(0.2)


def test_a_plugin_that_returns_nan_is_named_with_its_file(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        PLUGIN.replace('raise RuntimeError("on purpose")', 'return {"boom": step.student.logits.sum() * 1e400 * 0}')
    )
    done = run("sweep", *tiny_flags(tmp_path / "runs", methods="broken"), "--plugin", str(plugin))
    assert done.returncode == 1
    assert "'boom'" in done.stderr and "broken.py" in done.stderr
