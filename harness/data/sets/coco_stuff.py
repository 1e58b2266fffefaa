"""`coco_stuff`: COCO with things and stuff, 171 classes (Caesar et al. 2018), in the versions 164k and 10k."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from harness.data.base import IGNORE, DataParams, Problem
from harness.data.folder.classes import Classes
from harness.data.folder.items import Item, Mask
from harness.data.official import (
    MatLabel,
    OfficialDataset,
    generated_palette,
    listed,
    listing,
    numbered_classes,
    pair,
    pictures,
    read_names,
)
from harness.errors import HarnessError

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush, banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence,
floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, grass,
gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper,
pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad,
sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table, tent,
textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile,
wall-wood, water-other, waterdrops, window-blind, window-other, wood
"""
REMOVED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Ids of 1 to 182 that were planned for COCO and never used."""
IDS = {number: index for index, number in enumerate(n for n in range(1, 183) if n not in REMOVED)}
"""Id -> index of the class."""


class CocoStuffParams(DataParams):
    version: Literal["164k", "10k"] = Field(
        "164k", description="164k: 118287 train, 5000 val; 10k: 9000 train, 1000 test"
    )


class CocoStuff(OfficialDataset):
    """The two versions.

    164k: images in `images/train2017` or `train2017`, labels in `annotations/train2017` or `stuffthingmaps/train2017`:
    either as handed out (`*.png`, id - 1, 255 unlabelled) or converted (`*_labelTrainIds.png`, 0 to 170).
    10k: `images/*.jpg`, `annotations/*.mat` and `imageLists/train.txt`, `test.txt`.
    """

    name = "coco_stuff"
    summary = "COCO-Stuff: 118287 train, 5000 val (version 10k: 9000 train, 1000 test), 171 classes"
    classes: tuple[str, ...] = tuple(name.strip() for name in _NAMES.replace("\n", " ").split(","))
    palette = generated_palette(171)
    recipe = "small-coco-stuff"
    places = ("coco_stuff164k", "coco_stuff10k", "cocostuff-10k-v1.1", "cocostuff", "coco", "COCO")
    wanted: ClassVar[tuple[str, ...]] = ()
    source = "train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, or cocostuff-10k-v1.1.zip"
    Params: ClassVar[type[DataParams]] = CocoStuffParams

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        super().__init__(params, root)
        self.small = params.version == "10k"  # type: ignore[attr-defined]

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test") if self.small else ("train", "val")

    @property
    def eval_size(self) -> tuple[int, int]:
        return (480, 640)

    def _find_folder(self) -> Path:
        if self.root is None:
            raise HarnessError(f"data set '{self.name}' needs a folder", f"give --data-root FOLDER; {self.hint}")
        places = [self.root, *(self.root / name for name in (self.name, *self.places))]
        for place in places:
            if self.small and (place / "imageLists").is_dir() and any(place.glob("annotations/*.mat")):
                return place.resolve()
            if not self.small and _part(place, "train", ("images", ".")) and _part(place, "train", LABELS):
                return place.resolve()
        wanted = "imageLists/train.txt, images/*.jpg and annotations/*.mat"
        if not self.small:
            wanted = "images/train2017 and stuffthingmaps/train2017 (or train2017 and annotations/train2017)"
        near = next((place for place in reversed(places) if place.is_dir()), self.root)
        raise HarnessError(
            f"{self.root} does not contain data set 'coco_stuff', version {self.params.version}: looked for {wanted} "  # type: ignore[attr-defined]
            f"in it and in its folders {', '.join((self.name, *self.places))}; in {near} there is {listing(near)}",
            "it looks like version 10k: --dataset 'coco_stuff[version=10k]'"
            if not self.small and (near / "imageLists").is_dir()
            else self.hint,
        )

    def _converted(self) -> bool:
        labels = _part(self.folder, "train", LABELS)
        return labels is not None and any(labels.glob("*_labelTrainIds.png"))

    @property
    def table(self) -> Classes:
        if self.small:
            values = {0: IGNORE, **IDS}
        elif self._converted():
            values = {i: i for i in range(len(self.classes))}
        else:
            values = {number - 1: index for number, index in IDS.items()}
            values |= {number - 1: IGNORE for number in REMOVED}
        return numbered_classes(self.classes, self.palette, values)

    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        if self.small:
            names = read_names(self.folder / f"imageLists/{split}.txt")
            return listed(names, lambda name: self.folder / f"images/{name}.jpg",
                          lambda name: self.folder / f"annotations/{name}.mat", _Stuff)  # fmt: skip
        images, labels = _part(self.folder, split, ("images", ".")), _part(self.folder, split, LABELS)
        if images is None or labels is None:
            missing = f"images/{split}2017" if images is None else f"stuffthingmaps/{split}2017"
            return [], [Problem(str(self.folder / missing), "folder is missing")]
        return pair(pictures(images), pictures(labels, "_labelTrainIds" if self._converted() else ""), Mask)


LABELS = ("stuffthingmaps", "annotations", "annotations/stuffthingmaps")


def _part(place: Path, split: str, folders: Sequence[str]) -> Path | None:
    """The folder of a split in one of several folders."""
    return next(
        (place / folder / f"{split}2017" for folder in folders if (place / folder / f"{split}2017").is_dir()), None
    )


class _Stuff(MatLabel):
    """A label of version 10k: ids of 0 to 182."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("S",))
