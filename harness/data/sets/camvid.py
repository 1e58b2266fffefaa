"""`camvid`: street scenes in the layout of SegNet, or as handed out in 32 colours, 11 classes.

Brostow et al. 2008, split of Badrinarayanan et al. 2017. `val` is one sequence that `train` has frames of too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.data.base import IGNORE, DataParams, Dataset, Problem
from harness.data.folder.classes import ClassEntry, build_classes
from harness.data.folder.items import Item, ItemSplit, Mask, check_items, items_manifest
from harness.data.folders import FolderSplit, Labelling, check_splits, content_digest
from harness.data.official import listing, pair, pictures, read_names
from harness.errors import HarnessError, did_you_mean

SPLITS = ("train", "val", "test")
COLOURS = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Building": (128, 0, 0), "Archway": (192, 0, 128), "Bridge": (0, 128, 64), "Tunnel": (64, 0, 64),
        "Wall": (64, 192, 0),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "sidewalk": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128), "OtherMoving": (128, 64, 64), "SUVPickupTruck": (64, 128, 192), "Train": (192, 64, 128),
        "Truck_Bus": (192, 128, 192),
    },
    "pedestrian": {
        "Pedestrian": (64, 64, 0), "Animal": (64, 128, 64), "CartLuggagePram": (64, 0, 192), "Child": (192, 128, 64),
    },
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}  # fmt: skip
"""The 32 classes by the 11 that they become, as SegNet has them, with their colours; Void is black."""
_FULL = build_classes(
    [ClassEntry(name, colour=colour) for parts in COLOURS.values() for name, colour in parts.items()],
    ignore=[[0, 0, 0]],
    merge={name: list(parts) for name, parts in COLOURS.items()},
)
FULL_FOLDERS = (("701_StillsRaw_full", "LabeledApproved_full"), ("701_StillsRaw_full", "labels"), ("images", "labels"))


class CamVid(Dataset):
    """Folders `train val test` of images and `trainannot valannot testannot` of labels 0 to 10, 11 for void.

    Or as handed out, 960x720 with labels `*_L.png` in 32 colours: `train` and `train_labels`, ..., or all images in
    `701_StillsRaw_full` and all labels in `LabeledApproved_full`, dealt to splits by `train.txt`, `val.txt` and
    `test.txt` or, without these, as SegNet did.
    """

    name = "camvid"
    summary = "street scenes of CamVid: 367 train, 101 val, 233 test, 480x360 (SegNet) or 960x720 (32 colours)"
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
        for folder in (self.root, self.root / self.name, self.root / "CamVid"):
            if _has(folder, "annot") or _has(folder, "_labels") or _full_folders(folder):
                return folder.resolve()
        raise HarnessError(
            f"{self.root} does not contain data set 'camvid': looked for train/ and trainannot/ (SegNet), train/ and "
            f"train_labels/, or 701_StillsRaw_full/ and LabeledApproved_full/; there is {listing(self.root)}",
            hint,
        )

    @property
    def full(self) -> bool:
        """Whether labels are the 32 colours of the original."""
        folder = self.folder
        return not _has(folder, "annot") and (_has(folder, "_labels") or _full_folders(folder) is not None)

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS

    @property
    def eval_size(self) -> tuple[int, int]:
        return (720, 960) if self.root is not None and self.full else (360, 480)

    def split(self, name: str) -> FolderSplit | ItemSplit:
        """The split of that name.

        Raises:
            HarnessError: there is none, or no folder.
        """
        if self.full:
            return ItemSplit(self._full_items(name)[0], _FULL)
        return self._small(name)

    def _small(self, name: str) -> FolderSplit:
        _refuse_unknown(name)
        return FolderSplit(self.folder / name, self.folder / f"{name}annot", self.labelling)

    def _full_items(self, name: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        _refuse_unknown(name)
        folders = _full_folders(self.folder)
        if folders is None:
            images, labels = self.folder / name, self.folder / f"{name}_labels"
            return pair(pictures(images), pictures(labels, "_L"), Mask, f"*_L.png in {labels.name}/")
        images, labels = folders
        items, problems = pair(pictures(images), pictures(labels, "_L"), Mask, f"*_L.png in {labels.name}/")
        list_ = self.folder / f"{name}.txt"
        if list_.is_file():
            names = {name.removesuffix("_L") for name in read_names(list_)}
            lost = sorted(names - {item.name for item in items})
            problems = [Problem(str(list_), f"names '{one}', of which there is no pair") for one in lost]
            return [item for item in items if item.name in names], problems
        return [item for item in items if split_of_frame(item.name) == name], problems if name == "train" else []

    def manifest(self) -> dict[str, Any]:
        if self.full:
            return items_manifest({name: self._full_items(name)[0] for name in SPLITS}, _FULL)
        splits = {name: self._small(name) for name in SPLITS}
        files = [file for split in splits.values() for pair in split.pairs for file in pair]
        counts = {name: len(split) for name, split in splits.items()}
        return {"samples": counts, "sha256": content_digest(self.folder, files)}

    def check(self, full: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
        if not self.full:
            return check_splits({name: self._small(name) for name in SPLITS}, full, progress)
        found = {name: self._full_items(name) for name in SPLITS}
        splits = {name: ItemSplit(items, _FULL) for name, (items, _) in found.items()}
        return [*(p for _, problems in found.values() for p in problems), *check_items(splits, full, progress)]


def _refuse_unknown(name: str) -> None:
    if name not in SPLITS:
        raise HarnessError(f"data set 'camvid' has no split '{name}'", did_you_mean(name, SPLITS))


def _has(folder: Path, ending: str) -> bool:
    """Whether there is a folder of labels of any split: `trainannot`, `train_labels`."""
    return any((folder / f"{split}{ending}").is_dir() for split in SPLITS)


def _full_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of all images and of all labels in 32 colours."""
    found = ((folder / images, folder / labels) for images, labels in FULL_FOLDERS)
    return next((pair for pair in found if all(part.is_dir() for part in pair)), None)


def split_of_frame(name: str) -> str:
    """The split that SegNet put a frame into: `0016E5_07959` -> "val"."""
    match = re.fullmatch(r"(\w+?)_f?(\d+)", name)
    sequence, number = (match[1], int(match[2])) if match else (name, 0)
    if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 and number % 2 else "train"
