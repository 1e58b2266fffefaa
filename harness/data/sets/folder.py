"""`folder`: any folder of images and labels, as the `dataset.yaml` in it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.data.base import DataParams, Dataset, Problem
from harness.data.folder.classes import RGB
from harness.data.folder.config import FILE, SPLITS
from harness.data.folder.items import ItemSplit, check_items, common_size, items_manifest
from harness.errors import HarnessError, did_you_mean


class FolderParams(DataParams):
    """Which description, and what a table calls the data."""

    file: str = Field(FILE, description="the description, below the data root")
    name: str = Field("", description="what tables call the data; the description's own name by default")


class Folder(Dataset):
    """Data of one's own. Classes, colours and splits are those of its `dataset.yaml`."""

    name = "folder"
    summary = "data of your own, described by a dataset.yaml: write it with harness data init DIR"
    classes: tuple[str, ...] = ("background", "foreground")
    palette: tuple[RGB, ...] = ((0, 0, 0), (255, 255, 255))
    needs_root = True
    recipe = "small"
    Params: ClassVar[type[DataParams]] = FolderParams

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        assert isinstance(params, FolderParams)
        super().__init__(params, root)
        if root is None:
            return
        # Imported here: the registry of data sets is listed without opening any.
        from harness.data.folder.layouts import FolderData

        self._data = FolderData(root.resolve() / params.file)
        config, classes = self._data.config, self._data.classes
        name = params.name or config.name or self._data.root.resolve().name
        self.params = params.model_copy(update={"name": name})
        self.classes, self.palette = classes.names, classes.palette
        self.weights, self.recipe = config.weights, config.recipe
        self._resize = config.mask_size == "resize"

    @property
    def splits(self) -> tuple[str, ...]:
        if self.root is None:
            return SPLITS
        config = self._data.config
        named = config.splits or (config.annotations if isinstance(config.annotations, dict) else {})
        return tuple(name for name in SPLITS if name in named)

    @property
    def eval_size(self) -> tuple[int, int]:
        if self.root is None:
            return (512, 512)
        return self._data.config.size or common_size(self._data.found.splits[self.splits[-1]])

    def split(self, name: str) -> ItemSplit:
        """The split of that name.

        Raises:
            HarnessError: there is none, or the description does not fit the files.
        """
        if name not in self.splits:
            raise HarnessError(f"data set '{self.label}' has no split '{name}'", did_you_mean(name, self.splits))
        return ItemSplit(self._data.found.splits[name], self._data.classes, self._resize)

    @property
    def label(self) -> str:
        """The name in its `dataset.yaml`."""
        return str(getattr(self.params, "name", "")) or self.name

    def manifest(self) -> dict[str, Any]:
        return items_manifest(self._data.found.splits, self._data.classes, self._resize)

    def check(self, full: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
        splits = {name: self.split(name) for name in self.splits}
        return [*self._data.found.problems, *check_items(splits, full, progress)]
