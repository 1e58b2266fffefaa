"""Labelme's JSON: a file for each image, with polygons, rectangles, circles and masks; the image beside it or in it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.data.files import read_text
from harness.data.folder.annotation_file import reading
from harness.data.folder.classes import ClassEntry, Classes
from harness.data.folder.config import Config
from harness.data.folder.drawing import Region, image_size, paint
from harness.data.folder.items import Found, LabelSource
from harness.data.folder.masks import Pairing, template
from harness.data.folder.tree import Tree
from harness.errors import HarnessError

NO_AREA = ("line", "linestrip", "point", "points")
"""Shapes that cover no pixels."""
IGNORED = "__ignore__"
"""Labelme's own name for what counts for nothing."""


def find_labelme(config: Config, tree: Tree) -> Found:
    """Items of `images:` and `annotations:`, templates of images and JSON files.

    Raises:
        HarnessError: the templates or the splits make no sense.
    """
    images = template(config.images, "images", tree).match(tree.pictures)
    labels = template(_json_template(config), "annotations", tree, frozenset({".json"})).match(tree.files)
    embedded = {key: file for key, file in labels.items() if key not in images and has_image(tree.path(file))}
    images = {**images, **embedded}
    return Pairing(config, tree, images, labels, "JSON", lambda file: LabelmeLabel(tree.path(str(file)))).found()


def has_image(file: Path) -> bool:
    """A JSON file has its image embedded.

    Raises:
        HarnessError: it is no such JSON.
    """
    return bool(read_labelme(file).get("imageData"))


def _json_template(config: Config) -> str:
    if not isinstance(config.annotations, str) or not config.annotations:
        raise HarnessError("annotations: is a template for this layout", "as in  {name}.json")
    return config.annotations if config.annotations.endswith(".json") else f"{config.annotations}.json"


def labelme_classes(config: Config, tree: Tree) -> list[ClassEntry]:
    """The labels of all files, by name."""
    labels = template(_json_template(config), "annotations", tree, frozenset({".json"})).match(tree.files)
    names = {shape["label"] for file in labels.values() for shape in read_labelme(tree.path(file))["shapes"]}
    names -= {IGNORED, "_background_"}
    return [ClassEntry(name, None) for name in sorted(map(str, names))]


def read_labelme(file: Path) -> Mapping[str, Any]:
    """The file's fields.

    Raises:
        HarnessError: it is not such a JSON file.
    """
    with reading(file, "Labelme's", "shapes with label and points"):
        data = json.loads(read_text(file))
        for shape in data["shapes"]:
            shape["label"], shape["points"] = str(shape["label"]), [(float(x), float(y)) for x, y in shape["points"]]
        if data.get("imageHeight") or data.get("imageWidth"):
            image_size(data.get("imageHeight"), data.get("imageWidth"))
    return data  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LabelmeLabel(LabelSource):
    """The shapes of one file, later ones over earlier ones, as Labelme shows them."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        data = read_labelme(self.path)
        if data.get("imageHeight") and data.get("imageWidth"):
            size = image_size(data["imageHeight"], data["imageWidth"])
        shapes = [shape for shape in data["shapes"] if shape.get("shape_type", "polygon") not in NO_AREA]
        try:
            return paint(size, [self._region(s, size, classes) for s in shapes], classes.unlabelled, by_area=False)
        except HarnessError as error:
            place = "" if str(self.path) in error.message else f"{self.path}: "
            raise HarnessError(f"{place}{error.message}", error.hint) from error

    def _region(self, shape: Mapping[str, Any], size: tuple[int, int], classes: Classes) -> Region:
        name, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
        names = {IGNORED: 255, "_background_": classes.unlabelled, **classes.by_name}
        if name not in names:
            what = f"{self.path}: has the label '{name}', which is not under classes: in dataset.yaml"
            raise HarnessError(what, "name it there, or under ignore:")
        points = shape["points"]
        if kind == "mask":
            return Region(names[name], mask=self._mask(shape, points, size))
        if kind == "rectangle" and len(points) == 2:
            (x1, y1), (x2, y2) = points
            points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        elif kind == "circle" and len(points) == 2:
            points = _circle(points[0], math.dist(*points))
        elif kind != "polygon":
            raise HarnessError(f"{self.path}: has a shape of type '{kind}', which is not read here")
        return Region(names[name], (tuple(v for point in points for v in point),))

    def _mask(self, shape: Mapping[str, Any], points: list[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
        """(H, W), bool: a picture in the file, laid where the box of the shape begins."""
        try:
            picture = Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"])
            part = np.array(picture.convert("L")) > 0
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise HarnessError(f"{self.path}: the mask of a '{shape['label']}' cannot be read: {error}") from error
        left, top = (round(min(point[axis] for point in points)) for axis in (0, 1))
        whole = np.zeros(size, bool)
        space = whole[max(top, 0) : top + part.shape[0], max(left, 0) : left + part.shape[1]]
        space |= part[max(-top, 0) :, max(-left, 0) :][: space.shape[0], : space.shape[1]]
        return whole


def _circle(centre: tuple[float, float], radius: float) -> list[tuple[float, float]]:
    """A polygon of 64 corners."""
    angles = (2 * math.pi * k / 64 for k in range(64))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]
