"""Images with masks, by two path templates or by lists of pairs; also VOC and CVAT."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.data.base import Problem
from harness.data.decode import SUFFIXES
from harness.data.folder.config import Config
from harness.data.folder.items import Found, Item, LabelSource, Mask
from harness.data.folder.splits import Names, draw, fields, is_list, listed, read_list, sources
from harness.data.folder.tree import Tree, inside
from harness.errors import HarnessError

Key = tuple[str, str]
"""(split, name); the split is "" where a template has none."""
_SKIP = "write  unmatched: skip  in dataset.yaml if that is intended"


@dataclass(frozen=True)
class Template:
    """A pattern of paths: `{split}/images/{name}`; `{name}` may hold folders, `*` stands for anything in one part.

    A suffix that is written must be there, in any case; without one any of `suffixes` will do.
    """

    text: str
    suffixes: frozenset[str] = SUFFIXES

    @property
    def expression(self) -> re.Pattern[str]:
        """With the groups `name` and, where the template has it, `split`."""
        text = posixpath.normpath(self.text.replace("\\", "/"))
        stem, suffix = posixpath.splitext(text)
        if suffix.lower() not in self.suffixes:
            stem, suffix = text, ""
        pattern = re.escape(stem).replace(r"\*", "[^/]*")
        for word, group in (("split", "[^/]+?"), ("name", ".+")):
            first, *rest = pattern.split(rf"\{{{word}\}}")
            pattern = first + (f"(?P<{word}>{group})" + f"(?P={word})".join(rest) if rest else "")
        endings = re.escape(suffix) if suffix else "|".join(re.escape(ending) for ending in sorted(self.suffixes))
        return re.compile(f"{pattern}(?i:{endings})")

    def match(self, files: Iterable[str]) -> dict[Key, str]:
        """Files by key; of those with equal keys the first."""
        found: dict[Key, str] = {}
        for key, file in self._keys(files):
            found.setdefault(key, file)
        return found

    def doubled(self, files: Iterable[str]) -> list[tuple[str, str]]:
        """Pairs of files with equal keys: their paths differ in the suffix alone."""
        first: dict[Key, str] = {}
        return [(kept, file) for key, file in self._keys(files) if (kept := first.setdefault(key, file)) != file]

    def _keys(self, files: Iterable[str]) -> Iterator[tuple[Key, str]]:
        expression = self.expression
        for file in files:
            if match := expression.fullmatch(file):
                groups = match.groupdict()
                yield (groups.get("split", ""), groups["name"]), file


def template(text: str, field: str, tree: Tree, suffixes: frozenset[str] = SUFFIXES) -> Template:
    """A checked template.

    Raises:
        HarnessError: it has no `{name}`, or leads out of the data root.
    """
    if "{name}" not in text:
        raise HarnessError(f"{field}: '{text}' has no {{name}}", "as in  {split}/images/{name}  or  images/{name}.jpg")
    return Template(inside(tree.root, text), suffixes)


def find_masks(config: Config, tree: Tree) -> Found:
    """Items of images with masks.

    Raises:
        HarnessError: the templates or the splits make no sense.
    """
    if not config.images and not config.masks:
        return _find_pairs(config, tree)
    of_images = template(config.images, "images", tree)
    of_masks = template(config.masks, "masks", tree)
    masks = of_masks.match(tree.pictures)
    taken = set(masks.values())
    others = [file for file in tree.pictures if file not in taken]
    images = of_images.match(others)
    nearest = config.lossy_masks == "nearest"
    pairing = Pairing(config, tree, images, masks, "mask", lambda file: Mask(tree.path(str(file)), nearest))
    found = pairing.found()
    imaged = set(images.values())
    doubled = of_images.doubled(others) + of_masks.doubled([file for file in tree.pictures if file not in imaged])
    return replace(found, problems=(*_doubled(found, tree, doubled), *found.problems))


def _doubled(found: Found, tree: Tree, pairs: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Files that have the same name as a file in use, apart from the suffix."""
    items = [item for split in found.splits.values() for item in split]
    used = {item.image for item in items} | {file for item in items for file in item.label.files}
    for first, second in pairs:
        if tree.path(first) in used:
            what = f"has the same name as {posixpath.basename(first)}; write the suffix behind {{name}} in dataset.yaml"
            yield Problem(second, what)


