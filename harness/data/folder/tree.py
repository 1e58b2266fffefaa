"""The files below a folder, by path; files outside it are never opened."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from harness.data.decode import SUFFIXES
from harness.data.files import regular_file
from harness.errors import HarnessError

_SKIPPED = {"__MACOSX", "__pycache__", "node_modules"}


class Tree:
    """Files below `root` as POSIX paths relative to it, sorted; hidden ones are passed over, links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def files(self) -> tuple[str, ...]:
        found: list[str] = []
        seen: set[str] = set()
        for folder, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back up
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
            place = Path(folder).relative_to(self.root)
            found += [(place / name).as_posix() for name in names if not name.startswith(".")]
        return tuple(sorted(found))

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The pictures among the files.

        Raises:
            HarnessError: the name of one is no text, so that no list, template or record could name it.
        """
        found = tuple(file for file in self.files if posixpath.splitext(file)[1].lower() in SUFFIXES)
        if odd := next((file for file in found if not is_text(file)), None):
            raise HarnessError(f"the name of the file {odd!r} is no text", "rename it: no control characters, UTF-8")
        return found

    def path(self, file: str) -> Path:
        return self.root / file

    def holds(self, file: str, most: int) -> bool:
        """Whether it is a regular file of at most so many bytes."""
        try:
            return regular_file(self.path(file)).stat().st_size <= most
        except (HarnessError, OSError):
            return False

    def exact(self, word: str) -> str | None:
        """The file of that path, without regard to how accents are composed, or to case where that is needed.

        Raises:
            HarnessError: the path leads out of the folder.
        """
        composed, folded, _ = self._index
        key = _composed(inside(self.root, word))
        return composed.get(key) or folded.get(key.casefold())

    def find(self, word: str) -> str | None:
        """The file that a path in an annotation means: as `exact`, else by its last parts, where these mean one only.

        Raises:
            HarnessError: the path leads out of the folder.
        """
        if file := self.exact(word):
            return file
        key, last = _composed(inside(self.root, word)), self._index[2]
        found = last.get(posixpath.basename(key).casefold(), [])
        tails = [file for file in found if _composed(file).casefold().endswith("/" + key.casefold())]
        for candidates in (tails, found):
            if len(candidates) == 1:
                return candidates[0]
        return None

    @cached_property
    def _index(self) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
        composed = {_composed(file): file for file in self.files}
        folded = {key.casefold(): file for key, file in composed.items()}
        last: dict[str, list[str]] = defaultdict(list)
        for key, file in composed.items():
            last[posixpath.basename(key).casefold()].append(file)
        return composed, folded, last


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8 without control characters."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def inside(root: Path, word: str) -> str:
    """A path as written, relative to `root` and in POSIX form.

    Raises:
        HarnessError: it leads out of `root`.
    """
    text = word.strip().replace("\\", "/")
    if text.startswith("/"):
        for base in (root, root.resolve()):
            if text.startswith(f"{base.as_posix()}/"):
                text = text[len(base.as_posix()) + 1 :]
                break
    path = posixpath.normpath(text)
    if path.startswith(("/", "../")) or path == ".." or path[1:3] == ":/":
        raise HarnessError(f"the path {word!r} leads out of {root}", "write paths relative to the data root")
    return path
