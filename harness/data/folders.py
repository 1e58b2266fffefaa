"""Data sets stored as folders of images and folders of label pictures, paired by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.base import IGNORE, Look, Problem, Sample, Split, problems_of_samples
from harness.data.decode import (
    LabelPicture,
    decode_image,
    decode_label,
    is_picture,
    read_image_picture,
    size_difference,
    size_of,
)
from harness.data.digests import file_digests
from harness.errors import HarnessError


def _pictures(folder: Path) -> list[Path]:
    """Pictures of a folder, sorted by name; hidden and other files are skipped."""
    if not folder.is_dir():
        return []
    return sorted(filter(is_picture, folder.iterdir()), key=lambda p: p.name)


@dataclass(frozen=True)
class Labelling:
    """Mapping of the numbers in a label picture to classes.

    Attributes:
        classes: number of classes: values 0 to classes - 1.
        ignored: values read as `IGNORE`.
    """

    classes: int
    ignored: frozenset[int] = frozenset({IGNORE})

    @property
    def table(self) -> np.ndarray:
        """(256,), int16: the class of each value, -1 for invalid values."""
        table = np.full(256, -1, np.int16)
        table[: self.classes] = np.arange(self.classes)
        table[[value for value in self.ignored if value <= IGNORE]] = IGNORE
        return table

    def read(self, path: Path) -> np.ndarray:
        """(H, W), uint8: the decoded label of a file.

        Raises:
            HarnessError: the file cannot be read, contains colours, is lossy, or has a value out of range.
        """
        return self.of(decode_label(path))

    def of(self, label: LabelPicture) -> np.ndarray:
        """(H, W), uint8: the labels of a decoded picture. Raises the same errors as `read`."""
        if label.lossy:
            what = f"{label.path}: label picture is a {label.lossy}, which changes class numbers along every border"
            raise HarnessError(what, "export the labels again as PNG")
        numbers = label.numbers()
        read = self.table[numbers] if numbers.dtype == np.uint8 else self._wide(numbers)
        if (read < 0).any():
            values, pixels = np.unique(numbers[read < 0], return_counts=True)
            bad = [
                f"{value} in {count} pixel{'s' if count > 1 else ''}" for value, count in zip(values[:5], pixels[:5])
            ]
            shown = ", ".join(bad) + (", ..." if len(values) > 5 else "")
            expected = f"0 to {self.classes - 1}, or {' or '.join(map(str, sorted(self.ignored)))} for void"
            raise HarnessError(f"{label.path}: label values out of range: {shown} (expected {expected})")
        return np.asarray(read.astype(np.uint8))

    def _wide(self, numbers: np.ndarray) -> np.ndarray:
        """(H, W), int16: numbers of more than 8 bits by the table."""
        inside = (numbers >= 0) & (numbers <= IGNORE)
        read = np.where(inside, self.table[np.where(inside, numbers, 0)], np.int16(-1))
        read[np.isin(numbers, sorted(self.ignored))] = IGNORE
        return np.asarray(read)


class FolderSplit(Split):
    """Images of one folder and labels of another, paired by name without suffix. Only pairs are samples."""

    def __init__(self, images: Path, labels: Path, labelling: Labelling) -> None:
        self.image_folder, self.label_folder, self.labelling = images, labels, labelling
        label_files = {p.stem: p for p in _pictures(labels)}
        self.pairs = tuple((p, label_files[p.stem]) for p in _pictures(images) if p.stem in label_files)
        self._names = tuple(image.stem for image, _ in self.pairs)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The sample.

        Raises:
            HarnessError: a file cannot be read, or image and label differ in size.
        """
        image_file, label_file = self.pairs[index]
        image, label = decode_image(image_file), self.labelling.read(label_file)
        if difference := size_difference(image_file, image, label):
            raise HarnessError(f"{label_file}: {difference}", "run harness data check")
        return Sample(self._names[index], image, label)

    def size(self, index: int) -> tuple[int, int]:
        return size_of(self.pairs[index][0])

    def unpaired(self) -> list[Problem]:
        """Missing folders, empty ones, doubled names, and files without a partner."""
        problems = []
        for folder in (self.image_folder, self.label_folder):
            if not folder.is_dir():
                problems.append(Problem(str(folder), "folder is missing"))
        if problems:
            return problems
        images, labels = _pictures(self.image_folder), _pictures(self.label_folder)
        if not images:
            problems.append(Problem(str(self.image_folder), "has no pictures"))
        for files in (images, labels):
            stems: set[str] = set()
            for file in files:
                if file.stem in stems:
                    problems.append(Problem(str(file), "another picture has the same name"))
                stems.add(file.stem)
        for files, others, role in ((images, labels, "label"), (labels, images, "image")):
            stems = {p.stem for p in others}
            folder = self.label_folder if role == "label" else self.image_folder
            problems += [Problem(str(p), f"has no {role} in {folder.name}/") for p in files if p.stem not in stems]
        return problems

    def look(self, index: int) -> Look:
        """Details of a pair: the problems of its files, or the sample."""
        image_file, label_file = self.pairs[index]
        problems: list[Problem] = []
        image, label, read = None, None, None
        try:
            image = read_image_picture(image_file)
        except HarnessError as error:
            problems.append(_problem(error, image_file))
        try:
            label = decode_label(label_file)
            read = self.labelling.of(label)
        except HarnessError as error:
            problems.append(_problem(error, label_file))
        if image and read is not None and (difference := size_difference(image_file, image.rgb, read)):
            problems.append(Problem(str(label_file), difference))
        if problems or image is None or read is None:
            return Look(None, tuple(problems), image, label)
        return Look(Sample(self._names[index], image.rgb, read), (), image, label)


def _problem(error: HarnessError, file: Path) -> Problem:
    return Problem(str(file), error.message.removeprefix(f"{file}: "))


def check_splits(splits: Mapping[str, FolderSplit], full: bool, progress: Any = None) -> list[Problem]:
    """Problems of the files of some splits; `progress(done, total)` is called as files are decoded."""
    problems = [problem for split in splits.values() for problem in split.unpaired()]
    return problems + (problems_of_samples(splits.values(), progress) if full else [])


def content_digest(root: Path, files: Sequence[Path]) -> str:
    """sha256 over the names (relative to `root`) and contents of files, in hexadecimal."""
    digests = file_digests(files)
    entries = sorted((file.relative_to(root).as_posix(), digests[file]) for file in files)
    return sha256("".join(f"{digest}  {name}\n" for name, digest in entries).encode()).hexdigest()
