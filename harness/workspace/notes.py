"""What people say of runs, in JSON files of the workspace: read by anybody, changed by one process at a time."""

from __future__ import annotations

import contextlib
import copy
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.workspace.files import read_json, write_json


def read_notes(file: Path) -> dict[str, Any]:
    """The content of such a file; nothing where it is missing or unreadable."""
    found = read_json(file)
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def changed_notes(file: Path) -> Iterator[dict[str, Any]]:
    """The content of such a file, to be changed in place; it is written afterwards if it was changed.

    Others who change it wait. On a file system without locks they do not, and the last one's change counts.

    Raises:
        HarnessError: the file cannot be read; it is left as it is.
    """
    with _locked(file):
        if file.exists() and not isinstance(read_json(file), dict):
            raise HarnessError(f"{file} is not valid JSON", "repair it, or move it away")
        known = read_notes(file)
        before = copy.deepcopy(known)
        yield known
        if known != before:
            write_json(file, dict(sorted(known.items())))


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("a") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
