"""Reading the files of a data set. Only regular files are opened: a pipe or a device may never end."""

from __future__ import annotations

import stat
from pathlib import Path

from harness.errors import HarnessError

_HINT = "remove it, or put a file in its place"
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


def regular_file(path: Path) -> Path:
    """The path, if it is a regular file or a link to one.

    Raises:
        HarnessError: it is a folder, pipe, socket or device, or a link to nothing.
        OSError: it is missing, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if not path.is_symlink():
            raise
        raise HarnessError(f"{path}: is a link to {path.readlink()}, which is missing", _HINT) from error
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "")
    if kind:
        raise HarnessError(f"{path}: is a {kind}, not a file", _HINT)
    return path


def read_file(path: Path) -> bytes:
    """The bytes of a regular file. Raises as `regular_file` does."""
    return regular_file(path).read_bytes()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a regular file.

    Raises:
        HarnessError, OSError: as `regular_file`.
        UnicodeDecodeError: it is not text of that encoding.
    """
    return read_file(path).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
