"""Facts about every sample and a whole data set, collected by a survey."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.data.base import Dataset, Problem
from harness.data.survey.report import SplitReport


@dataclass(frozen=True)
class Facts:
    """Facts about one sample.

    Attributes:
        name: name of the sample.
        problems: why it cannot be used.
        size: (height, width), or None if the sample is invalid.
        classes: class -> number of pixels.
        stored: number or #rrggbb in the label file -> number of pixels.
        palette: (N, 3) of the label file, else None; `used` are its indices that occur.
        lossy: format of the label file, if it is lossy.
        turned: EXIF orientations of image and label.
        mean, square: means of the channels in [0, 1], and of their squares.
        digest: sha256 of the image's pixels.
        look_alike: bits of its perceptual hash; None for an image without structure.
    """

    name: str
    problems: tuple[Problem, ...] = ()
    size: tuple[int, int] | None = None
    classes: dict[int, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    palette: np.ndarray | None = None
    used: tuple[int, ...] = ()
    lossy: str = ""
    turned: tuple[int, int] = (1, 1)
    transparent: bool = False
    mean: np.ndarray | None = None
    square: np.ndarray | None = None
    digest: bytes = b""
    look_alike: np.ndarray | None = None


@dataclass(frozen=True)
class Seen:
    """All facts and counts of a data set, the input of rules."""

    dataset: Dataset
    facts: dict[str, list[Facts]]
    splits: dict[str, SplitReport]
