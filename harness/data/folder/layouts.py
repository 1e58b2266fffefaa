"""The layouts, and opening a data set by its `dataset.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from harness.data.folder.classes import ClassEntry, Classes, build_classes, parse_classes
from harness.data.folder.coco import coco_classes, find_coco
from harness.data.folder.config import Config, load_config
from harness.data.folder.items import Found
from harness.data.folder.label_studio import find_label_studio, label_studio_classes
from harness.data.folder.labelme import find_labelme, labelme_classes
from harness.data.folder.masks import find_masks
from harness.data.folder.tree import Tree
from harness.data.folder.yolo import find_yolo, yolo_classes
from harness.errors import HarnessError

Finder = Callable[[Config, Tree], Found]

LAYOUTS: dict[str, Finder] = {
    "masks": find_masks,
    "yolo": find_yolo,
    "coco": find_coco,
    "label-studio": find_label_studio,
    "labelme": find_labelme,
}
"""How the samples of each layout are found."""

OWN_CLASSES: dict[str, Callable[[Config, Tree], list[ClassEntry]]] = {
    "yolo": yolo_classes,
    "coco": coco_classes,
    "label-studio": label_studio_classes,
    "labelme": labelme_classes,
}
"""Where a layout's annotations name the classes themselves."""


class FolderData:
    """A data set as its `dataset.yaml` describes it: classes at once, samples when they are asked for."""

    def __init__(self, file: Path) -> None:
        self.file, self.config = file, load_config(file)
        self.root = file.parent / Path(self.config.root).expanduser()
        if not self.root.is_dir():
            raise HarnessError(f"{file}: root: there is no folder {self.root}", "correct it")
        self.tree = Tree(self.root)
        try:
            self.classes = classes_of(self.config, self.tree)
        except HarnessError as error:
            raise self._said(error) from error

    @cached_property
    def found(self) -> Found:
        """The samples. Raises HarnessError: the fields fit neither each other nor the files."""
        try:
            return LAYOUTS[self.config.layout](self.config, self.tree)
        except HarnessError as error:
            raise self._said(error) from error

    def _said(self, error: HarnessError) -> HarnessError:
        place = "" if str(self.root) in error.message else f"{self.file}: "
        return HarnessError(f"{place}{error.message}", error.hint)


def classes_of(config: Config, tree: Tree) -> Classes:
    """The classes that a `dataset.yaml` means.

    Raises:
        HarnessError: there are none, or they make no sense.
    """
    own = OWN_CLASSES.get(config.layout)
    if config.classes:
        entries = parse_classes(config.classes, tree.root)
    elif own:
        entries = own(config, tree)
    else:
        raise HarnessError("dataset.yaml names no classes", "for example  classes: [sky, road, car]")
    return build_classes(entries, config.ignore, config.merge, config.background, polygons=own is not None)
