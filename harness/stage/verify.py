"""Verify a finished stage: compare its files with the record, and evaluate its weights again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch

from harness.builders.models import build_model
from harness.data.base import Dataset
from harness.errors import HarnessError
from harness.evaluation.evaluate import Evaluation, load_confusion
from harness.numerics.choose import Decision
from harness.specs.spec import Precision, StageSpec, WeightsSpec
from harness.stage.record import evaluate_as_planned
from harness.stage.shared import configure_torch
from harness.stage.surroundings import (
    Changes,
    changed_environment,
    data_root_of,
    device_word,
    recorded_spec,
    same_data,
)
from harness.system.devices import environment_record, pick_device
from harness.training.checkpoint import load_weights
from harness.workspace.files import file_digest
from harness.workspace.folders import StageFolder
from results.record import Metrics, Record
from results.statistics import miou

CONFUSION, WEIGHTS = "confusion.npz", "weights.safetensors"


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        files: artefact -> "changed" or "missing", of those that differ from the record.
        images: number of evaluated images; 0 for a translator.
        differing: image -> number of pixels with another prediction.
        miou: the recorded and the new mIoU, as fractions; None without an evaluation.
        environment: differences in code, libraries and device.
    """

    key: str
    name: str
    files: dict[str, str]
    images: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    miou: tuple[float, float] | None = None
    environment: Changes = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether everything agrees with the record."""
        return not self.files and not self.differing and (self.miou is None or _equal(*self.miou))


def verify(
    folder: StageFolder,
    device: str = "auto",
    data_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check a finished stage's files, and evaluate its stored weights again in the same way.

    Args:
        device: "auto" for the kind of device that the record names.
        data_root: folder of the data set; by default the original one.
        progress: called with (images done, total).

    Raises:
        HarnessError: the stage is not finished, its weights are missing, or data or a plugin have changed.
    """
    record = folder.record()
    files = changed_files(folder, record)
    if record.metrics is None:
        return Verification(record.key, record.name, files)
    if WEIGHTS in files:
        if files[WEIGHTS] == "missing":
            raise HarnessError(
                f"{record.name} ({record.key}): its weights are missing", "harness rerun trains it again"
            )
        return Verification(record.key, record.name, files)
    spec, chosen = recorded_spec(record), pick_device(device_word(record, device))
    dataset = same_data(spec, data_root_of(folder, data_root))
    threads = record.environment.threads if chosen.type == "cpu" else 0
    configure_torch(threads, spec.recipe.deterministic, chosen)
    found = _evaluated(folder, record, spec, dataset, chosen, progress)
    return Verification(
        record.key,
        record.name,
        files,
        len(found.names),
        {} if CONFUSION in files else differing_images(load_confusion(folder.path / CONFUSION), found),
        (record.metrics.miou, miou(found.confusion.sum(0))),
        changed_environment(record.environment, environment_record(chosen)),
    )


def changed_files(folder: StageFolder, record: Record) -> dict[str, str]:
    """The artefacts that differ from the record: name -> "changed" or "missing"."""
    found = {}
    for name, digest in record.artefacts.items():
        file = folder.path / name
        if not file.resolve().is_relative_to(folder.path.resolve()) or not file.is_file():
            found[name] = "missing"
        elif file_digest(file) != digest:
            found[name] = "changed"
    return found


def differing_images(then: Evaluation, now: Evaluation) -> dict[str, int]:
    """Image -> number of pixels in another cell of the confusion matrix; all pixels for an image of one side only."""
    before, after = dict(zip(then.names, then.confusion)), dict(zip(now.names, now.confusion))
    found = {}
    for name in dict.fromkeys([*now.names, *then.names]):
        if name in before and name in after and before[name].shape == after[name].shape:
            moved = int(np.abs(before[name].astype(np.int64) - after[name].astype(np.int64)).sum()) // 2
        else:
            moved = int(max(side[name].sum() for side in (before, after) if name in side))
        if moved:
            found[name] = moved
    return found


def _evaluated(
    folder: StageFolder,
    record: Record,
    spec: StageSpec,
    dataset: Dataset,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> Evaluation:
    """Evaluate the stored weights on the record's split, in the same precision and layout."""
    training = record.training
    model = spec.model.model_copy(update={"weights": WeightsSpec()})
    network = build_model(model, len(dataset.classes), None)
    load_weights(folder.weights_file, network)
    decision = Decision(cast(Precision, training.precision), training.channels_last, "", (), training.kernels)
    decision.apply(network)
    network.to(device)
    if training.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if spec.recipe.compile:
        network.compile()
    split = cast(Metrics, record.metrics).split
    return evaluate_as_planned(spec.recipe, dataset, split, network, decision, device, progress)


def _equal(then: float, now: float) -> bool:
    """Whether two values are equal; NaN equals NaN."""
    return then == now or (then != then and now != now)
