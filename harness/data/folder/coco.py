"""COCO's JSON: polygons of several parts, run-length codes, crowds (ignored), category ids with gaps."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.base import IGNORE, Problem
from harness.data.files import read_text
from harness.data.folder.annotation_file import reading
from harness.data.folder.classes import ClassEntry, Classes
from harness.data.folder.config import SPLITS, Config
from harness.data.folder.drawing import Region, code_mask, image_size, of_kind, paint, polygons_mask
from harness.data.folder.items import Found, Item, LabelSource
from harness.data.folder.splits import Names, draw, listed, sources
from harness.data.folder.tree import Tree
from harness.errors import HarnessError


@dataclass(frozen=True)
class CocoImage:
    """One image of a file: name, (height, width), and its objects as (category id, segmentation, crowd)."""

    file_name: str
    size: tuple[int, int]
    objects: tuple[tuple[int, Any, bool], ...]


def read_coco(file: Path) -> tuple[dict[int, CocoImage], list[dict[str, Any]]]:
    """Images by id, and categories. Kept for as long as the file does not change.

    Raises:
        HarnessError: it is not such a JSON file.
    """
    with reading(file, "COCO's", "images, annotations and categories"):
        return _read_coco(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_coco(file: Path, time: int) -> tuple[dict[int, CocoImage], list[dict[str, Any]]]:
    data = json.loads(read_text(file))
    objects: dict[int, list[tuple[int, Any, bool]]] = {image["id"]: [] for image in data["images"]}
    for entry in data.get("annotations", []):
        if entry["image_id"] in objects and entry.get("segmentation"):
            category = of_kind(entry["category_id"], int, "a category id")
            objects[entry["image_id"]].append((category, entry["segmentation"], bool(entry.get("iscrowd", 0))))
    images = {}
    for image in data["images"]:
        name, size = of_kind(image["file_name"], str, "a file name"), image_size(image["height"], image["width"])
        images[of_kind(image["id"], int, "the id of an image")] = CocoImage(name, size, tuple(objects[image["id"]]))
    categories = list(data.get("categories", []))
    for category in categories:
        of_kind(category["id"], int, "the id of a category")
    return images, [{**category, "name": str(category["name"])} for category in categories]


def annotation_files(config: Config, tree: Tree) -> dict[str, str]:
    """Paths of annotation files by split; by "" where one file serves all.

    Raises:
        HarnessError: there are none.
    """
    if isinstance(config.annotations, dict):
        files = dict(config.annotations)
        unknown = sorted(set(files) - set(SPLITS))
        if unknown:
            raise HarnessError(f"annotations: there is no split '{unknown[0]}'", f"they are {', '.join(SPLITS)}")
    else:
        files = {"": config.annotations}
    if not files or not all(files.values()):
        raise HarnessError(
            "dataset.yaml names no annotations", "as in  annotations: {train: train.json, val: val.json}"
        )
    found = {}
    for split, word in files.items():
        file = tree.find(word)
        if file is None:
            raise HarnessError(f"annotations: there is no file {tree.root / word}")
        found[split] = file
    return found


def find_coco(config: Config, tree: Tree) -> Found:
    """Items of one annotation file for each split, or of one that `splits:` deals out.

    Raises:
        HarnessError: files are missing or of another kind, or the splits make no sense.
    """
    files = annotation_files(config, tree)
    splits: dict[str, dict[str, Item]] = {}
    problems: list[Problem] = []
    for split, file in files.items():
        splits[split], wrong = _items(config, tree, split, file)
        problems += wrong
    if "" not in files:
        return Found({split: tuple(items.values()) for split, items in splits.items()}, tuple(problems))
    items = splits[""]
    words = sources(config)
    if not words:
        chosen = draw(config, sorted(items))
    else:
        names = Names(list(items), {name: name for name in items})
        chosen = {}
        for split, lists in words.items():
            chosen[split], wrong = listed(tree, lists, names)
            problems += wrong
    return Found({split: tuple(items[name] for name in names) for split, names in chosen.items()}, tuple(problems))


def _items(config: Config, tree: Tree, split: str, file: str) -> tuple[dict[str, Item], list[Problem]]:
    path = tree.path(file)
    images, _ = read_coco(path)
    folder = config.images.replace("{split}", split).rstrip("/")
    items: dict[str, Item] = {}
    problems = []
    for number, image in images.items():
        places = (folder, posixpath.dirname(file))
        near = (tree.exact(posixpath.join(place, image.file_name)) for place in places)
        found = next(filter(None, near), None) or tree.find(image.file_name)
        if found is None:
            problems.append(Problem(str(path), f"names the image '{image.file_name}', which is not in '{folder}'"))
            continue
        items[posixpath.splitext(image.file_name)[0]] = Item(
            posixpath.splitext(image.file_name)[0], tree.path(found), CocoLabel(path, number)
        )
    return items, [] if config.unmatched == "skip" else problems


def coco_classes(config: Config, tree: Tree) -> list[ClassEntry]:
    """The categories of the first annotation file, by id."""
    file = next(iter(annotation_files(config, tree).values()))
    _, categories = read_coco(tree.path(file))
    if not categories:
        raise HarnessError(f"{tree.path(file)}: names no categories")
    return [ClassEntry(str(c["name"]), int(c["id"])) for c in sorted(categories, key=lambda c: int(c["id"]))]


@dataclass(frozen=True)
class CocoLabel(LabelSource):
    """The objects of one image of an annotation file; the smaller is on top, crowds are ignored."""

    path: Path
    image: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        image = read_coco(self.path)[0][self.image]
        regions = []
        for category, segmentation, crowd in image.objects:
            if category not in classes.values:
                what = f"{self.path}: '{image.file_name}' has the category id {category}, which is not a class"
                raise HarnessError(what, "name it under classes: in dataset.yaml")
            try:
                mask = self._mask(segmentation, image.size)
            except HarnessError as error:
                raise HarnessError(f"{self.path}: '{image.file_name}': {error.message}", error.hint) from error
            regions.append(Region(IGNORE if crowd else classes.values[category], mask=mask))
        return paint(image.size, regions, classes.unlabelled)

    def _mask(self, segmentation: Any, size: tuple[int, int]) -> np.ndarray:
        return polygons_mask(segmentation, size) if isinstance(segmentation, list) else code_mask(segmentation, size)
