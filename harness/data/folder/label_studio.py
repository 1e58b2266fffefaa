"""Label Studio's brush labels: a PNG for each region beside the project's JSON, or the regions in the JSON itself.

A region's file is named `task-ID-annotation-ID-by-WHO-TAG-LABEL-N.png`; the JSON says which image a task is about.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from harness.data.base import Problem
from harness.data.decode import decode_label
from harness.data.folder.annotation_file import reading
from harness.data.folder.classes import ClassEntry, Classes
from harness.data.folder.config import Config
from harness.data.folder.drawing import Region, paint
from harness.data.folder.items import Found, Item, LabelSource
from harness.data.folder.label_studio_brush import CodedLabel, brushed, newest_results, read_entries, results_of
from harness.data.folder.splits import Names, draw, listed, sources
from harness.data.folder.tree import Tree, inside
from harness.errors import HarnessError

_NAME = re.compile(r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-(?P<who>[^-]*)-(?P<rest>.+)-\d+\.png", re.I)


@dataclass(frozen=True)
class Task:
    """One task: its id, its image as the JSON words it, its tags ("tag", ...), and whether its regions' pixels stand
    there too."""

    id: str
    image: str
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    coded: bool = False


def read_tasks(file: Path) -> list[Task]:
    """The tasks of a project's JSON, in the full or in the short form.

    Raises:
        HarnessError: it is not such a JSON file.
    """
    with reading(file, "Label Studio's", "export it as JSON"):
        return [_task(entry) for entry in read_entries(file)]


def _task(entry: Mapping[str, Any]) -> Task:
    fields = entry.get("data", entry)
    image = fields["image"] if isinstance(fields.get("image"), str) else next(v for v in fields.values() if _is_path(v))
    tags, labels = [], []
    for result in results_of(entry):
        tags.append(str(result.get("from_name", "tag")))
        labels += [str(label) for label in result.get("value", result).get("brushlabels", [])]
    coded = any(brushed(result) is not None for result in newest_results(entry))
    return Task(str(entry["id"]), image, tuple(dict.fromkeys(tags)), tuple(dict.fromkeys(labels)), coded)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "." in value


def find_image(tree: Tree, folder: str, word: str) -> str | None:
    """The file below the data root that a task's `image` means: an upload, a local file, or an address."""
    parts = urlsplit(word)
    local = parse_qs(parts.query).get("d", [])
    path = unquote(local[0] if local else parts.path)
    name = posixpath.basename(path)
    uploaded = re.sub(r"^[0-9a-f]{8}-", "", name)
    for candidate in dict.fromkeys((name, uploaded)):
        found = tree.find(posixpath.join(folder, candidate)) or tree.find(candidate)
        if found is not None:
            return found
    return None


def find_label_studio(config: Config, tree: Tree) -> Found:
    """Items of the tasks of `annotations:`, with images in `images:` and regions in `masks:`.

    Raises:
        HarnessError: the JSON cannot be read, or the splits make no sense.
    """
    path = _file(config, tree)
    regions = _regions(config, tree)
    items: dict[str, Item] = {}
    problems = []
    for task in read_tasks(path):
        image = find_image(tree, config.images.rstrip("/"), task.image)
        if image is None:
            problems.append(Problem(str(path), f"task {task.id} is about '{task.image}', which is not there"))
            continue
        painted = tuple((label, tree.path(file)) for label, file in _of_task(task, regions.get(task.id, {})))
        name = posixpath.splitext(posixpath.basename(image))[0]
        if not painted and task.coded:
            items[name] = Item(name, tree.path(image), CodedLabel(path, task.id))
            continue
        if not painted and not task.labels:
            problems.append(Problem(str(path), f"task {task.id} ('{task.image}') has no regions"))
            continue
        if not painted:
            problems.append(Problem(str(path), f"task {task.id} ('{task.image}') has regions, but no PNG of them"))
            continue
        items[name] = Item(name, tree.path(image), BrushLabel(painted))
    if config.unmatched == "skip":
        problems = []
    words = sources(config)
    chosen = draw(config, sorted(items)) if not words else {}
    names = Names(list(items), {name: name for name in items})
    for split, lists in words.items():
        chosen[split], wrong = listed(tree, lists, names)
        problems += wrong
    return Found({split: tuple(items[name] for name in found) for split, found in chosen.items()}, tuple(problems))


def _file(config: Config, tree: Tree) -> Path:
    word = config.annotations if isinstance(config.annotations, str) else ""
    file = tree.find(word) if word else None
    if file is None:
        raise HarnessError(f"annotations: there is no file {word!r}", "name the JSON that Label Studio exported")
    return tree.path(file)


def _regions(config: Config, tree: Tree) -> dict[str, dict[int, list[tuple[str, str]]]]:
    """Task id -> annotation id -> regions as (tag and label as in the file's name, file)."""
    folder = inside(tree.root, config.masks) if config.masks else "."
    found: dict[str, dict[int, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for file in tree.files:
        match = _NAME.fullmatch(posixpath.basename(file))
        if match and (folder == "." or file.startswith(f"{folder}/")):
            found[match["task"]][int(match["annotation"])].append((match["rest"], file))
    return found


def _of_task(task: Task, annotations: Mapping[int, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """(label, file) of the newest annotation of a task."""
    if not annotations:
        return []
    regions = annotations[max(annotations)]
    return [(_label(task, rest), file) for rest, file in sorted(regions, key=lambda region: region[1])]


def _label(task: Task, rest: str) -> str:
    """The label in `TAG-LABEL`, whose parts may have hyphens themselves."""
    for tag in task.tags:
        if rest.startswith(f"{tag}-"):
            return rest[len(tag) + 1 :]
    return rest.partition("-")[2] or rest


def label_studio_classes(config: Config, tree: Tree) -> list[ClassEntry]:
    """The labels of all regions, by name."""
    labels = {label for task in read_tasks(_file(config, tree)) for label in task.labels}
    return [ClassEntry(label, None) for label in sorted(labels)]


@dataclass(frozen=True)
class BrushLabel(LabelSource):
    """Regions of one image as (label, PNG); the smaller is on top."""

    regions: tuple[tuple[str, Path], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for _, file in self.regions)

    @property
    def detail(self) -> str:
        return json.dumps([label for label, _ in self.regions])

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        found = [self._region(label, file, classes) for label, file in self.regions]
        own = {region.mask.shape for region in found if region.mask is not None} or {size}
        if len(own) > 1:
            raise HarnessError(f"{self.regions[0][1]}: regions of one image have the sizes {sorted(own)}")
        return paint(next(iter(own)), found, classes.unlabelled)  # type: ignore[arg-type]

    def _region(self, label: str, file: Path, classes: Classes) -> Region:
        if label not in classes.by_name:
            raise HarnessError(f"{file}: has the label '{label}', which is not under classes: in dataset.yaml")
        return Region(classes.by_name[label], mask=decode_label(file).numbers() > 0)
