"""The gradient of each term: against gradients taken by hand, and without a trace in what is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from harness.cli.app import run
from harness.planning.plan import make_plan
from harness.training.gradients import pulls
from harness.worker import main
from harness.workspace.events import read_events
from harness.workspace.folders import Workspace
from harness.workspace.status import save_sweep
from tests.end_to_end.tiny import Never, job_of, tiny_sweep


def test_norms_and_cosines_of_weighted_terms() -> None:
    layer = nn.Linear(3, 1, bias=False)
    direction, across = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 1.0, -2.0])
    output = lambda x: layer(x).squeeze()  # noqa: E731
    terms = {
        "ce": output(direction),
        "with": 5 * output(direction),
        "against": -output(direction),
        "across": output(across),
        "halfway": output(direction + across),
        "elsewhere": torch.ones((), requires_grad=True) * 2,
        "constant": torch.ones(()),
    }
    found = pulls(terms, {"with": 0.1, "against": 4.0, "halfway": 2.0}, layer.parameters())
    assert {name: pull.norm for name, pull in found.items()} == pytest.approx(
        {"ce": 3, "with": 1.5, "against": 12, "across": 3, "halfway": 2 * math.sqrt(18), "elsewhere": 0, "constant": 0}
    )
    assert [found[name].cosine for name in ("ce", "with", "against", "across", "halfway")] == pytest.approx(
        [1, 1, -1, 0, math.sqrt(0.5)], abs=1e-12
    )
    assert math.isnan(found["elsewhere"].cosine) and math.isnan(found["constant"].cosine)
    assert layer.weight.grad is None


def test_gradients_are_recorded_and_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = []
    for every in (0, 3):
        root = tmp_path / str(every)
        plan = make_plan(tiny_sweep(methods=("ka",)))
        save_sweep(Workspace(root), plan, "harness sweep --methods ka")
        order = {"teacher": 0, "translator": 1, "student": 2}
        for node in sorted(plan.nodes.values(), key=lambda node: order[node.spec.kind]):
            job = job_of(plan, node, root, gradients_every=every)
            assert main(job.write(), stop=Never()) == 0
        weights.append(load_file(job.folder.weights_file))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    attempt = job.folder.last_attempt()
    assert attempt is not None
    events = read_events(attempt.events, "gradients")
    assert [event["iteration"] for event in events] == [0, 3, 6]
    assert all(set(event["norms"]) == {"ce", "ka.adapt", "ka.affinity"} for event in events)
    assert all(event["cosines"]["ce"] == pytest.approx(1) and event["norms"]["ka.adapt"] > 0 for event in events)

    capsys.readouterr()
    assert run(["gradients", job.stage.key[:12], "-w", str(root), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["norms"] for row in shown["gradients"]] == [event["norms"] for event in events]
    assert run(["gradients", job.stage.key[:12], "-w", str(root)]) == 0
    printed = capsys.readouterr().out
    ratios = [event["norms"]["ka.affinity"] / event["norms"]["ce"] for event in events]
    assert f"{sorted(ratios)[1]:.3g} ({min(ratios):.3g} to {max(ratios):.3g})" in printed
    assert "|affinity|" in printed
    assert run(["gradients", job.stage.key[:12], "-w", str(tmp_path / "0")]) != 0
    assert "--gradients-every" in capsys.readouterr().err
