"""Dividing samples into splits: by folders, by lists, or randomly, by sample or by group."""

from __future__ import annotations

import csv
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from harness.data.base import Problem
from harness.data.files import read_text
from harness.data.folder.config import Config
from harness.data.folder.tree import Tree
from harness.errors import HarnessError

LISTS = (".txt", ".csv", ".tsv", ".lst")


def is_list(word: object) -> bool:
    """Whether the word in `splits:` is the name of a list."""
    return isinstance(word, str) and word.lower().endswith(LISTS)


def sources(config: Config) -> dict[str, list[str]]:
    """Words of every split: names of folders or lists. Empty where splits are fractions.

    Raises:
        HarnessError: there are no splits, or fractions and words together.
    """
    if not config.splits:
        raise HarnessError(
            "dataset.yaml names no splits", "as in  splits: {train: 0.8, val: 0.2}  or  {train: train.txt, ...}"
        )
    numbers = [name for name, value in config.splits.items() if isinstance(value, float | int)]
    if numbers and len(numbers) < len(config.splits):
        raise HarnessError("splits: fractions and names are mixed", "use fractions for all, or for none")
    if numbers:
        return {}
    return {name: [value] if isinstance(value, str) else list(value) for name, value in config.splits.items()}  # type: ignore[arg-type]


def draw(config: Config, names: Sequence[str]) -> dict[str, list[str]]:
    """Names by split, drawn by `seed`; groups stay together, and a name added later moves few of the others.

    Raises:
        HarnessError: fractions that do not fit, a pattern that is none or fits no name, fewer groups than splits.
    """
    fractions = {name: float(value) for name, value in config.splits.items() if isinstance(value, int | float)}
    if any(value <= 0 for value in fractions.values()) or sum(fractions.values()) > 1 + 1e-6:
        raise HarnessError(f"splits: {fractions} are not fractions", "each above 0, together at most 1")
    groups: dict[str, list[str]] = defaultdict(list)
    key = grouping(config.group)
    for name in names:
        groups[key(name)].append(name)
    order = sorted(groups, key=lambda group: sha256(f"{config.seed}:{group}".encode()).hexdigest())
    drawn: dict[str, list[str]] = {name: [] for name in fractions}
    limits = _limits(fractions, len(names))
    done = 0.0
    for group in order:
        middle = done + len(groups[group]) / 2
        done += len(groups[group])
        split = next((name for name, limit in limits.items() if middle <= limit), None)
        if split:
            drawn[split] += groups[group]
    empty = [name for name, found in drawn.items() if not found]
    if empty:
        what = f"the split '{empty[0]}' is empty: {len(names)} samples in {len(groups)} groups"
        raise HarnessError(what, "give it a larger fraction, another seed:, or a finer group:")
    return {name: sorted(found) for name, found in drawn.items()}


def _limits(fractions: Mapping[str, float], count: int) -> dict[str, float]:
    """Up to which place of the drawn order each split goes."""
    limits, total = {}, 0.0
    for name, value in fractions.items():
        total += value
        limits[name] = (1.0 if total > 1 - 1e-6 else total) * count
    return limits


def grouping(pattern: str) -> Callable[[str], str]:
    """What a name's group is: what the pattern's group matches, or the name itself without a pattern.

    Raises:
        HarnessError: it is not a regular expression with one group, or a name does not match it.
    """
    if not pattern:
        return lambda name: name
    if pattern == "folder":
        return posixpath.dirname
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise HarnessError(f"group: {pattern!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise HarnessError(f"group: {pattern!r} has {expression.groups} groups", r"write one, as in '(.+)_\d+'")

    def key(name: str) -> str:
        match = expression.search(name)
        if not match:
            raise HarnessError(f"group: {pattern!r} does not match the name '{name}'", "or write group: folder")
        return match[1] or ""

    return key


def read_list(tree: Tree, word: str) -> list[str]:
    """Lines of a list below the data root; empty ones and comments left out, VOC's quotes taken off.

    Raises:
        HarnessError: there is no such file, or it is not text.
    """
    file = tree.find(word)
    if file is None:
        raise HarnessError(f"splits: there is no list {tree.root / word}", "paths are relative to the data root")
    try:
        text = read_text(tree.path(file), "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{tree.path(file)}: cannot be read as text: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    return [_unquoted(line) for line in lines if line and not line.startswith("#")]


def _unquoted(line: str) -> str:
    match = re.fullmatch(r'"([^"]+)"', line)
    return match[1] if match else line


def fields(line: str, exists: Callable[[str], bool]) -> list[str]:
    """The one or two paths of a line, separated by a tab, a comma, a semicolon or spaces.

    Names may have spaces: a line that is a path as a whole is one path, and of several places to cut it the one is
    taken at which both parts exist.
    """
    if exists(line):
        return [line]
    for separator in ("\t", ",", ";"):
        parts = [part.strip() for part in next(csv.reader([line], delimiter=separator))]
        if len(parts) >= 2:
            return parts[:2]
    words = line.split(" ")
    cuts = [(" ".join(words[:i]).strip(), " ".join(words[i:]).strip()) for i in range(1, len(words))]
    both = [cut for cut in cuts if exists(cut[0]) and exists(cut[1])]
    if both:
        return list(both[0])
    suffixed = [cut for cut in cuts if posixpath.splitext(cut[0])[1] and posixpath.splitext(cut[1])[1]]
    return list(suffixed[0]) if suffixed else [line]


class Names:
    """Find the sample that a line of a list means: a name, a path with or without suffix, or the last part of one."""

    def __init__(self, names: Sequence[str], images: Mapping[str, Path | str]) -> None:
        self._exact = {_key(name): name for name in names}
        for name in names:
            path = str(images[name])
            self._exact.setdefault(_key(path), name)
            self._exact.setdefault(_key(posixpath.splitext(path)[0]), name)
        last: dict[str, set[str]] = defaultdict(set)
        for name in names:
            last[_key(posixpath.basename(name))].add(name)
            last[_key(posixpath.splitext(posixpath.basename(str(images[name])))[0])].add(name)
        self._last = {key: next(iter(found)) for key, found in last.items() if len(found) == 1}

    def find(self, line: str) -> str | None:
        """The name, or None."""
        text = posixpath.normpath(line.replace("\\", "/")).lstrip("/")
        stem = posixpath.splitext(text)[0]
        for candidate in (text, stem):
            if _key(candidate) in self._exact:
                return self._exact[_key(candidate)]
        for candidate in (text, stem):
            if _key(posixpath.basename(candidate)) in self._last:
                return self._last[_key(posixpath.basename(candidate))]
        first, space, _ = text.partition(" ")  # lists may have further columns
        return self.find(first) if space else None


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def listed(tree: Tree, words: Sequence[str], names: Names) -> tuple[list[str], list[Problem]]:
    """Names that some lists name, in their order, and lines that name nothing."""
    found: list[str] = []
    problems = []
    for word in words:
        for line in read_list(tree, word):
            name = names.find(line)
            if name is None:
                problems.append(Problem(str(tree.root / word), f"names '{line}', of which there is no image"))
            else:
                found.append(name)
    return list(dict.fromkeys(found)), problems
