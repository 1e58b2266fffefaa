"""Weights & Biases, offline: files below `WORKSPACE/wandb`, which `wandb sync` uploads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from harness.curves.base import CurveSink, MirroredRun

PROJECT = "segmentation-distillation"


class WandbSink(CurveSink):
    """One run per stage, with the stage's key as its id. Nothing is uploaded unless WANDB_MODE=online is set."""

    name = "wandb"
    summary = "offline files in WORKSPACE/wandb, for wandb sync; WANDB_MODE=online uploads at once"
    requires = ("wandb",)
    install = "pip install 'segmentation-distillation-harness[wandb]'"

    _run: Any = None

    def begin(self, run: MirroredRun) -> None:
        """Start the stage's run."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.key,
            name=run.name[:128],
            config=dict(run.facts),
            dir=str(run.workspace),
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            resume="allow" if os.environ.get("WANDB_MODE") == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )

    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        """One point of each curve; events of one iteration share a row."""
        self._run.log(dict(values), step=iteration)

    def end(self, outcome: str) -> None:
        """Finish the run; an exit code other than 0 marks it as failed."""
        self._run.finish(exit_code=0 if outcome == "done" else 1)
