"""How often each class occurs in the labels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from harness.data.base import Dataset
from harness.data.loading import checked
from harness.data.survey import Memory
from harness.specs.spec import DatasetSpec


def class_pixels(dataset: Dataset, spec: DatasetSpec, memory: Path, split: str = "train") -> Sequence[int]:
    """Pixels of each class in a split: as the data check has counted them, else every label is read.

    Args:
        memory: folder in which data checks are remembered.

    Raises:
        HarnessError: a sample cannot be read.
    """
    report = Memory(memory).recall(spec)
    if report is not None:
        return [found.pixels for found in report.splits[split].classes.values()]
    samples, classes = dataset.split(split), len(dataset.classes)

    def count(index: int) -> np.ndarray:
        return np.bincount(checked(samples, index).label.ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor() as pool:
        return [int(pixels) for pixels in np.sum(list(pool.map(count, range(len(samples)))), 0)]