@dataclass(frozen=True)
class Pairing:
    """Images and label files by (split, name), to be paired and divided into splits.

    Attributes:
        images, labels: paths relative to the data root.
        word: what a label is called: "mask".
        source: from the path of a label, or None for an image without one, to its label's source.
        optional: an image without a label is a sample all the same: nothing of interest is in it.
    """

    config: Config
    tree: Tree
    images: Mapping[Key, str]
    labels: Mapping[Key, str]
    word: str
    source: Callable[[str | None], LabelSource]
    optional: bool = False

    def found(self) -> Found:
        """The items by split.

        Raises:
            HarnessError: the splits make no sense.
        """
        words = sources(self.config)
        if words and not any(is_list(word) for found in words.values() for word in found):
            return self._by_folders(words)
        return self._by_names(words)

    def _by_folders(self, words: Mapping[str, Sequence[str]]) -> Found:
        if not any(key[0] for key in self.images):
            raise HarnessError("splits: names folders, but images: has no {split}", "write {split} into both templates")
        splits: dict[str, tuple[Item, ...]] = {}
        problems: list[Problem] = []
        for split, folders in words.items():
            keys = [key for key in self.images if key[0] in folders]
            if not keys:
                there = ", ".join(sorted({key[0] for key in self.images}))
                what = f"has no images for {split} ({', '.join(folders)}); there are {there}"
                problems.append(Problem(str(self.tree.root), what))
            names = [key[1] if len(folders) == 1 else "/".join(key) for key in keys]
            splits[split] = self._items(dict(zip(names, keys)))
            problems += self._unmatched(keys, [key for key in self.labels if key[0] in folders])
        return Found(splits, tuple(problems))

    def _by_names(self, words: Mapping[str, Sequence[str]]) -> Found:
        """Splits by lists, or drawn."""
        by_name = {"/".join(filter(None, key)): key for key in self.images}
        if not words:
            usable = [name for name, key in by_name.items() if self.optional or key in self.labels]
            chosen = draw(self.config, sorted(usable))
            problems = self._unmatched(self.images, self.labels)
        else:
            chosen, problems = {}, []
            lookup = Names(list(by_name), {name: self.images[key] for name, key in by_name.items()})
            for split, lists in words.items():
                chosen[split], wrong = listed(self.tree, lists, lookup)
                problems += wrong
            problems += self._unmatched([by_name[name] for names in chosen.values() for name in names], [])
        splits = {split: self._items({name: by_name[name] for name in names}) for split, names in chosen.items()}
        return Found(splits, tuple(problems))

    def _items(self, keys: Mapping[str, Key]) -> tuple[Item, ...]:
        return tuple(
            Item(name, self.tree.path(self.images[key]), self.source(self.labels.get(key)))
            for name, key in keys.items()
            if self.optional or key in self.labels
        )

    def _unmatched(self, images: Iterable[Key], labels: Iterable[Key]) -> list[Problem]:
        if self.config.unmatched == "skip":
            return []
        without = [] if self.optional else sorted(key for key in set(images) if key not in self.labels)
        alone = sorted(key for key in set(labels) if key not in self.images)
        return [
            *(Problem(str(self.tree.path(self.images[key])), f"has no {self.word}; {_SKIP}") for key in without),
            *(Problem(str(self.tree.path(self.labels[key])), f"has no image; {_SKIP}") for key in alone),
        ]


def _find_pairs(config: Config, tree: Tree) -> Found:
    """Lists of pairs: an image and a mask a line, both relative to the data root."""
    words = sources(config)
    if not words:
        raise HarnessError(
            "dataset.yaml has neither images: and masks: nor lists of pairs", "docs/data.md has examples"
        )
    splits: dict[str, tuple[Item, ...]] = {}
    problems: list[Problem] = []
    for split, lists in words.items():
        items: dict[str, Item] = {}
        for word in lists:
            for line in read_list(tree, word):
                parts = fields(line, lambda path: tree.exact(path) is not None)
                files = [tree.find(part) for part in parts]
                if len(files) == 2 and files[0] and files[1]:
                    name = posixpath.splitext(files[0])[0]
                    mask = Mask(tree.path(files[1]), config.lossy_masks == "nearest")
                    items[name] = Item(name, tree.path(files[0]), mask)
                elif len(parts) < 2:
                    problems.append(Problem(str(tree.root / word), f"'{line}' is not a pair of an image and a mask"))
                else:
                    missing = parts[0] if not files[0] else parts[1]
                    problems.append(Problem(str(tree.root / word), f"names '{missing}', which is not there"))
        splits[split] = tuple(items.values())
    return Found(splits, tuple(problems))
