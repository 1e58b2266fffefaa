"""`cityscapes`: street scenes of 50 cities, 19 classes (Cordts et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from harness.data.base import IGNORE, DataParams, Problem
from harness.data.folder.classes import Classes
from harness.data.folder.items import Item, Mask
from harness.data.official import OfficialDataset, numbered_classes, pair, pictures
from harness.errors import HarnessError

TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9,
    23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""labelIds -> train ids, as the authors' scripts have them; the others of 0 to 33 count for nothing."""


class CityscapesParams(DataParams):
    labels: Literal["auto", "labelIds", "labelTrainIds"] = Field(
        "auto", description="which label pictures; auto: labelIds if they are there, else labelTrainIds"
    )


class Cityscapes(OfficialDataset):
    """`leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`, or without cities."""

    name = "cityscapes"
    summary = "street scenes of Cityscapes: 2975 train, 500 val, 2048x1024"
    classes: tuple[str, ...] = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )  # fmt: skip
    recipe = "small-cityscapes"
    places = ("Cityscapes", "cityscape")
    wanted = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")
    source = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com, unpacked side by side"
    Params: ClassVar[type[DataParams]] = CityscapesParams

    @property
    def eval_size(self) -> tuple[int, int]:
        return (1024, 2048)

    @property
    def kind(self) -> str:
        """Which label pictures are read: "labelIds" or "labelTrainIds".

        Raises:
            HarnessError: there are none of those asked for.
        """
        asked = self.params.labels  # type: ignore[attr-defined]
        for kind in ("labelIds", "labelTrainIds") if asked == "auto" else (asked,):
            if any((self.folder / "gtFine/train").rglob(f"*_gtFine_{kind}.png")):
                return str(kind)
        wanted = "*_gtFine_labelIds.png or *_gtFine_labelTrainIds.png" if asked == "auto" else f"*_gtFine_{asked}.png"
        raise HarnessError(f"{self.folder / 'gtFine/train'} has no {wanted}", self.hint)

    @property
    def table(self) -> Classes:
        ids = dict.fromkeys(range(34), IGNORE) | TRAIN_IDS if self.kind == "labelIds" else {i: i for i in range(19)}
        return numbered_classes(self.classes, self.palette, ids)

    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        images = pictures(self.folder / "leftImg8bit" / split, "_leftImg8bit")
        labels = pictures(self.folder / "gtFine" / split, f"_gtFine_{self.kind}")
        return pair(images, labels, Mask, f"*_gtFine_{self.kind}.png in gtFine/{split}")
