"""`context`: Pascal Context, 59 classes or 60 with background (Mottaghi et al. 2014)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from harness.data.base import IGNORE, DataParams, Problem
from harness.data.files import read_text
from harness.data.folder.classes import Classes
from harness.data.folder.items import Item, LabelSource, Mask
from harness.data.official import (
    MatLabel,
    OfficialDataset,
    generated_palette,
    listed,
    listing,
    numbered_classes,
    read_names,
)
from harness.errors import HarnessError

CLASSES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building", "bus",
    "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse",
    "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky",
    "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip
"""By the alphabet, which is their order in masks that are converted from the 459 labels."""
_ALIASES = {"diningtable": "table", "tv": "tvmonitor", "tv/monitor": "tvmonitor", "airplane": "aeroplane"}


MATRICES = "trainval"


class _Labels(MatLabel):
    """The 459 labels of one image."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("LabelMap",))


class ContextParams(DataParams):
    classes: Literal["59", "60"] = Field("59", description="59: what is none of them is ignored; 60: it is background")


class Context(OfficialDataset):
    """VOC 2010's `JPEGImages`, and one of three folders of labels.

    `SegmentationClassContext/*.png` are converted from the 459 labels: 0 for the rest, 1 to 59 by the alphabet.
    `59_context_labels/*.png` are those of the authors, in the order of their `59_labels.txt`, which must be there.
    `trainval/*.mat` are the 459 labels themselves, by the numbers of the authors' `labels.txt`, which must be there.
    """

    name = "context"
    summary = "Pascal Context: 4998 train, 5105 val, 59 classes"
    classes: tuple[str, ...] = CLASSES
    palette = generated_palette(59)
    recipe = "small-context"
    places = ("VOC2010", "VOCdevkit/VOC2010", "pascal_context", "PascalContext")
    wanted = ("JPEGImages", "ImageSets")
    source = (
        "VOCtrainval_03-May-2010.tar, with SegmentationClassContext/, or 59_context_labels/ and 59_labels.txt, or "
        "trainval/ and labels.txt"
    )
    Params: ClassVar[type[DataParams]] = ContextParams

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        super().__init__(params, root)
        self._background = params.classes == "60"  # type: ignore[attr-defined]
        if self._background:
            self.classes, self.palette = ("background", *CLASSES), ((0, 0, 0), *generated_palette(59))

    @property
    def eval_size(self) -> tuple[int, int]:
        return (512, 512)

    @property
    def _places(self) -> tuple[Path, ...]:
        """Where labels may lie; the archive of the 459 labels may have been unpacked into a folder of its own name."""
        root = self.root or self.folder
        return (self.folder, self.folder.parent, root, root / MATRICES)

    @property
    def labels(self) -> Path:
        """The folder of labels.

        Raises:
            HarnessError: there is none of the three.
        """
        for name in ("SegmentationClassContext", "59_context_labels", MATRICES):
            for place in self._places:
                if (place / name).is_dir() and (name != MATRICES or any((place / name).glob("*.mat"))):
                    return place / name
        raise HarnessError(
            f"{self.folder} has neither SegmentationClassContext/ nor 59_context_labels/ nor trainval/*.mat, and nor "
            f"has the folder above; there is {listing(self.folder)}",
            self.hint,
        )

    @property
    def table(self) -> Classes:
        rest, shift = (0, 1) if self._background else (IGNORE, 0)
        if self.labels.name == MATRICES:
            names, _ = self._names_of_values("labels.txt")
            numbers = {value: CLASSES.index(name) + shift if name in CLASSES else rest for value, name in names.items()}
            return numbered_classes(self.classes, self.palette, {0: rest, **numbers})
        order = CLASSES if self.labels.name == "SegmentationClassContext" else self._own_order()
        values = {value: CLASSES.index(name) + shift for value, name in enumerate(order, 1)}
        return numbered_classes(self.classes, self.palette, {0: rest, **values})

    def _names_of_values(self, name: str) -> tuple[dict[int, str], Path]:
        """The names of values by a list of the authors', whose lines are `1: aeroplane`; and the list.

        Raises:
            HarnessError: it is missing, or lacks one of the 59 classes.
        """
        files = [place / name for place in (self.labels, self.labels.parent, self.folder, self.root or self.folder)]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise HarnessError(f"{files[1]} is missing: it says which value of {self.labels.name}/ is which class",
                               self.hint)  # fmt: skip
        found = re.findall(r"^\s*(\d+)\s*:?\s*(\S.*?)\s*$", read_text(file), re.M)
        names = {int(value): _ALIASES.get(name, name) for value, name in found if int(value)}
        if lacking := sorted(set(CLASSES) - set(names.values())):
            raise HarnessError(f"{file}: does not name the 59 classes: {', '.join(lacking[:3])}")
        return names, file

    def _own_order(self) -> tuple[str, ...]:
        """The order of `59_labels.txt`."""
        names, file = self._names_of_values("59_labels.txt")
        if sorted(names.values()) != sorted(CLASSES) or sorted(names) != list(range(1, 60)):
            wrong = sorted(set(names.values()) ^ set(CLASSES))[:3]
            raise HarnessError(f"{file}: does not name the 59 classes: {', '.join(wrong) or 'values are not 1 to 59'}")
        return tuple(names[value] for value in range(1, 60))

    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        names = self._names(split)
        label: Callable[[Path], LabelSource] = _Labels if self.labels.name == MATRICES else Mask
        return listed(names, lambda name: self.folder / f"JPEGImages/{name}.jpg", self._label_of, label)

    def _label_of(self, name: str) -> Path:
        return self.labels / f"{name}{'.mat' if self.labels.name == MATRICES else '.png'}"

    def _names(self, split: str) -> list[str]:
        """Names of a split: of the list for Context, else of VOC 2010's list, as far as they have labels."""
        own = self.folder / f"ImageSets/SegmentationContext/{split}.txt"
        if own.is_file():
            return read_names(own)
        main = self.folder / f"ImageSets/Main/{split}.txt"
        if not main.is_file():
            raise HarnessError(f"there is neither {own} nor {main}", self.hint)
        return [name for name in read_names(main) if self._label_of(name).is_file()]
