"""The contract of a layout: samples as pairs of an image and a source of its label; and a split made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.data.base import Look, Problem, Sample, Split, problem_of, problems_of_samples
from harness.data.decode import LabelPicture, decode_image, decode_label, read_image_picture, size_difference, size_of
from harness.data.digests import file_digests
from harness.data.folder.classes import Classes
from harness.errors import HarnessError


class LabelSource(ABC):
    """Where the label of one image comes from; small and picklable, read on demand."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """All files that decide the label: what the data set's digest is made of."""

    @property
    def detail(self) -> str:
        """What else decides it, beside the sample's name and these files' content."""
        return ""

    @abstractmethod
    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        """(H, W), uint8: class indices and `IGNORE`, at the label's own size.

        Args:
            size: (height, width) of the image, for labels that have no size of their own.

        Raises:
            HarnessError: a file cannot be read, or has a value of no class.
        """


@dataclass(frozen=True)
class Mask(LabelSource):
    """A picture of numbers or colours."""

    path: Path
    nearest: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def detail(self) -> str:
        return "nearest" if self.nearest else ""

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        return self.of(decode_label(self.path), classes)

    def of(self, picture: LabelPicture, classes: Classes) -> np.ndarray:
        """(H, W), uint8: the decoded mask by the table of classes. Raises as `read` does."""
        return classes.read(picture, nearest=self.nearest and bool(picture.lossy))


@dataclass(frozen=True)
class Item:
    """One sample: its name, unique within the split, its image, and where its label comes from."""

    name: str
    image: Path
    label: LabelSource


@dataclass(frozen=True)
class Found:
    """What a layout finds: items by split, and what is wrong beside them (files without partner, ...)."""

    splits: Mapping[str, tuple[Item, ...]]
    problems: tuple[Problem, ...] = ()


class ItemSplit(Split):
    """Samples of some items.

    Args:
        resize: labels of another size than their image are resized to it (nearest neighbour); else an error.
    """

    def __init__(self, items: Sequence[Item], classes: Classes, resize: bool = False) -> None:
        self.items, self.classes, self.resize = tuple(items), classes, resize
        self._names = tuple(item.name for item in self.items)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The sample.

        Raises:
            HarnessError: a file cannot be read, has a value of no class, or image and label differ in size.
        """
        item = self.items[index]
        image = decode_image(item.image)
        size = image.shape[0], image.shape[1]
        label = item.label.read(size, self.classes)
        if label.shape != size:
            label = self._fit(label, image, item)
        return Sample(item.name, image, label)

    def _fit(self, label: np.ndarray, image: np.ndarray, item: Item) -> np.ndarray:
        if not self.resize:
            source = item.label.files[0] if item.label.files else item.image
            what = f"{source}: {size_difference(item.image, image, label)}"
            raise HarnessError(what, "say mask_size: resize in dataset.yaml if that is meant")
        picture = Image.fromarray(label).resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST)
        return np.array(picture)

    def size(self, index: int) -> tuple[int, int]:
        return size_of(self.items[index].image)

    def look(self, index: int) -> Look:
        """What can be seen of a sample: what is wrong with its files, or the sample; and the mask as it is stored."""
        item = self.items[index]
        problems: list[Problem] = []
        image, mask, label = None, None, None
        try:
            image = read_image_picture(item.image)
        except HarnessError as error:
            problems.append(problem_of(error, str(item.image)))
        try:
            if isinstance(item.label, Mask):
                mask = decode_label(item.label.path)
                label = item.label.of(mask, self.classes)
            elif image is not None:
                label = item.label.read(image.rgb.shape[:2], self.classes)
            if image is not None and label is not None and label.shape != image.rgb.shape[:2]:
                label = self._fit(label, image.rgb, item)
        except HarnessError as error:
            problems.append(problem_of(error, str(item.image)))
        by_colour = mask is not None and not (mask.rgb is None and self.classes.numbered)
        sample = Sample(item.name, image.rgb, label) if image and label is not None and not problems else None
        return Look(sample, tuple(problems), image, mask, by_colour)


def check_items(splits: Mapping[str, ItemSplit], full: bool, progress: Any = None) -> list[Problem]:
    """Empty splits, and where `full` every file that cannot be read as it should be."""
    problems = [Problem(name, "the split has no samples") for name, split in splits.items() if not len(split)]
    return problems + (problems_of_samples(splits.values(), progress) if full else [])


def items_manifest(splits: Mapping[str, Sequence[Item]], classes: Classes, resize: bool = False) -> dict[str, Any]:
    """All that decides the content of some splits, whatever folder they lie in and however it is arranged."""
    every = (file for items in splits.values() for item in items for file in (item.image, *item.label.files))
    digests = file_digests(every)
    lines = [
        "\t".join((name, item.name, *(digests[file] for file in (item.image, *item.label.files)), item.label.detail))
        + "\n"
        for name, items in splits.items()
        for item in items
    ]
    return {
        "samples": {name: len(items) for name, items in splits.items()},
        "reading": classes.reading(),
        "resize": resize,
        "sha256": sha256("".join(lines).encode()).hexdigest(),
    }


def common_size(items: Sequence[Item]) -> tuple[int, int]:
    """(height, width) that most of the images have, from the headers of at most 200 of them.

    Raises:
        HarnessError: there are none, or one cannot be read.
    """
    if not items:
        raise HarnessError("the data set has no images", "look at it with harness data check")
    some = items[:: max(len(items) // 200, 1)][:200]
    sizes = [size_of(item.image) for item in some]
    return max(dict.fromkeys(sizes), key=sizes.count)
