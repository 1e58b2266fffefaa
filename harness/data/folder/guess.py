"""A guessed `dataset.yaml`: its fields, notes and uncertainties, and writing it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.specs.yaml_files import yaml_word

SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of split folders and lists."""
FRACTIONS: dict[str, Any] = {"train": 0.8, "val": 0.2}


@dataclass
class Guess:
    """Fields of a `dataset.yaml` in order, and remarks on them.

    Attributes:
        fields: name -> value.
        notes: name of the field -> what was found, a line each.
        unsure: name of the field -> what should be looked at, a line each.
    """

    fields: dict[str, Any]
    notes: dict[str, list[str]] = field(default_factory=dict)
    unsure: dict[str, list[str]] = field(default_factory=dict)

    def note(self, name: str, text: str) -> None:
        self.notes.setdefault(name, []).append(text)

    def doubt(self, name: str, text: str) -> None:
        self.unsure.setdefault(name, []).append(text)


def split_of(text: str) -> str | None:
    """The split that a folder or file name means: `train2017` -> "train"."""
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None


def guess_group(names: Sequence[str]) -> tuple[str, int] | None:
    """A pattern of names that look like frames of several videos, and how many videos these are."""
    folders = {name.rpartition("/")[0] for name in names}
    if len(folders) >= 3 and len(names) >= 3 * len(folders):
        return "folder", len(folders)
    pattern = r"^(.*\D)\d+$"
    matches = [re.search(pattern, name) for name in names]
    groups = {match[1] for match in matches if match}
    if all(matches) and len(groups) >= 3 and len(names) >= 3 * len(groups):
        return pattern, len(groups)
    return None


def fraction_splits(guess: Guess, names: Sequence[str]) -> None:
    """Random splits, if there are no others."""
    guess.fields["splits"] = dict(FRACTIONS)
    guess.fields["seed"] = 0
    guess.doubt("splits", "no splits were found: a random fifth becomes val; lists of names work too")
    group = guess_group(names)
    if group:
        guess.fields["group"] = group[0]
        guess.doubt("group", f"names look like frames of {group[1]} videos: each video stays in one split")


# ------------------------------------------------------------------------------------------------------- writing


def yaml_text(guess: Guess) -> str:
    """The text of the file, with notes above each field."""
    lines = ["# Written by harness data init. Correct what is wrong; docs/data.md explains all fields."]
    for name, value in guess.fields.items():
        lines += [f"# {note}" for note in guess.notes.get(name, [])]
        lines += [f"# UNSURE: {note}" for note in guess.unsure.get(name, [])]
        if isinstance(value, dict) and name in ("classes", "splits", "annotations"):
            lines += [f"{name}:", *(f"  {yaml_word(key)}: {yaml_word(item)}" for key, item in value.items())]
        elif isinstance(value, list) and name == "classes":
            lines += [f"{name}:", *(f"  - {yaml_word(item)}" for item in value)]
        else:
            lines.append(f"{name}: {yaml_word(value)}")
    rest = {name: notes for name, notes in {**guess.notes, **guess.unsure}.items() if name not in guess.fields}
    lines += [f"# {note}" for notes in rest.values() for note in notes]
    return "\n".join(lines) + "\n"
