"""A finished stage looked at again: are its files those of its record, and do its weights give what it says?"""

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
    """What came of it.

    Attributes:
        files: artefact -> "changed" or "missing", of those that are not as the record says.
        images: how many were evaluated again; 0 for a translator, which is evaluated nowhere.
        differing: image -> pixels that are counted elsewhere than then.
        miou: the record's, and the one of now, as fractions; None where nothing was evaluated.
        environment: what differs in code, libraries and device.
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
        """Everything is as the record says."""
        return not self.files and not self.differing and (self.miou is None or _equal(*self.miou))


def verify(
    folder: StageFolder,
    device: str = "auto",
    data_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check a finished stage's files, and evaluate its stored weights again as they were evaluated then.

    Args:
        device: "auto" for the kind of device that the record names.
        data_root: by default where the stage found its data.
        progress: called with (images done, images in all).

    Raises:
        HarnessError: it is not finished, its weights are gone, or the data or a plugin are not those of then.
    """
    record = folder.record()
    files = changed_files(folder, record)
    if record.metrics is None:
        return Verification(record.key, record.name, files)
    if WEIGHTS in files:
        if files[WEIGHTS] == "missing":
            raise HarnessError(f"{record.name} ({record.key}): its weights are gone", "harness rerun trains it again")
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
    """The artefacts that are not as the record says: name -> "changed" or "missing"."""
    found = {}
    for name, digest in record.artefacts.items():
        file = folder.path / name
        if not file.resolve().is_relative_to(folder.path.resolve()) or not file.is_file():
            found[name] = "missing"
        elif file_digest(file) != digest:
            found[name] = "changed"
    return found


def differing_images(then: Evaluation, now: Evaluation) -> dict[str, int]:
    """Image -> pixels counted in another place of its confusion matrix; an image of one side alone with all of its."""
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
    """The stored weights over the record's split, in the precision and layout that they were trained in."""
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
    """Equal to the last bits that JSON keeps; a mean over nothing equals itself."""
    return then == now or (then != then and now != now)
