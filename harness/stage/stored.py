"""The stored network of a finished stage, evaluated as planned: on its own split, or on another of the same data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from backbones.base import Network
from harness.builders.models import build_model
from harness.data.base import Dataset
from harness.errors import HarnessError
from harness.evaluation.evaluate import Evaluation, Observe
from harness.numerics.choose import Decision
from harness.plugins.metric_calls import MetricValues
from harness.plugins.registries import METRICS
from harness.specs.spec import Precision, StageSpec, WeightsSpec
from harness.stage.record import evaluate_as_planned
from harness.stage.shared import configure_torch
from harness.stage.surroundings import data_root_of, device_word, recorded_spec, same_data
from harness.system.devices import pick_device
from harness.training.checkpoint import load_weights
from harness.workspace.files import file_digest
from harness.workspace.folders import StageFolder
from results.record import MetricValue, Record
from results.statistics import iou

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Stored:
    """A finished stage whose weights can be evaluated again: its record, specification, data set and device."""

    folder: StageFolder
    record: Record
    spec: StageSpec
    dataset: Dataset
    device: torch.device

    @classmethod
    def open(cls, folder: StageFolder, device: str = "auto", data_root: Path | None = None) -> Stored:
        """Read the record, and configure torch as for the training.

        Args:
            device: "auto" for the kind of device that the record names.
            data_root: folder of the data set; by default the original one.

        Raises:
            HarnessError: the stage is not finished, or data or a plugin have changed.
        """
        record = folder.record()
        spec, chosen = recorded_spec(record), pick_device(device_word(record, device))
        dataset = same_data(spec, data_root_of(folder, data_root))
        threads = record.environment.threads if chosen.type == "cpu" else 0
        configure_torch(threads, spec.recipe.deterministic, chosen)
        return cls(folder, record, spec, dataset, chosen)

    def evaluate(
        self, split: str, progress: Callable[[int, int], None] | None = None, observe: Observe | None = None
    ) -> Evaluation:
        """Evaluate the stored weights on a split, in the precision and memory layout of then.

        Args:
            progress: called with (images done, total).
            observe: called with prediction and label of every image.
        """
        training = self.record.training
        decision = Decision(cast(Precision, training.precision), training.channels_last, "", (), training.kernels)
        network = self._network(decision)
        return evaluate_as_planned(
            self.spec.recipe, self.dataset, split, network, decision, self.device, progress, observe
        )

    def _network(self, decision: Decision) -> Network:
        model = self.spec.model.model_copy(update={"weights": WeightsSpec()})
        network = build_model(model, len(self.dataset.classes), None)
        load_weights(self.folder.weights_file, network)
        decision.apply(network)
        network.to(self.device)
        if decision.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.spec.recipe.compile:
            network.compile()
        return network


@dataclass(frozen=True)
class SplitScores:
    """All metrics of a stored network on a split.

    Attributes:
        split: name of the split.
        images: number of its images.
        values: metric -> value and declaration.
        per_class_iou: class -> IoU, as a fraction; None for a class without pixels.
    """

    key: str
    name: str
    split: str
    images: int
    values: dict[str, MetricValue]
    per_class_iou: dict[str, float | None]


def scores_on(
    folder: StageFolder,
    split: str,
    device: str = "auto",
    data_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SplitScores:
    """All metrics of a finished stage's stored weights on a split of its data set; nothing is written.

    Args:
        split: name of a split of the data set; "" for the one that the leaderboard reports.
        device, data_root, progress: as for `Stored.open` and `Stored.evaluate`.

    Raises:
        HarnessError: the stage is not finished or is no network, its weights are not those of its record, the data set
            has no such split, or data or a plugin have changed.
    """
    record = folder.record()
    if record.metrics is None:
        raise HarnessError(f"{record.name} ({record.key}) is a {record.kind}, which predicts no classes")
    _check_weights(folder, record)
    stored = Stored.open(folder, device, data_root)
    known = stored.dataset.splits
    if (split := split or known[-1]) not in known:
        raise HarnessError(f"{stored.spec.dataset.label} has no split '{split}'", f"it has {', '.join(known)}")
    metrics = MetricValues(METRICS, len(stored.dataset.classes))
    found = stored.evaluate(split, progress, metrics.update)
    values = metrics.finish(found.confusion)
    per_class = zip(stored.dataset.classes, iou(found.confusion.sum(0)))
    return SplitScores(
        record.key,
        record.name,
        split,
        len(found.names),
        values,
        {name: None if value != value else float(value) for name, value in per_class},
    )


def _check_weights(folder: StageFolder, record: Record) -> None:
    if not folder.weights_file.is_file():
        raise HarnessError(f"{record.name} ({record.key}): its weights are missing", "harness rerun trains it again")
    if file_digest(folder.weights_file) != record.artefacts.get(WEIGHTS):
        raise HarnessError(
            f"{record.name} ({record.key}): its weights are not those of its record", "harness rerun trains it again"
        )
