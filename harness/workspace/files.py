"""Atomic writes, and reads of complete files only."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any


def now() -> str:
    """The current time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_atomic(path: Path, content: bytes | str, durable: bool = True, private: bool = False) -> None:
    """Write a file atomically: after a crash, and for concurrent readers, it has either the old or the new content.

    Args:
        durable: wait until it is on disk. Not needed for files that can be written again after a power failure.
        private: make it readable by the user only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    # Half a surrogate pair (of a file's name that is not UTF-8) is written as an escape, which in JSON means the same.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        opener = partial(os.open, mode=0o600 if private else 0o666)
        with open(temporary, "wb", opener=opener) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write a value as indented JSON, atomically; `private` as for `write_atomic`."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", private=private)


def read_json(path: Path) -> Any | None:
    """The JSON in a file; None if it is missing, incomplete, or nested too deeply to be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        hasher = sha256()
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
        return hasher.hexdigest()
