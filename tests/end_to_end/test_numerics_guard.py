"""A machine whose convolutions are wrong in the precision asked for: the run trains in another, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import harness.stage.member
from harness.numerics import kernels
from harness.numerics.choose import choose_numerics
from harness.numerics.convolutions import ConvCase, torch_convolve
from harness.worker import DONE, main
from harness.workspace.folders import Workspace
from tests.end_to_end.tiny import CHANGES, Never, job_of, make_plan, only_student, tiny_sweep


def _wrong_in_bf16(case: ConvCase, x: Tensor, weight: Tensor) -> Tensor:
    y = torch_convolve(case, x, weight)
    return y * 2 if y.dtype is torch.bfloat16 else y


def _counting(call: Callable[..., Tensor], taken: list[Tensor], x: Tensor, *rest: Any) -> Tensor:
    taken.append(x)
    return call(x, *rest)


def test_a_stage_trains_with_gradients_of_our_own_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A depthwise convolution at a dilation of 2 is in every MobileNet-like student below stride 32."""
    taken: list[Tensor] = []

    monkeypatch.setattr(kernels, "weight_gradient", partial(_counting, kernels.weight_gradient, taken))
    plan = make_plan(tiny_sweep(strides=(8,), set={**CHANGES, "precision": "bf16"}))
    node = only_student(plan)
    assert main(job_of(plan, node, tmp_path).write(), stop=Never()) == DONE
    training = Workspace(tmp_path).stage(node.key).record().training
    assert (training.precision, training.channels_last, training.numerics) == ("bf16", True, "")
    assert training.kernels.startswith("own gradients of")
    assert len(taken) >= CHANGES["iterations"]  # type: ignore[operator]


def test_the_fallback_stands_in_log_record_and_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.stage.member, "choose_numerics", partial(choose_numerics, convolve=_wrong_in_bf16))
    plan = make_plan(tiny_sweep(set={**CHANGES, "precision": "bf16"}))
    node = only_student(plan)
    assert main(job_of(plan, node, tmp_path).write(), stop=Never()) == DONE
    folder = Workspace(tmp_path).stage(node.key)
    training = folder.record().training
    assert (training.precision_asked, training.precision) == ("bf16", "fp32")
    assert "bf16" in training.numerics
    attempt = folder.last_attempt()
    assert attempt is not None
    notes = [json.loads(line) for line in attempt.events.read_text().splitlines() if '"note"' in line]
    assert [note["text"] for note in notes] == [training.numerics]
