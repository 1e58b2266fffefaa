"""Base class of public data sets, read from the folders that their authors distribute, below the data root."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.data.base import IGNORE, DataParams, Dataset, Problem
from harness.data.decode import is_picture
from harness.data.files import read_text, regular_file
from harness.data.folder.classes import RGB, Classes, voc_colour
from harness.data.folder.items import Item, ItemSplit, LabelSource, check_items, items_manifest
from harness.errors import HarnessError, did_you_mean


def numbered_classes(names: Sequence[str], palette: Sequence[RGB], values: Mapping[int, int]) -> Classes:
    """Classes of masks of numbers.

    Args:
        values: raw number -> index or `IGNORE`; 255 is ignored.
    """
    return Classes(tuple(names), tuple(palette), {IGNORE: IGNORE, **values}, {}, {})


def generated_palette(count: int) -> tuple[RGB, ...]:
    """Distinct colours for `count` classes, none black."""
    return tuple(voc_colour(i + 1) for i in range(count))


@dataclass(frozen=True)
class MatLabel(LabelSource):
    """A matrix in a MATLAB file.

    Attributes:
        path: the file.
        keys: names of the variable and of fields in it: ("S",), ("GTcls", "Segmentation").
    """

    path: Path
    keys: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        from scipy.io import loadmat

        try:
            found: Any = loadmat(regular_file(self.path))[self.keys[0]]
            for key in self.keys[1:]:
                found = found[key][0, 0]
        except HarnessError:
            raise
        except Exception as error:  # scipy raises anything for invalid files
            raise HarnessError(f"{self.path}: contains no matrix {'.'.join(self.keys)}: {error}") from error
        return classes.read_numbers(np.asarray(found), self.path)


class OfficialDataset(Dataset):
    """A public data set. A subclass defines its layout and the files of each split.

    Attributes:
        places: candidate folders below the data root, in addition to the root itself and the data set's name.
        wanted: parts of the layout, as globs below its folder; the folder with most matches is used.
        source: the archives of the data set, for error messages.
    """

    needs_root = True
    places: ClassVar[tuple[str, ...]] = ()
    wanted: ClassVar[tuple[str, ...]]
    source: ClassVar[str]

    def __init__(self, params: DataParams, root: Path | None = None) -> None:
        super().__init__(params, root)
        self._folder: Path | None = None
        self._found: dict[str, tuple[tuple[Item, ...], tuple[Problem, ...]]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    @property
    def hint(self) -> str:
        """What to do where the layout is another."""
        return f"the layout is that of {self.source}"

    @property
    @abstractmethod
    def table(self) -> Classes:
        """Classes, and the mapping of raw labels."""

    @abstractmethod
    def find(self, split: str) -> tuple[Sequence[Item], Sequence[Problem]]:
        """The samples of a split, and problems of its files."""

    @property
    def folder(self) -> Path:
        """The folder with the layout.

        Raises:
            HarnessError: there is none; the message says what was expected and what is there.
        """
        if self._folder is None:
            self._folder = self._find_folder()
        return self._folder

    def _find_folder(self) -> Path:
        if self.root is None:
            raise HarnessError(f"data set '{self.name}' needs a folder", f"give --data-root FOLDER; {self.hint}")
        candidates = [self.root / place for place in (".", self.name, *self.places)]
        there = [place for place in candidates if place.is_dir()]
        counts = {place: sum(any(place.glob(part)) for part in self.wanted) for place in there}
        best = max(there, key=lambda place: counts[place], default=None)
        if best is not None and counts[best] == len(self.wanted):
            return best.resolve()
        looked = " and ".join(self.wanted)
        near, partly = self.root, ""
        if best is not None and counts[best]:
            near = best
            missing = ", ".join(part for part in self.wanted if not any(best.glob(part)))
            partly = f"; {best} lacks {missing}"
        raise HarnessError(
            f"{self.root} does not contain data set '{self.name}': looked for {looked} in it and in its folders "
            f"{', '.join((self.name, *self.places))}{partly}; there is {listing(near)}",
            self.hint,
        )

    def split(self, name: str) -> ItemSplit:
        """The split of that name.

        Raises:
            HarnessError: there is none, or no folder.
        """
        return ItemSplit(self._items(name)[0], self.table)

    def _items(self, name: str) -> tuple[tuple[Item, ...], tuple[Problem, ...]]:
        if name not in self.splits:
            raise HarnessError(f"data set '{self.name}' has no split '{name}'", did_you_mean(name, self.splits))
        if name not in self._found:
            items, problems = self.find(name)
            self._found[name] = tuple(items), tuple(problems)
        return self._found[name]

    def manifest(self) -> dict[str, Any]:
        return items_manifest({name: self._items(name)[0] for name in self.splits}, self.table)

    def check(self, full: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
        problems = [problem for name in self.splits for problem in self._items(name)[1]]
        return [*problems, *check_items({name: self.split(name) for name in self.splits}, full, progress)]


def listing(folder: Path) -> str:
    """A short list of a folder's content."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


def pictures(folder: Path, ending: str = "") -> dict[str, Path]:
    """Pictures below a folder by their path without `ending` and suffix, sorted.

    Args:
        ending: required end of names before the suffix: "_leftImg8bit"; other files are skipped.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if is_picture(path) and path.stem.endswith(ending):
            name = path.relative_to(folder).with_suffix("").as_posix()
            found[name[: len(name) - len(ending)]] = path
    return found


def read_names(file: Path) -> list[str]:
    """Names of a list, one per line (the first of several), without folders and suffixes.

    Raises:
        HarnessError: the file cannot be read.
    """
    try:
        lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
    except FileNotFoundError as error:
        there = f"; there is {listing(file.parent)}" if file.parent.is_dir() else ""
        raise HarnessError(f"{file}: is missing: the names of a split{there}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{file}: cannot be read as a list of names: {error}") from error
    return [Path(words[0]).stem if words[0].lower().endswith((".jpg", ".png")) else words[0] for words in lines]


def pair(
    images: Mapping[str, Path], labels: Mapping[str, Path], source: Callable[[Path], LabelSource], word: str = "label"
) -> tuple[list[Item], list[Problem]]:
    """Items paired by name, and problems: images without a label and labels without an image."""
    items = [Item(name, path, source(labels[name])) for name, path in images.items() if name in labels]
    problems = [Problem(str(path), f"has no {word}") for name, path in images.items() if name not in labels]
    return items, problems + [Problem(str(p), "has no image") for name, p in labels.items() if name not in images]


def listed(
    names: Sequence[str],
    images: Callable[[str], Path],
    labels: Callable[[str], Path],
    source: Callable[[Path], LabelSource],
) -> tuple[list[Item], list[Problem]]:
    """Items of a list, and problems: files that it names and that are missing."""
    items, problems = [], []
    for name in dict.fromkeys(names):
        missing = [path for path in (images(name), labels(name)) if not path.is_file()]
        problems += [Problem(str(path), "is in the list of the split, but missing") for path in missing]
        if not missing:
            items.append(Item(name, images(name), source(labels(name))))
    return items, problems
