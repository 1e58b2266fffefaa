"""sha256 of files, cached for large collections.

What a data set holds is part of every key, so it is hashed whenever a sweep is planned. Of large collections the
digests are kept between commands, for as long as a file keeps its size, its time and its place on the disk, as Git's
index does it. They lie in one small SQLite file in the user's cache (`HARNESS_CACHE` names another folder; empty,
none). Whatever goes wrong with it only costs time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from harness.data.files import regular_file
from harness.errors import HarnessError

LARGE = 1 << 28
"""Bytes in all from which on digests are kept between commands."""
SETTLED = 10.0
"""Seconds for which a file must have been left alone: one written just now may change again within the clock's tick."""
_FOLDER = "segmentation-distillation-harness"
_SCHEMA = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL)"

_memory: dict[tuple[str, str], str] = {}


def file_digests(files: Iterable[Path]) -> dict[Path, str]:
    """sha256 of the content of every file, in hexadecimal.

    Raises:
        HarnessError: one is missing, or a pipe, socket or device.
        OSError: one cannot be read.
    """
    stamps, total = {}, 0
    for file in sorted(set(files)):
        try:
            stat = regular_file(file).stat()
        except FileNotFoundError as error:
            raise HarnessError(f"{file}: is missing", "run harness data check") from error
        total += stat.st_size
        stamps[file] = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
    found = {file: _memory[str(file), stamp] for file, stamp in stamps.items() if (str(file), stamp) in _memory}
    kept = _kept(stamps.keys() - found.keys()) if total >= LARGE else {}
    found |= {file: digest for file, (stamp, digest) in kept.items() if stamp == stamps[file]}
    missing = [file for file in stamps if file not in found]
    with ThreadPoolExecutor() as pool:
        found |= dict(zip(missing, pool.map(_digest, missing)))
    if total >= LARGE:
        _keep([(file, stamps[file], found[file]) for file in missing])
    _memory.update({(str(file), stamp): found[file] for file, stamp in stamps.items()})
    return found


def _digest(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """The harness's folder in the user's cache; None if caching is disabled."""
    named = os.environ.get("HARNESS_CACHE")
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / _FOLDER


def _cache() -> Path | None:
    """The file of the cache; None if caching is disabled."""
    folder = cache_folder()
    return folder / "digests.db" if folder is not None else None


def _kept(files: Iterable[Path]) -> dict[Path, tuple[str, str]]:
    """Stamp and digest of cached files."""
    try:
        cache = _cache()
        if cache is None or not cache.is_file():
            return {}
        wanted = {str(file.absolute()): file for file in files}
        with closing(sqlite3.connect(cache, timeout=10)) as connection:
            rows = connection.execute("SELECT path, stamp, digest FROM files")
            return {wanted[path]: (stamp, digest) for path, stamp, digest in rows if path in wanted}
    except (sqlite3.Error, OSError, RuntimeError):
        return {}


def _keep(entries: Sequence[tuple[Path, str, str]]) -> None:
    """Cache the digests of files that have not changed recently."""
    before = time.time_ns() - int(SETTLED * 1e9)
    rows = [(str(f.absolute()), stamp, digest) for f, stamp, digest in entries if int(stamp.split(":")[1]) < before]
    try:
        cache = _cache()
        if cache is None or not rows:
            return
        cache.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(cache, timeout=10)) as connection, connection:
            connection.execute(_SCHEMA)
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
    except (sqlite3.Error, OSError, RuntimeError):
        return
