"""YOLO's segmentation labels: a text file for each image, a line `class x1 y1 x2 y2 ...` for each object, in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.files import read_text
from harness.data.folder.classes import ClassEntry, Classes
from harness.data.folder.config import Config
from harness.data.folder.drawing import Region, paint
from harness.data.folder.items import Found, LabelSource
from harness.data.folder.masks import Pairing, template
from harness.data.folder.tree import Tree
from harness.errors import HarnessError


def find_yolo(config: Config, tree: Tree) -> Found:
    """Items of `images:` and `annotations:`, templates of images and text files. An image without one is background.

    Raises:
        HarnessError: the templates or the splits make no sense.
    """
    if not isinstance(config.annotations, str):
        raise HarnessError("annotations: is a template for this layout", "as in  labels/{split}/{name}.txt")
    images = template(config.images, "images", tree).match(tree.pictures)
    text = config.annotations if config.annotations.endswith(".txt") else f"{config.annotations}.txt"
    labels = template(text, "annotations", tree, frozenset({".txt"})).match(tree.files)
    return Pairing(
        config, tree, images, labels, "label", lambda file: YoloLabel(tree.path(file) if file else None), optional=True
    ).found()


def yolo_classes(config: Config, tree: Tree) -> list[ClassEntry]:
    raise HarnessError(
        "dataset.yaml names no classes", "write those of YOLO's data file:  classes: {0: person, 1: car}"
    )


@dataclass(frozen=True)
class YoloLabel(LabelSource):
    """Polygons of one text file; None for an image without objects."""

    path: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,) if self.path else ()

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        if self.path is None:
            return paint(size, [], classes.unlabelled)
        try:
            lines = read_text(self.path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise HarnessError(f"{self.path}: cannot be read as text: {error}") from error
        regions = [self._region(i, line.split(), size, classes) for i, line in enumerate(lines, 1) if line.strip()]
        return paint(size, regions, classes.unlabelled)

    def _region(self, number: int, words: list[str], size: tuple[int, int], classes: Classes) -> Region:
        where = f"{self.path}: line {number}"
        try:
            index, values = int(float(words[0])), [float(word) for word in words[1:]]
        except ValueError as error:
            raise HarnessError(f"{where} is not a label: {' '.join(words)[:40]}", "class x1 y1 x2 y2 ...") from error
        if len(values) == 4:
            raise HarnessError(f"{where} is a box, not a polygon", "labels for detection do not say which pixels")
        if len(values) < 6 or len(values) % 2:
            raise HarnessError(f"{where} has {len(values)} numbers after its class", "two for each of three points")
        if not all(-0.01 <= value <= 1.01 for value in values):
            raise HarnessError(f"{where} has points outside [0, 1]", "coordinates are parts of width and height")
        if index not in classes.values or index >= 255:
            raise HarnessError(f"{where} has the class {index}, which is not under classes: in dataset.yaml")
        points = np.array(values).reshape(-1, 2) * (size[1], size[0])
        return Region(classes.values[index], (tuple(points.ravel().tolist()),))
