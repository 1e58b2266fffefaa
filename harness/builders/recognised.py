"""The field's data sets that a folder may be: by its names of folders and files, and by whether its labels fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from harness.data.base import IGNORE, Dataset
from harness.errors import HarnessError

LOOKED_AT = 12
"""Labels that are decoded."""
_MADE_UP = ("class_", "colour_", "background", "foreground", "white")
"""Beginnings of the names that `data init` gives to classes that nothing names."""


@dataclass(frozen=True)
class Recognised:
    """A data set of the field that a folder fits.

    Attributes:
        word: how it is named: "voc", "coco_stuff[version=10k]".
        summary: what it is, with the numbers of its images.
        samples: the numbers of images in the folder by split.
        classes: the number of its classes.
        found: the number of its classes that occur in the labels that were decoded.
        decoded: the number of these labels.
    """

    word: str
    summary: str
    samples: dict[str, int]
    classes: int
    found: int
    decoded: int


def recognised(folder: Path, own: Dataset | None = None) -> list[Recognised]:
    """The field's data sets whose layout the folder has, and whose classes its labels fit.

    Equal layout and fitting labels do not prove that it is that data set: another may have them by chance.

    Args:
        own: the folder as `dataset.yaml` describes it. A data set that has none of the classes named there is left out.
    """
    from harness.plugins.registries import DATASETS

    found = []
    for entry in DATASETS:
        if not entry.cls.needs_root or entry.name == "folder":
            continue
        for params in _variants(entry.cls):
            seen = _seen(entry.cls, params, folder)
            if seen and not (own and _named_otherwise(own, entry.cls)):
                found.append(seen)
                break
    return found


def _variants(cls: type[Dataset]) -> Iterator[dict[str, Any]]:
    """Parameters that choose a layout: the defaults first."""
    fields = cls.Params.model_fields
    choices = {name: get_args(field.annotation) for name, field in fields.items() if get_args(field.annotation)}
    ordered = [sorted(values, key=lambda value, name=name: value != fields[name].default)  # type: ignore[misc]
               for name, values in choices.items()]  # fmt: skip
    for values in product(*ordered):
        yield {name: value for name, value in zip(choices, values) if value != fields[name].default}


def _seen(cls: type[Dataset], params: dict[str, Any], folder: Path) -> Recognised | None:
    """What is known of the folder as this data set; None if it cannot be it."""
    try:
        dataset = cls(cls.Params.model_validate(params), folder)
        if dataset.check(full=False):
            return None
        split = dataset.split(dataset.splits[0])
        chosen = range(0, len(split), max(len(split) // LOOKED_AT, 1))[:LOOKED_AT]
        samples = [split[index] for index in chosen]
        counts = {name: len(dataset.split(name)) for name in dataset.splits}
    except (HarnessError, OSError):
        return None
    classes = {int(value) for sample in samples for value in set(sample.label.ravel().tolist())} - {IGNORE}
    if not classes:
        return None
    word = cls.name + (f"[{','.join(f'{name}={value}' for name, value in params.items())}]" if params else "")
    return Recognised(word, dataset.summary, counts, len(dataset.classes), len(classes), len(samples))


def _named_otherwise(own: Dataset, cls: type[Dataset]) -> bool:
    """Whether the folder names classes of its own, none of which is this data set's."""
    named = {name.lower() for name in own.classes if not name.startswith(_MADE_UP)}
    return bool(named) and not any(theirs.lower() in name or name in theirs.lower()
                                   for theirs in cls.classes for name in named)  # fmt: skip
