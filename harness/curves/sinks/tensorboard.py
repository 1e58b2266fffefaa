"""TensorBoard: event files below `WORKSPACE/tensorboard`, one folder per stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.curves.base import CurveSink, MirroredRun
from results import sinks


class TensorBoardSink(CurveSink):
    """Uses torch's writer; events of an earlier attempt after the checkpoint are hidden (`purge_step`)."""

    name = "tensorboard"
    summary = "event files in WORKSPACE/tensorboard: tensorboard --logdir WORKSPACE/tensorboard"
    requires = ("tensorboard",)
    install = "pip install 'segmentation-distillation-harness[tensorboard]'"

    _writer: Any = None

    def begin(self, run: MirroredRun) -> None:
        """Open the stage's folder, named after it."""
        from torch.utils.tensorboard import SummaryWriter

        words = re.sub(r"[^A-Za-z0-9.+@=-]+", "_", f"{run.facts.get('kind', '')} {run.name}").strip("_.")
        folder = run.workspace / self.name / f"{words[:120]}-{run.key[:8]}"
        self._writer = SummaryWriter(str(folder), purge_step=run.resumed_at)
        lines = [f"{sinks.markdown(name)}: {sinks.markdown(value)}" for name, value in run.facts.items()]
        self._writer.add_text("run", "  \n".join(lines), run.resumed_at)

    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(sinks.visible(name), value, iteration, walltime=time_s)

    def end(self, outcome: str) -> None:
        """Close the files."""
        self._writer.close()
