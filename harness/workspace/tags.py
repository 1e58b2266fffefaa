"""Tags: short words by which people mark runs. Kept in one file; records and database are unchanged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from harness.errors import HarnessError, did_you_mean
from harness.workspace.folders import Workspace
from harness.workspace.notes import changed_notes, read_notes

LONGEST = 40
"""Characters of a tag."""
_TAG = re.compile(r"[^\W_][\w.\-]*")

Tags = Mapping[str, frozenset[str]]
"""Tag -> keys of the runs that have it, in the tags' alphabetical order."""


@dataclass(frozen=True)
class Retagged:
    """How many tags were given to runs and taken from runs: those that were there, or missing, already do not count."""

    added: int
    removed: int


def checked_tag(text: str) -> str:
    """A tag as it is kept.

    Raises:
        HarnessError: it is empty, too long, or has other characters than letters, digits, `.`, `_` and `-`.
    """
    tag = unicodedata.normalize("NFC", text.strip())
    example = "for example: paper, ablation-2, broken-lr"
    if not tag:
        raise HarnessError("a tag is empty", example)
    if len(tag) > LONGEST:
        raise HarnessError(f"the tag '{tag[:LONGEST]}...' has {len(tag)} characters", f"at most {LONGEST}; {example}")
    if not _TAG.fullmatch(tag):
        allowed = "letters, digits, '.', '_' and '-', with a letter or a digit first"
        raise HarnessError(f"'{tag}' is no tag: a tag consists of {allowed}", example)
    return tag


def read_tags(workspace: Workspace) -> Tags:
    """All tags and their runs. An unreadable file has none; neither have words in it that are no tags."""
    return {
        tag: frozenset(filter(_is_text, keys))
        for tag, keys in sorted(read_notes(workspace.tags_file).items())
        if isinstance(keys, list) and len(tag) <= LONGEST and _TAG.fullmatch(tag)
    }


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def by_run(tags: Tags) -> dict[str, list[str]]:
    """Key of a run -> its tags, in alphabetical order."""
    found: dict[str, list[str]] = {}
    for tag, keys in tags.items():
        for key in keys:
            found.setdefault(key, []).append(tag)
    return found


def runs_tagged(tags: Tags, wanted: Iterable[str]) -> set[str]:
    """Keys of the runs that have any of some tags.

    Raises:
        HarnessError: no run has one of them.
    """
    found: set[str] = set()
    for tag in wanted:
        if not tags.get(tag):
            hint = did_you_mean(tag, list(tags)) if tags else "harness tag RUN --add WORD tags a run"
            raise HarnessError(f"no run is tagged '{tag}'", hint)
        found |= tags[tag]
    return found


def retag(workspace: Workspace, keys: Collection[str], add: Iterable[str] = (), remove: Iterable[str] = ()) -> Retagged:
    """Give runs some tags, and take others from them.

    Raises:
        HarnessError: a word is no tag, a tag is both given and taken, or the file of tags cannot be read.
    """
    given, taken = [checked_tag(tag) for tag in add], [checked_tag(tag) for tag in remove]
    if both := sorted(set(given) & set(taken)):
        raise HarnessError(f"'{both[0]}' is to be added and removed", "say one of them")
    added = removed = 0
    with changed_notes(workspace.tags_file) as known:
        for tag in dict.fromkeys([*given, *taken]):
            listed = known.get(tag)
            before = set(filter(_is_text, listed)) if isinstance(listed, list) else set()
            after = before | set(keys) if tag in given else before - set(keys)
            added, removed = added + len(after - before), removed + len(before - after)
            if after:
                known[tag] = sorted(after)
            else:
                known.pop(tag, None)
    return Retagged(added, removed)


def take_over(workspace: Workspace, tags: Tags, keys: Collection[str]) -> None:
    """Tag runs as they are tagged in another workspace; the tags that they have here stay.

    Raises:
        HarnessError: the file of tags cannot be read.
    """
    for tag, tagged in tags.items():
        if tagged & set(keys):
            retag(workspace, tagged & set(keys), [tag])
