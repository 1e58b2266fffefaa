"""`camvid`: street scenes in the layout of SegNet, 11 classes.

Brostow et al. 2008, split of Badrinarayanan et al. 2017. `val` is one sequence that `train` has frames of too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from harness.data.base import IGNORE, DataParams, Dataset, Problem
from harness.data.folders import FolderSplit, Labelling, check_splits, content_digest
from harness.errors import HarnessError, did_you_mean

SPLITS = ("train", "val", "test")


class CamVid(Dataset):
    """Folders `train val test` of images and `trainannot valannot testannot` of labels 0 to 10, 11 for void."""

    name = "camvid"
    summary = "street scenes of CamVid in SegNet's layout: 367 train, 101 val, 233 test, 480x360"
    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "sidewalk",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )
    needs_root = True
    weights = "imagenet"
    recipe = "camvid"
    labelling: ClassVar[Labelling] = Labelling(11, frozenset({11, IGNORE}))

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        super().__init__(params, root)
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds `train`: the root itself, or `camvid` inside it.

        Raises:
            HarnessError: neither looks like CamVid.
        """
        if self._folder is None:
            self._folder = self._find()
        return self._folder

    def _find(self) -> Path:
        hint = "--data-root (or HARNESS_DATA) names the folder with train/ and trainannot/, or the one above camvid/"
        if self.root is None:
            raise HarnessError("data set 'camvid' needs a folder", hint)
        for folder in (self.root, self.root / self.name):
            if any((folder / part).is_dir() for split in SPLITS for part in (split, f"{split}annot")):
                return folder.resolve()
        raise HarnessError(f"{self.root} does not hold data set 'camvid'", hint)

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS

    @property
    def eval_size(self) -> tuple[int, int]:
        return (360, 480)

    def split(self, name: str) -> FolderSplit:
        """The split of that name.

        Raises:
            HarnessError: there is none, or no folder.
        """
        if name not in SPLITS:
            raise HarnessError(f"data set '{self.name}' has no split '{name}'", did_you_mean(name, SPLITS))
        return FolderSplit(self.folder / name, self.folder / f"{name}annot", self.labelling)

    def manifest(self) -> dict[str, Any]:
        splits = {name: self.split(name) for name in SPLITS}
        files = [file for split in splits.values() for pair in split.pairs for file in pair]
        counts = {name: len(split) for name, split in splits.items()}
        return {"samples": counts, "sha256": content_digest(self.folder, files)}

    def check(self, full: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
        return check_splits({name: self.split(name) for name in SPLITS}, full, progress)
