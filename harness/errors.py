"""Errors that a user can act on: one sentence that names the problem, and a hint with the remedy."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of commands."""

    DONE = 0
    FAILED = 1
    """A stage failed, a check found a problem, or an unexpected error occurred."""
    USAGE = 2
    """The user can fix the arguments, files or environment; nothing was done."""
    INTERRUPTED = 130


class WorkerExit(IntEnum):
    """Exit codes of a worker (`python -m harness.worker`), read by launchers.

    For a cohort whose stages ended differently: TOO_LARGE or INTERRUPTED if any did, otherwise FAILED.
    """

    DONE = 0
    FAILED = 1
    """A retry will not help."""
    INTERRUPTED = 3
    """The checkpoint is saved; the next attempt resumes from it."""
    REFUSED = 4
    """The job cannot run here: changed code, plugin or parent, or missing data."""
    TOO_LARGE = 5
    """Out of memory: retry with fewer jobs at once."""


class HarnessError(Exception):
    """A problem that the user can fix. The command line prints it without a traceback.

    Args:
        message: one sentence that names the problem.
        hint: what to do about it.
    """

    exit_code: Exit = Exit.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class StageFailed(HarnessError):
    """A stage cannot continue, and a retry would not help (NaN, dead latent, changed parent)."""

    exit_code = Exit.FAILED


class ChangedSincePlanned(HarnessError):
    """Something that a stage depends on has changed since it was planned.

    Args:
        what: the thing that changed, as the message names it.
        planned, found: its sha256 at planning and now; "" if it has none.
        hint: what to do about it.
    """

    def __init__(self, what: str, planned: str, found: str, hint: str = "plan the sweep again") -> None:
        super().__init__(
            f"{what} changed since the stage was planned "
            f"(sha256 {planned[:12] or 'none'} then, {found[:12] or 'none'} now)",
            hint,
        )


def refuse_undecodable(text: str) -> None:
    """Check that a text can be written as UTF-8: neither a record nor a database can hold others.

    Raises:
        HarnessError: it holds bytes of a file's name that no encoding explains.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode(errors="backslashreplace").decode()
        raise HarnessError(f"'{shown}' is not UTF-8 text", "rename the file or folder") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: similar known words, or the whole list if none is similar."""
    known = sorted(known)
    if word.lower() in known:
        return f"did you mean {word.lower()}?"
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else "none are registered"


_DISK = "finished stages are kept: fix this and run the same command again, or name another --workspace"
_SURROUNDINGS = {
    errno.ENOSPC: ("no space is left on the disk", f"free some space; {_DISK}"),
    errno.EDQUOT: ("the disk quota is exceeded", f"free some space; {_DISK}"),
    errno.EROFS: ("the file system is read-only", _DISK),
    errno.EACCES: ("permission denied", "check owner and permissions, or name another folder"),
    errno.EPERM: ("operation not permitted", "check owner and permissions, or name another folder"),
    errno.EIO: ("input/output error of the disk", "check the disk and the system log"),
    errno.ESTALE: ("the shared file system has lost the file", "try again; check the mount"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n), or use fewer --loader-workers"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs, or use fewer --loader-workers"),
    errno.ENOMEM: ("out of memory", "use fewer --workers, or a machine with more memory"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter one"),
    errno.ELOOP: ("its symbolic links form a circle", "mend the links"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "name another place"),
    errno.EFBIG: ("the file would be larger than allowed", "raise the limit (ulimit -f), or use another file system"),
    errno.EBUSY: ("it is in use", "end the program that uses it, and try again"),
    errno.ENODEV: ("the device is not there", "check the mount"),
    errno.ENXIO: ("the device is not there", "check the mount"),
    errno.ENOTCONN: ("the file system is not mounted any more", "mount it again"),
    errno.EREMOTEIO: ("input/output error of the shared file system", "check the mount, and try again"),
    errno.EAGAIN: ("no more processes can be started", "raise the limit (ulimit -u), or use fewer --workers"),
}


def surroundings(error: BaseException) -> HarnessError | None:
    """The cause of an unexpected error, if it lies in the environment: disk, permissions, memory, database.

    None if it can only be a bug of the harness (or of a plugin).
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        inner = cause.__cause__ or cause.__context__
        # Of a database's errors the first that happened: others follow from it, as a rollback that fails.
        if not (_of_database(cause) and _of_database(inner)) and (found := _around(cause)):
            return found
        cause = inner
    return None


def _of_database(error: BaseException | None) -> bool:
    """Told by name: neither SQLAlchemy nor a database's driver is imported here."""
    module, name = type(error).__module__.partition(".")[0], type(error).__name__
    names = ("OperationalError", "InterfaceError", "DatabaseError")
    return module in ("sqlalchemy", "sqlite3", "psycopg") and name in names


def _database_remedy(why: str) -> str:
    again = "then run harness collect: finished stages are kept"
    if "readonly" in why or "read-only" in why:
        return f"check the permissions of the file and its folder, or name another with --db; {again}"
    if "full" in why:
        return f"free some space, {again}"
    if "locked" in why:
        return f"close the program that holds it, {again}"
    return f"check that it exists and can be reached, {again}"


def _around(error: BaseException) -> HarnessError | None:
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        what, hint = _SURROUNDINGS[error.errno]
        return HarnessError(f"{error.filename}: {what}" if error.filename else what, hint)
    if isinstance(error, MemoryError):
        return HarnessError(*_SURROUNDINGS[errno.ENOMEM])
    if isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, BrokenPipeError):
        return HarnessError(f"a connection failed: {error}", "check the network, and try again")
    if _of_database(error):
        text = str(getattr(error, "orig", error)).strip().splitlines()
        why = text[0] if text else type(error).__name__
        return HarnessError(f"the database cannot be used: {why}", _database_remedy(why))
    return None
