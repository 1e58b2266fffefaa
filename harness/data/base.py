"""The contract of a data set: images and labels by index, a manifest of its content, a check before training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.data.decode import ImagePicture, LabelPicture
from harness.errors import HarnessError

IGNORE = 255
"""The label of pixels that count for nothing."""


@dataclass(frozen=True)
class Sample:
    """One image with its labels, as stored.

    Attributes:
        name: unique within the split.
        image: (H, W, 3), uint8, RGB.
        label: (H, W), uint8: class indices, `IGNORE` for pixels that do not count.
    """

    name: str
    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file, found by `check`."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Look:
    """All that can be seen of one sample, its files decoded once.

    Attributes:
        sample: None where it cannot be made.
        problems: why it cannot.
        image: the image as it was stored, where it is a file.
        label: the label picture as it was stored, where it is a file.
        by_colour: classes are told by the label's colours, not by its numbers.
    """

    sample: Sample | None = None
    problems: tuple[Problem, ...] = ()
    image: ImagePicture | None = None
    label: LabelPicture | None = None
    by_colour: bool = False


class Split(ABC, Sequence[Sample]):
    """One part of a data set, read by index; cheap to build, samples made or decoded on demand, picklable."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names of all samples, in order."""

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a sample. Splits that know it without decoding the sample say it here."""
        return self[index].label.shape  # type: ignore[return-value]

    def look(self, index: int) -> Look:
        """What can be seen of a sample. Splits that know more than the sample say it here."""
        try:
            return Look(self[index])
        except HarnessError as error:
            return Look(problems=(problem_of(error, self.names[index]),))


def problem_of(error: HarnessError, name: str) -> Problem:
    """An error as a problem: most begin with the file that they are about."""
    file, colon, what = error.message.partition(": ")
    return Problem(file, what) if colon else Problem(name, error.message)


def problems_of_samples(splits: Iterable[Split], progress: Any = None) -> list[Problem]:
    """Why samples cannot be made, each looked at; `progress(done, total)` is called as files are decoded."""
    work = [(split, index) for split in splits for index in range(len(split))]
    problems: list[Problem] = []
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(lambda item: item[0].look(item[1]).problems, work), 1):
            problems += found
            if progress:
                progress(done, len(work))
    return problems


class DataParams(BaseModel):
    """Parameters of a data set, as in `shapes[size=96]`. Subclass it inside the data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dataset(ABC):
    """A data set. Splits are "train", "val" and, where there is one, "test".

    Attributes:
        params: an instance of the class's `Params`.
        root: folder that holds the data set, or None for generated ones.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    classes: tuple[str, ...]
    """Declared by the class; an instance that reads them from its files has its own."""
    palette: tuple[tuple[int, int, int], ...]
    """An RGB colour for each class."""
    needs_root: ClassVar[bool] = False
    weights: str = "imagenet"
    """Initial weights of backbones that suit it: "imagenet", or "random" for pictures unlike photographs."""
    recipe: str = "quick"
    """The recipe that suits it when none is named."""
    Params: ClassVar[type[DataParams]] = DataParams

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        self.params = params
        self.root = root

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits. The last one is what the leaderboard reports."""

    @property
    @abstractmethod
    def eval_size(self) -> tuple[int, int]:
        """(height, width) of its images: the input size at which models are evaluated and their cost is counted."""

    @abstractmethod
    def split(self, name: str) -> Split:
        """The split of that name."""

    @abstractmethod
    def manifest(self) -> dict[str, Any]:
        """All that determines its content, as JSON: generator version and parameters, or sha256 of every file."""

    @abstractmethod
    def check(self, full: bool = True) -> list[Problem]:
        """What is wrong with its files. `full` decodes every file; otherwise only presence and pairing count."""
