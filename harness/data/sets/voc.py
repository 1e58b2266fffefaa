"""`voc`: Pascal VOC 2012 (Everingham et al.), 20 classes and background, with SBD's labels (Hariharan et al. 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from harness.data.base import DataParams, Problem
from harness.data.folder.classes import Classes, voc_colour
from harness.data.folder.items import Item, Mask
from harness.data.official import MatLabel, OfficialDataset, listed, numbered_classes, read_names
from harness.errors import HarnessError


class VocParams(DataParams):
    train: Literal["train", "trainaug"] = Field(
        "train", description="train: 1464 images of VOC; trainaug: 10582, with SBD's labels"
    )


class Voc(OfficialDataset):
    """`JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation`.

    For trainaug either `SegmentationClassAug/*.png`, or SBD as its authors hand it out: `benchmark_RELEASE/dataset/cls`
    (or `SBD/cls`) with *.mat files, beside or in the folder of VOC. The images are `trainaug.txt`'s, else all that have
    a label and are not in val.
    """

    name = "voc"
    summary = "Pascal VOC 2012: 1464 train (10582 with SBD's labels), 1449 val"
    classes: tuple[str, ...] = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette = tuple(voc_colour(i) for i in range(21))
    recipe = "small-voc"
    places = ("VOC2012", "VOCdevkit/VOC2012", "VOCtrainval_11-May-2012/VOCdevkit/VOC2012", "VOC")
    wanted = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt")
    source = "VOCtrainval_11-May-2012.tar"
    Params: ClassVar[type[DataParams]] = VocParams

    @property
    def eval_size(self) -> tuple[int, int]:
        return (512, 512)

    @property
    def table(self) -> Classes:
        return numbered_classes(self.classes, self.palette, {i: i for i in range(21)})

    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        if split == "train" and self.params.train == "trainaug":  # type: ignore[attr-defined]
            return self._augmented()
        names = read_names(self.folder / f"ImageSets/Segmentation/{split}.txt")
        return listed(names, self._image, lambda name: self.folder / f"SegmentationClass/{name}.png", Mask)

    def _image(self, name: str) -> Path:
        return self.folder / f"JPEGImages/{name}.jpg"

    def _augmented(self) -> tuple[Sequence[Item], Sequence[Problem]]:
        """VOC's own labels where there are some, SBD's for the others."""
        folder, suffix, source = self._sbd()
        own = set(read_names(self.folder / "ImageSets/Segmentation/train.txt"))
        held_out = set(read_names(self.folder / "ImageSets/Segmentation/val.txt"))
        list_ = self.folder / "ImageSets/Segmentation/trainaug.txt"
        if list_.is_file():
            names = read_names(list_)
        else:
            names = sorted((own | {path.stem for path in folder.glob(f"*{suffix}")}) - held_out)
        both = held_out & set(names)
        if both:
            raise HarnessError(f"{list_}: {len(both)} of its images are in val: {min(both)}", "fix the list")
        ours, problems = listed([n for n in names if n in own], self._image,
                                lambda name: self.folder / f"SegmentationClass/{name}.png", Mask)  # fmt: skip
        theirs, more = listed(
            [n for n in names if n not in own], self._image, lambda n: folder / f"{n}{suffix}", source
        )
        return [*ours, *theirs], [*problems, *more]

    def _sbd(self) -> tuple[Path, str, type[Mask] | type[_Sbd]]:
        if (self.folder / "SegmentationClassAug").is_dir():
            return self.folder / "SegmentationClassAug", ".png", Mask
        tried = []
        for place in (self.folder, self.folder.parent, self.folder.parent.parent, self.root or self.folder):
            for part in ("benchmark_RELEASE/dataset/cls", "SBD/cls", "sbd/cls", "VOCaug/dataset/cls"):
                tried.append(part)
                if (place / part).is_dir():
                    return place / part, ".mat", _Sbd
        raise HarnessError(
            f"{self.folder} has no labels for trainaug: looked for SegmentationClassAug/ and {', '.join(tried[:4])}",
            "SBD: benchmark.tgz, unpacked beside VOC; or train on voc without trainaug",
        )


class _Sbd(MatLabel):
    """SBD's label of one image."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("GTcls", "Segmentation"))
