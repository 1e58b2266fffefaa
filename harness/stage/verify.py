"""Verify a finished stage: compare its files with the record, and evaluate its weights again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.errors import HarnessError
from harness.evaluation.evaluate import Evaluation, load_confusion
from harness.stage.stored import WEIGHTS, Stored
from harness.stage.surroundings import Changes, changed_environment
from harness.system.devices import environment_record
from harness.workspace.files import file_digest
from harness.workspace.folders import StageFolder
from results.record import Record
from results.statistics import miou

CONFUSION = "confusion.npz"


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
    stored = Stored.open(folder, device, data_root)
    found = stored.evaluate(record.metrics.split, progress)
    return Verification(
        record.key,
        record.name,
        files,
        len(found.names),
        {} if CONFUSION in files else differing_images(load_confusion(folder.path / CONFUSION), found),
        (record.metrics.miou, miou(found.confusion.sum(0))),
        changed_environment(record.environment, environment_record(stored.device)),
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


def _equal(then: float, now: float) -> bool:
    """Whether two values are equal; NaN equals NaN."""
    return then == now or (then != then and now != now)
