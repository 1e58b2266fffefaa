"""The contract of data sets: images and labels by index, a manifest of the content, a check before training."""

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
"""The label of pixels without ground truth."""


@dataclass(frozen=True)
class Sample:
    """One image with its labels, as stored.

    Attributes:
        name: unique within the split.
        image: (H, W, 3), uint8, RGB.
        label: (H, W), uint8: class indices, `IGNORE` for pixels without ground truth.
    """

    name: str
    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Problem:
    """An error in a file, found by `check`."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Look:
    """Everything known of one sample after decoding its files once.

    Attributes:
        sample: the sample, or None if it is invalid.
        problems: why it is invalid.
        image: the image as stored, if it is a file.
        label: the label picture as stored, if it is a file.
        by_colour: whether the label's colours, not its numbers, define the classes.
    """

    sample: Sample | None = None
    problems: tuple[Problem, ...] = ()
    image: ImagePicture | None = None
    label: LabelPicture | None = None
    by_colour: bool = False


class Split(ABC, Sequence[Sample]):
    """One split of a data set, read by index: cheap to build, samples decoded on demand, picklable."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names of all samples, in order."""

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a sample. Override it if the size is known without decoding."""
        return self[index].label.shape  # type: ignore[return-value]

    def look(self, index: int) -> Look:
        """Details of a sample. Override it if more is known than the sample itself."""
        try:
            return Look(self[index])
        except HarnessError as error:
            return Look(problems=(problem_of(error, self.names[index]),))


def problem_of(error: HarnessError, name: str) -> Problem:
    """Convert an error to a problem; most messages begin with the file."""
    file, colon, what = error.message.partition(": ")
    return Problem(file, what) if colon else Problem(name, error.message)


def problems_of_samples(splits: Iterable[Split], progress: Any = None) -> list[Problem]:
    """Problems of all samples; `progress(done, total)` is called as files are decoded."""
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
        root: folder that contains the data set, or None for generated ones.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    classes: tuple[str, ...]
    """Declared by the class, or by an instance that reads them from its files."""
    palette: tuple[tuple[int, int, int], ...]
    """An RGB colour for each class."""
    needs_root: ClassVar[bool] = False
    weights: str = "imagenet"
    """Suitable initial weights of backbones: "imagenet", or "random" for images unlike photographs."""
    recipe: str = "quick"
    """The default recipe."""
    Params: ClassVar[type[DataParams]] = DataParams

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        self.params = params
        self.root = root

    @property
    def label(self) -> str:
        """What tables and messages call it."""
        return self.name

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
        """Everything that determines the content, as JSON: generator version and parameters, or sha256 of each file."""

    @abstractmethod
    def check(self, full: bool = True) -> list[Problem]:
        """Problems of its files. `full` decodes every file; otherwise only presence and pairing are checked."""
