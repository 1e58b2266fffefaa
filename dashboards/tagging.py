"""The tags of the workspace (`harness tag`), read again only when their file has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from harness.workspace.folders import Workspace
from harness.workspace.tags import Tags, by_run, read_tags


@dataclass(frozen=True)
class Chosen:
    """Tags to filter by, as a key of a cache: their runs, which may be very many, are looked up behind it.

    Attributes:
        words: any of them; none lets everything pass.
        root: the workspace.
        changed: as `stamp` gives it.
    """

    words: tuple[str, ...]
    root: str
    changed: str

    def keys(self) -> set[str] | None:
        """The runs that have any of the tags; None where none is chosen."""
        tags = _tags(self.root, self.changed)
        return {key for word in self.words for key in tags.get(word, ())} if self.words else None


def chosen(root: Path, words: tuple[str, ...]) -> Chosen:
    """Tags of a workspace to filter by."""
    return Chosen(words, str(root), stamp(root) if words else "")


def stamp(root: Path) -> str:
    """Changes when the tags have changed; "" where there are none."""
    try:
        found = Workspace(root).tags_file.stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"


def of_runs(root: Path) -> dict[str, list[str]]:
    """Key of a run -> its tags, which nobody may change."""
    return _of_runs(str(root), stamp(root))


@st.cache_resource(max_entries=4, show_spinner=False)
def _tags(root: str, changed: str) -> Tags:
    return read_tags(Workspace(Path(root)))


@st.cache_resource(max_entries=4, show_spinner=False)
def _of_runs(root: str, changed: str) -> dict[str, list[str]]:
    return by_run(_tags(root, changed))
