"""Guessing layouts of annotations: COCO, YOLO, Labelme, Label Studio."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.files import regular_file
from harness.data.folder.coco import read_coco
from harness.data.folder.drawing import coco_masks
from harness.data.folder.guess import Guess, fraction_splits, split_of
from harness.data.folder.guess_masks import find_lists, folder_template
from harness.data.folder.label_studio import Task, find_image, read_tasks
from harness.data.folder.labelme import IGNORED, NO_AREA, read_labelme
from harness.data.folder.masks import Template
from harness.data.folder.splits import is_list
from harness.data.folder.tree import Tree
from harness.errors import HarnessError
from harness.specs.yaml_files import InvalidYaml, read_yaml

_BACKGROUND = "what no region covers is the class 'background'; write  background: ignore  to ignore it"


def _jsons(tree: Tree) -> list[str]:
    return [file for file in tree.files if file.lower().endswith(".json")]


def _head(tree: Tree, file: str, size: int = 1 << 16) -> str:
    """The beginning of a file; nothing of what cannot be read."""
    try:
        with regular_file(tree.path(file)).open("rb") as stream:
            return stream.read(size).decode("utf-8", "replace")
    except (HarnessError, OSError):
        return ""


# ---------------------------------------------------------------------------------------------------------- COCO


def guess_coco(tree: Tree) -> Guess | None:
    """JSON files with images, annotations that have segmentations, and categories."""
    found: dict[str, str] = {}
    for file in _jsons(tree):
        if not re.search(r'"(?:images|annotations|categories|info|licenses)"\s*:', _head(tree, file)):
            continue
        try:
            images, categories = read_coco(tree.path(file))
        except HarnessError:
            continue
        if categories and any(image.objects for image in images.values()):
            found.setdefault(split_of(file.rpartition(".")[0]) or "", file)
    if not found:
        return None
    coco_masks()
    splits: dict[str, str] = {name: found[name] for name in ("train", "val", "test") if name in found}
    several = "train" in splits and len(splits) > 1
    first = splits["train"] if several else next(iter(found.values()))
    images, categories = read_coco(tree.path(first))
    guess = Guess({"layout": "coco", "images": "", "annotations": splits if several else first})
    counts = {s: len(read_coco(tree.path(f))[0]) for s, f in (splits or {"": first}).items()}
    guess.note("annotations", "COCO's JSON, images: " + ", ".join(f"{s} {n}".strip() for s, n in counts.items()))
    files: dict[str, str] = splits if several else {"": first}
    guess.fields["images"] = _image_folder(guess, tree, files)
    if not several:
        fraction_splits(guess, [posixpath.splitext(image.file_name)[0] for image in images.values()])
    used = {category for image in images.values() for category, *_ in image.objects}
    groups = {str(c.get("supercategory")) for c in categories}
    heads = [c for c in categories if c["id"] not in used and c["name"] in groups and c.get("supercategory") == "none"]
    categories = [c for c in categories if c not in heads]
    if heads:
        guess.note("classes", f"skipped '{heads[0]['name']}', the name of a group of classes")
    guess.fields["classes"] = {str(c["name"]): int(c["id"]) for c in sorted(categories, key=lambda c: int(c["id"]))}
    for category in categories:
        if category["id"] not in used:
            guess.doubt("classes", f"'{category['name']}' never occurs in {first}")
    guess.note("classes", _BACKGROUND)
    return guess


def _image_folder(guess: Guess, tree: Tree, files: Mapping[str, str]) -> str:
    """Where the images lie, with `{split}` where it differs; "" where they are found by their names alone."""
    folders = {}
    for split, file in files.items():
        image = next(iter(read_coco(tree.path(file))[0].values())).file_name
        near = posixpath.join(posixpath.dirname(file), image)
        path = near if near in tree.files else tree.find(image)
        if path is None:
            guess.doubt("images", f"the image '{image}' of {file} was not found")
            continue
        folder = path[: -len(image)].rstrip("/") if path.endswith(image) else posixpath.dirname(path)
        folders[split] = folder
    templates = {folder.replace(split, "{split}") if split else folder for split, folder in folders.items()}
    if len(templates) == 1:
        return next(iter(templates)) or "."
    guess.note("images", f"images are in {', '.join(sorted(set(folders.values())))}, and are found by name")
    return "."


# ---------------------------------------------------------------------------------------------------------- YOLO


def guess_yolo(tree: Tree) -> Guess | None:
    """A data file with `names` and `train`, or a folder `labels` of text files with polygons."""
    data_file, data = _yolo_file(tree)
    texts = [file for file in tree.files if file.endswith(".txt") and "labels" in file.split("/")[:-1]]
    if not texts or (data_file is None and not _polygons(tree, texts[0])):
        return None
    coco_masks()
    kinds = Counter(_polygons(tree, file) for file in texts[:50])
    if kinds[True] == 0 and kinds[False]:
        raise HarnessError(
            f"{tree.root / texts[0]}: YOLO labels of boxes, which do not say which pixels belong to an object",
            "export them for segmentation",
        )
    guess = Guess({"layout": "yolo"})
    lists = _yolo_splits(guess, tree, data or {}, texts)
    guess.note("images", f"YOLO's labels{f', described by {data_file}' if data_file else ''}: {len(texts)} text files")
    names = data.get("names") if data else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        guess.fields["classes"] = {int(key): str(name) for key, name in names.items()}
    else:
        classes = {int(float(line.split()[0])) for file in texts for line in _lines(tree, file)}
        table = next((file for file in tree.files if posixpath.basename(file) == "classes.txt"), None)
        guess.fields["classes"] = table or {number: f"class_{number}" for number in sorted(classes)}
        guess.doubt("classes", "no data file names the classes")
    guess.note("classes", _BACKGROUND)
    if not lists:
        found = Template(guess.fields["images"]).match(tree.pictures)
        fraction_splits(guess, [key[1] for key in found])
    return guess


def _yolo_file(tree: Tree) -> tuple[str | None, dict[str, Any] | None]:
    for file in tree.files:
        if file.count("/") <= 1 and file.endswith((".yaml", ".yml")) and tree.holds(file, 1 << 20):
            try:
                data = read_yaml(tree.path(file))
            except (InvalidYaml, OSError):  # whatever it is, it is not the one looked for
                continue
            if isinstance(data, dict) and "names" in data and ("train" in data or "path" in data):
                return file, data
    return None, None


def _lines(tree: Tree, file: str) -> list[str]:
    return [line for line in _head(tree, file, 1 << 20).splitlines() if line.strip()]


def _polygons(tree: Tree, file: str) -> bool | None:
    """Whether the first line is a polygon; None for an empty file."""
    lines = _lines(tree, file)
    words = lines[0].split() if lines else []
    if not words or not all(re.fullmatch(r"-?\d+(?:\.\d*)?(?:e-?\d+)?", word, re.I) for word in words):
        return None
    return len(words) >= 7 and len(words) % 2 == 1


def _yolo_splits(guess: Guess, tree: Tree, data: Mapping[str, Any], texts: list[str]) -> bool:
    """Templates of images and labels, and splits, if there are any."""
    prefix = str(data.get("path") or "").strip("./")
    named: dict[str, str] = {}
    for split, key in (("train", "train"), ("val", "val"), ("test", "test")):
        value = data.get(key)
        word = value[0] if isinstance(value, list) and value else value
        if isinstance(word, str) and word:
            named[split] = _below(tree, prefix, word)
    folders = {split: word for split, word in named.items() if not is_list(word)}
    if named and not folders and "train" in named and len(named) > 1:
        place = posixpath.dirname(texts[0]).split("labels")[0]
        guess.fields |= {"images": f"{place}images/{{name}}", "annotations": f"{place}labels/{{name}}.txt"}
        guess.fields["splits"] = {split: word for split, word in named.items() if tree.find(word)}
        return True
    folders = {split: word for split, word in folders.items() if any(f.startswith(f"{word}/") for f in tree.pictures)}
    if not folders:
        templates = Counter(folder_template(posixpath.dirname(file))[:2] for file in texts)
        place = templates.most_common(1)[0][0][0]
        folders_found = {split for (template, split), _ in templates.items() if template == place and split}
        images = _swap(place, "labels", "images")
        guess.fields |= {"images": f"{images}/{{name}}", "annotations": f"{place}/{{name}}.txt"}
        by_split = {split_of(word): word for word in folders_found}
        if "train" in by_split and len(by_split) > 1:
            guess.fields["splits"] = {s: by_split[s] for s in ("train", "val", "test") if s in by_split}
            return True
        return False
    parts = {split: word.split("/") for split, word in folders.items()}
    train = parts.get("train", next(iter(parts.values())))
    differ = [i for i in range(len(train)) if len({tuple(p[i : i + 1]) for p in parts.values()}) > 1]
    if len(folders) > 1 and "train" in folders and len(differ) == 1:
        place = "/".join("{split}" if i in differ else part for i, part in enumerate(train))
        guess.fields["images"] = f"{place}/{{name}}"
        guess.fields["annotations"] = f"{_swap(place, 'images', 'labels')}/{{name}}.txt"
        guess.fields["splits"] = {split: word[differ[0]] for split, word in parts.items()}
        return True
    place = "/".join(train)
    guess.fields["images"] = f"{place}/{{name}}"
    guess.fields["annotations"] = f"{_swap(place, 'images', 'labels')}/{{name}}.txt"
    return False


def _swap(place: str, old: str, new: str) -> str:
    """A path with the part `old` replaced."""
    return "/".join(new if part == old else part for part in place.split("/"))


def _below(tree: Tree, prefix: str, word: str) -> str:
    """A path of a data file, below the data root: exporters write ../train/images and absolute ones."""
    text = word.replace("\\", "/").rstrip("/")
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    candidates = ["/".join(parts[i:]) for i in range(len(parts))]
    if prefix:
        candidates = [posixpath.join(prefix, "/".join(parts)), *candidates]
    for candidate in candidates:
        if candidate in tree.files or any(file.startswith(f"{candidate}/") for file in tree.files):
            return candidate
    return "/".join(parts)


# ------------------------------------------------------------------------------------------------------- Labelme


def guess_labelme(tree: Tree) -> Guess | None:
    """JSON files with shapes, one for each image."""
    files = [f for f in _jsons(tree) if '"shapes"' in (head := _head(tree, f)) or '"imagePath"' in head]
    read = {}
    for file in files:
        try:
            read[file] = read_labelme(tree.path(file))
        except HarnessError:
            continue
    if not read:
        return None
    coco_masks()
    first, data = next(iter(read.items()))
    image = posixpath.normpath(
        posixpath.join(posixpath.dirname(first), str(data.get("imagePath", "")).replace("\\", "/"))
    )
    image = image if image in tree.files else tree.find(posixpath.basename(image)) or ""
    if not image and data.get("imageData"):
        image = first
    if not image:
        raise HarnessError(
            f"{tree.path(first)}: its image '{data.get('imagePath')}' is not there, nor embedded",
            "put the images beside the JSON files",
        )
    place, split, _ = folder_template(posixpath.dirname(first))
    image_place = folder_template(posixpath.dirname(image))[0]
    guess = Guess({"layout": "labelme", "images": posixpath.join(image_place, "{name}")})
    guess.fields["annotations"] = posixpath.join(place, "{name}.json")
    guess.note("annotations", f"Labelme's JSON, {len(read)} files")
    keys = Template(guess.fields["annotations"], frozenset({".json"})).match(read)
    words = {split_of(key[0]): key[0] for key in keys if key[0]}
    if split and "train" in words and len(words) > 1:
        guess.fields["splits"] = {s: words[s] for s in ("train", "val", "test") if s in words}
    else:
        for name in ("images", "annotations"):
            guess.fields[name] = guess.fields[name].replace("{split}", split)
        names = [key[1] for key in keys]
        images = {name: f"{name}.jpg" for name in names}
        if lists := find_lists(tree, names, images):
            guess.fields["splits"] = lists
        else:
            fraction_splits(guess, names)
    shapes = [shape for data in read.values() for shape in data["shapes"]]
    labels = Counter(str(shape["label"]) for shape in shapes if shape.get("shape_type") not in NO_AREA)
    guess.fields["classes"] = sorted(set(labels) - {IGNORED, "_background_"})
    guess.note("classes", _BACKGROUND)
    instances = _instances(guess.fields["classes"])
    if instances:
        guess.fields["merge"] = instances
        guess.doubt("merge", "labels that end in a number look like instances of one class; remove them here if not")
    bare = sum(shape.get("shape_type") in NO_AREA for shape in shapes)
    if bare:
        guess.doubt("classes", f"{bare} lines and points cover no pixels and are skipped")
    return guess


def _instances(labels: Sequence[str]) -> dict[str, list[str]]:
    """Labels that are one class but for a number at their end: person-1, person-2."""
    found: dict[str, list[str]] = {}
    for label in labels:
        if match := re.fullmatch(r"(.*\D)[-_ ]\d+", label):
            found.setdefault(match[1], []).append(label)
    return {name: parts + [name] * (name in labels) for name, parts in found.items() if len(parts) > 1}


# -------------------------------------------------------------------------------------------------- Label Studio


_FEW_PROJECTS = 20
"""Of more JSON files than this without painted regions beside them, none is a project of Label Studio."""


def guess_label_studio(tree: Tree) -> Guess | None:
    """A project's JSON beside PNG files named after tasks, or with the painted regions in it."""
    regions = [file for file in tree.pictures if re.match(r"task-\d+-annotation-\d+-by-", posixpath.basename(file))]
    files = _jsons(tree)
    if not regions and len(files) > _FEW_PROJECTS:
        return None
    for file in files:
        try:
            tasks = read_tasks(tree.path(file))
        except HarnessError:
            continue
        if regions or any(task.coded for task in tasks):
            return _of_project(tree, file, tasks, regions)
    if not regions:
        return None
    raise HarnessError(
        f"{tree.root}: PNG files of Label Studio's regions, but no JSON that says which image a task is about",
        "export the project as JSON too, into the same folder",
    )


def _of_project(tree: Tree, file: str, tasks: Sequence[Task], regions: Sequence[str]) -> Guess:
    images = [image for task in tasks if (image := find_image(tree, "", task.image))]
    if not images:
        raise HarnessError(f"{tree.path(file)}: none of its {len(tasks)} images is below {tree.root}",
                           "put the images there, under the names they had when they were uploaded")  # fmt: skip
    guess = Guess({"layout": "label-studio", "images": posixpath.dirname(images[0]) or "."})
    guess.fields |= {"masks": posixpath.dirname(regions[0]) or "."} if regions else {}
    guess.fields["annotations"] = file
    painted = f"{len(regions)} painted regions" if regions else "painted regions in the file itself"
    guess.note("annotations", f"Label Studio's, {len(tasks)} tasks, {painted}")
    fraction_splits(guess, [posixpath.splitext(posixpath.basename(image))[0] for image in images])
    guess.fields["classes"] = sorted({label for task in tasks for label in task.labels})
    guess.note("classes", _BACKGROUND)
    return guess
