"""A run that was stopped, killed, or killed while it wrote a checkpoint ends with the weights of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.workspace.files
from harness.planning.plan import Plan
from harness.system.code import tree_digest
from harness.worker import DONE, FAILED, INTERRUPTED, main
from harness.workspace.folders import StageFolder, Workspace
from results.record import codes_behind
from tests.end_to_end.tiny import After, Never, in_a_process, job_of, make_plan, only_student, run_all, tiny_sweep

METHODS = [
    "none",
    "ka",
    "cirkd[pixel_memory=40,region_memory=10,anchors=16]",
    "skd[holistic=0.1]",
    "mgd",
    "maskd",
]
"""Nothing, adapters with a translator, memories, a discriminator with an optimiser, random masks, learned tokens."""
PLAIN_AND_STATEFUL = pytest.mark.parametrize("whole", ["none", "skd[holistic=0.1]"], indirect=True)
"""For what depends on files alone: which method is trained makes no difference to how they are read and written."""


@pytest.fixture(scope="module", params=METHODS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan with one student, and a workspace in which it ran without interruption."""
    plan = make_plan(tiny_sweep(methods=(request.param,)))
    root = tmp_path_factory.mktemp("whole")
    run_all(plan, root)
    return plan, root


@pytest.fixture
def again(whole: tuple[Plan, Path], tmp_path: Path) -> tuple[Plan, Path, StageFolder]:
    """The same workspace with the student's folder taken away."""
    plan, root = whole
    copy = tmp_path / "again"
    shutil.copytree(root, copy)
    folder = Workspace(copy).stage(only_student(plan).key)
    shutil.rmtree(folder.path)
    return plan, copy, folder


def _run(plan: Plan, root: Path, stop: Any) -> int:
    return main(job_of(plan, only_student(plan), root).write(), stop=stop)


def _same(whole: tuple[Plan, Path], folder: StageFolder) -> None:
    reference = Workspace(whole[1]).stage(folder.key)
    assert folder.weights_file.read_bytes() == reference.weights_file.read_bytes()
    ours, theirs = folder.record(), reference.record()
    assert ours.metrics == theirs.metrics
    assert ours.training.terms == theirs.training.terms
    assert ours.training.samples_seen == theirs.training.samples_seen
    assert ours.artefacts["confusion.npz"] == theirs.artefacts["confusion.npz"]


@pytest.mark.parametrize("after", [1, 5])
def test_stopped_and_gone_on_with(whole: tuple[Plan, Path], again: Any, after: int) -> None:
    plan, root, folder = again
    assert _run(plan, root, After(after)) == INTERRUPTED
    assert not folder.done() and folder.checkpoint_file.is_file()
    assert _run(plan, root, Never()) == DONE
    _same(whole, folder)
    attempts = folder.record().attempts
    assert [a.outcome for a in attempts] == ["interrupted", "done"]
    assert attempts[1].resumed_at == after + 1
    assert codes_behind(attempts) == [tree_digest()]


def _kill_at(call: int, path_end: str) -> Callable[[], None]:
    """Make this process kill itself in the middle of the n-th write of such a file: half is written."""
    count = 0
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal count
        if path_end in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            count += 1
            if count == call:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    def arm() -> None:
        harness.workspace.files.os.fsync = fsync  # type: ignore[attr-defined]

    return arm


def test_killed_while_writing_a_checkpoint(whole: tuple[Plan, Path], again: Any) -> None:
    _killed_while_writing(3, whole, again)


@PLAIN_AND_STATEFUL
def test_killed_while_writing_the_first_checkpoint(whole: tuple[Plan, Path], again: Any) -> None:
    _killed_while_writing(1, whole, again)


def _killed_while_writing(write: int, whole: tuple[Plan, Path], again: Any) -> None:
    plan, root, folder = again
    arm = _kill_at(write, "checkpoint.pt")

    def work() -> int:
        arm()
        return _run(plan, root, Never())

    assert in_a_process(work) == -signal.SIGKILL
    assert folder.checkpoint_file.is_file() == (write > 1)
    assert _run(plan, root, Never()) == DONE
    _same(whole, folder)
    assert folder.record().attempts[-1].resumed_at == (write - 1) * 2


@PLAIN_AND_STATEFUL
def test_killed_while_writing_the_record(whole: tuple[Plan, Path], again: Any) -> None:
    plan, root, folder = again
    arm = _kill_at(1, "record.json")

    def work() -> int:
        arm()
        return _run(plan, root, Never())

    assert in_a_process(work) == -signal.SIGKILL
    assert not folder.done()
    assert _run(plan, root, Never()) == DONE
    _same(whole, folder)


@PLAIN_AND_STATEFUL
def test_a_damaged_checkpoint_means_from_the_beginning(whole: tuple[Plan, Path], again: Any) -> None:
    plan, root, folder = again
    assert _run(plan, root, After(3)) == INTERRUPTED
    folder.checkpoint_file.write_bytes(folder.checkpoint_file.read_bytes()[:1000])
    assert _run(plan, root, Never()) == DONE
    _same(whole, folder)


@pytest.mark.parametrize("whole", ["none"], indirect=True)
def test_a_checkpoint_of_other_code_is_refused(again: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plan, root, folder = again
    assert _run(plan, root, After(3)) == INTERRUPTED
    state = torch.load(folder.checkpoint_file, weights_only=True)
    name = next(iter(state["objective"]))
    state["objective"]["renamed"] = state["objective"].pop(name)
    torch.save(state, folder.checkpoint_file)
    assert _run(plan, root, Never()) == FAILED
    said = capsys.readouterr().err
    assert f"{folder.checkpoint_file} does not fit" in said and "delete the file" in said and name in said
    folder.checkpoint_file.unlink()
    assert _run(plan, root, Never()) == DONE
