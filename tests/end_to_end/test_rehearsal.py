"""Stages are tried out on the device before anything is launched: what would fail later is said at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.evaluation.fitting import Fitting
from harness.launch.base import Options
from harness.launch.trials import UNFINISHED, plan_trials
from harness.planning.plan import Plan, make_plan
from harness.stage.rehearsal import Rehearsing
from harness.training.learner import Learner
from harness.worker import DONE, REFUSED, main
from harness.workspace.folders import Workspace
from harness.workspace.trials import Trial, write_trial
from tests.end_to_end.tiny import CHANGES, Never, job_of, only_student, tiny_flags, tiny_sweep
from tests.processes import harness as run

PLUGIN = """
import os
import signal

from methods.base import Method, Term


class _Own(Method):
    summary = "goes wrong in its first step"
    terms = {"own": Term(weight=1.0)}
    needs_teacher = False

    def forward(self, step):
        if self.training and step.images.std() > 0:
            self.misbehave()
        return {"own": step.student.logits.square().mean()}


class Breaks(_Own):
    name = "breaks"

    def misbehave(self):
        raise ValueError("no such class")


class Dies(_Own):
    name = "dies"

    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)
"""
LONG = {**CHANGES, "iterations": 100}


def test_what_fails_in_its_first_step_fails_before_anything_is_launched(tmp_path: Path) -> None:
    plugin, root = tmp_path / "wrong.py", tmp_path / "runs"
    plugin.write_text(PLUGIN)
    words = (*tiny_flags(root, methods="kd,breaks,dies"), "--set", "iterations=100", "--plugin", str(plugin))
    done = run("sweep", *words)
    assert done.returncode == 2, done.stderr
    assert "breaks timm:test_efficientnet/linear@16 seed 0 cannot be run here: method 'breaks' (" in done.stderr
    assert "no such class; 1 more cannot either. Nothing was launched" in done.stderr
    assert not (root / "stages").exists() and not (root / "sweeps").exists()
    found = {trial.name.split()[0]: trial.problem for trial in _read(root)}
    assert found["kd"] == "" and found["teacher"] == "" and found["dies"] == UNFINISHED


def test_a_process_that_died_while_a_stage_was_tried_out(tmp_path: Path) -> None:
    plan = make_plan(tiny_sweep(methods=("none",), set=LONG))
    trials = plan_trials(plan, list(plan.nodes), _options(tmp_path), [(32, 32)], "here")
    trials.expect()
    assert trials.done() == 0
    with pytest.raises(
        HarnessError, match=r"^none .* cannot be run here: it was killed. Nothing was launched \(see .*log"
    ):
        trials.refuse("it was killed")
    write_trial(Workspace(tmp_path), trials.rehearsal.trials[0].key, Trial(name="none", at_once=4, tiled=1))
    trials.refuse()
    assert trials.done() == 1 and "does not fit into memory; evaluated in tiles" in trials.notes()[0]


def _read(root: Path) -> list[Trial]:
    return [Trial.model_validate_json(file.read_bytes()) for file in (root / "checks" / "trials").iterdir()]


def _options(root: Path) -> Options:
    return Options(Workspace(root), "", device="cpu", threads=1)


def _trials(plan: Plan, root: Path, images: tuple[tuple[int, int], ...] = ((32, 32),)) -> Mapping[str, Trial | None]:
    asked = plan_trials(plan, list(plan.nodes), _options(root), images, "here")
    return {trial.job.name: None for trial in asked.rehearsal.trials}


def test_each_network_and_each_method_is_tried_out_once(tmp_path: Path) -> None:
    plan = make_plan(tiny_sweep(methods=("none", "kd", "ka"), strides=(8, 16, 32), seeds=(0, 1), set=LONG))
    found = sorted(name.replace("timm:", "").replace("/linear", "") for name in _trials(plan, tmp_path))
    assert found == [
        "ka test_efficientnet@8 seed 0",
        "kd test_efficientnet@8 seed 0",
        "none test_efficientnet@16 seed 0",
        "none test_efficientnet@32 seed 0",
        "none test_efficientnet@8 seed 0",
        "teacher test_resnet@8",
        "translator ka of test_resnet@8",
    ]
    assert not _trials(make_plan(tiny_sweep(methods=("kd",))), tmp_path), "as long as eight iterations take anyway"


def test_stages_are_tried_out_without_their_parents_and_leave_nothing(tmp_path: Path) -> None:
    plan = make_plan(tiny_sweep(methods=("ka", "cirkd"), set=LONG))
    asked = plan_trials(plan, list(plan.nodes), _options(tmp_path), [(32, 32)], "here").rehearsal
    rehearsing, found = Rehearsing(asked.parents), {}
    for each in asked.trials:
        trial = found[each.job.name.split()[0]] = rehearsing.try_out(each)
        write_trial(Workspace(tmp_path), each.key, trial)
        assert trial.held_bytes > 0 and trial.step_bytes > trial.held_bytes / 100 and trial.own_ms > 0
    assert set(found) == {"teacher", "translator", "ka", "cirkd"}
    assert found["teacher"].teacher_bytes == 0 < found["ka"].teacher_bytes == found["cirkd"].teacher_bytes
    assert (found["translator"].at_once, found["ka"].at_once) == (0, 8)
    assert not (tmp_path / "stages").exists()
    assert not _trials(plan, tmp_path), "what went well is not tried out again"
    assert len(_trials(plan, tmp_path, ((32, 32), (64, 64)))) == 4 - 1, "but for other images, if any are evaluated"


def test_a_step_for_which_memory_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tiny_sweep(methods=("none",), set=LONG))
    asked = plan_trials(plan, list(plan.nodes), _options(tmp_path), [(32, 32)], "here").rehearsal

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Learner, "step", full)
    with pytest.raises(HarnessError, match=r"a batch of 4 crops of 32x32.*--set batch_size=2"):
        Rehearsing(asked.parents).try_out(asked.trials[0])


def test_a_job_on_a_cluster_evaluates_the_largest_image_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which changes nothing of what it trains; and what does not fit is said before the first iteration."""
    plan = make_plan(tiny_sweep(methods=("none",)))
    node = only_student(plan)
    weights = []
    for root, largest in ((tmp_path / "a", None), (tmp_path / "b", (70, 90))):
        job = job_of(plan, node, root, largest_image=largest)
        assert main(job.write(), stop=Never()) == DONE
        weights.append(job.folder.weights_file.read_bytes())
    assert weights[0] == weights[1]
    monkeypatch.setattr(Fitting, "_predicted", lambda *_: None)
    job = job_of(plan, node, tmp_path / "c", largest_image=(70, 90))
    assert main(job.write(), stop=Never()) == REFUSED
    (attempt,) = job.folder.attempts()
    assert "one image of 70x90 does not fit for evaluation" in (attempt.outcome() or {})["reason"]
    assert '"progress"' not in attempt.events.read_text() and not job.folder.checkpoint_file.exists()
