"""MLflow: one run per stage, in the store given by MLFLOW_TRACKING_URI, or in a file of the workspace."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.curves.base import CurveSink, MirroredRun

EXPERIMENT = "segmentation distillation"
STATUS = {"done": "FINISHED", "failed": "FAILED"}
"""MLflow's names of outcomes; all others are "KILLED"."""


class MlflowSink(CurveSink):
    """Uses `MlflowClient`. A stage that is resumed continues its run, which is found by its key."""

    name = "mlflow"
    summary = "runs in WORKSPACE/mlflow.db, or where MLFLOW_TRACKING_URI says"
    requires = ("mlflow",)
    install = "pip install 'segmentation-distillation-harness[mlflow]'"

    _client: Any = None
    _run = ""

    @classmethod
    def prepare(cls, workspace: Path) -> None:
        """Create the store, since two workers that create it at once would damage it."""
        _experiment(_client(workspace), workspace)

    def begin(self, run: MirroredRun) -> None:
        """Create or find the stage's run."""
        self._client = _client(run.workspace)
        experiment = _experiment(self._client, run.workspace)
        before = self._client.search_runs([experiment], f"tags.key = '{run.key}'", max_results=1)
        if before and run.resumed_at:
            self._run = before[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {name: str(value) for name, value in run.facts.items()} | {"key": run.key}
        self._run = self._client.create_run(experiment, tags=tags, run_name=run.name).info.run_id

    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        """One point of each metric; characters that MLflow does not allow become underscores."""
        from mlflow.entities import Metric

        named = {re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name): value for name, value in values.items()}
        points = [Metric(name, value, int(1000 * time_s), iteration) for name, value in named.items()]
        self._client.log_batch(self._run, metrics=points)

    def end(self, outcome: str) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._run, STATUS.get(outcome, "KILLED"))


def _client(workspace: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.resolve() / 'mlflow.db'}")


def _experiment(client: Any, workspace: Path) -> str:
    """The id of the experiment that contains the runs of all stages."""
    if found := client.get_experiment_by_name(EXPERIMENT):
        return str(found.experiment_id)
    own = None if os.environ.get("MLFLOW_TRACKING_URI") else (workspace.resolve() / "mlflow").as_uri()
    return str(client.create_experiment(EXPERIMENT, own))
