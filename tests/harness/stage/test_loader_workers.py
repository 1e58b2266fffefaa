"""How many processes load data when nobody said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.launch.run_sweep import _loader_workers
from harness.stage.run import loader_workers
from harness.system.devices import usable_cores
from harness.workspace.job import Job
from tests.end_to_end.tiny import job_of, make_plan, only_student, tiny_sweep

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def job(tmp_path: Path, **changes: object) -> Job:
    plan = make_plan(tiny_sweep())
    return job_of(plan, only_student(plan), tmp_path, **changes)


def test_none_on_a_cpu_and_all_cores_but_one_with_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    auto = job(tmp_path)
    assert auto.loader_workers is None
    assert loader_workers(auto, CPU, 1) == 0
    assert loader_workers(auto, GPU, 1) == 15
    assert loader_workers(auto, GPU, 2) == 7
    assert loader_workers(job(tmp_path, workers_beside=3), GPU, 1) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert loader_workers(auto, GPU, 4) == 1
    assert loader_workers(job(tmp_path, loader_workers=3), CPU, 1) == 3
    assert loader_workers(job(tmp_path, loader_workers=0), GPU, 1) == 0


def test_slurm_says_how_many_cores_a_task_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert usable_cores(sharing=2) == 6


def test_words() -> None:
    assert _loader_workers("auto") is None
    assert (_loader_workers("4"), _loader_workers(0)) == (4, 0)
    with pytest.raises(HarnessError, match="'many' is not a number of processes"):
        _loader_workers("many")
