"""Times of students from the rehearsal of those that represent them."""

from __future__ import annotations

from pathlib import Path

from harness.launch.base import Options
from harness.launch.trials import measured_times, plan_trials
from harness.planning.estimate import StepTime
from harness.planning.plan import make_plan
from harness.workspace.folders import Workspace
from harness.workspace.trials import Trial, remember_stages, write_trial
from tests.end_to_end.tiny import CHANGES, tiny_sweep


def test_a_network_that_was_not_rehearsed_with_a_method_takes_as_long_as_with_another(tmp_path: Path) -> None:
    plan = make_plan(tiny_sweep(methods=("none", "kd"), strides=(8, 16), set={**CHANGES, "iterations": 1000}))
    keys, workspace = list(plan.nodes), Workspace(tmp_path)
    assert measured_times(plan, keys, workspace) == {}
    trials = plan_trials(plan, keys, Options(workspace, ""), [(32, 32)], "here")
    remember_stages(workspace, trials.keys)
    assert measured_times(plan, keys, workspace) == {}
    for each in trials.rehearsal.trials:
        word, name = each.job.stage.model.word, each.job.name
        teacher = 7.0 if "teacher" in each.job.stage.parents else 0.0
        write_trial(workspace, each.key, Trial(name=name, own_ms=30 if word.endswith("@8") else 20, teacher_ms=teacher))
    found = measured_times(plan, keys, workspace)
    named = {node.cell.method + f"@{node.cell.stride}": found[key] for key, node in plan.nodes.items() if key in found}
    assert named == {
        "none@8": StepTime(30, 0),
        "none@16": StepTime(20, 0),
        "kd@8": StepTime(30, 7),
        "kd@16": StepTime(20, 7),
    }
