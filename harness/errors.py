"""Errors a user can act on: one sentence that names the thing, and a hint that names the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of commands."""

    DONE = 0
    FAILED = 1
    """Some stage failed, some check found something, or an error that nobody expected."""
    USAGE = 2
    """Words, files or surroundings that the user can mend; nothing was done."""
    INTERRUPTED = 130


class WorkerExit(IntEnum):
    """Exit codes of a worker (`python -m harness.worker`), read by launchers.

    Of a cohort whose stages ended differently: TOO_LARGE or INTERRUPTED if any did, otherwise FAILED.
    """

    DONE = 0
    FAILED = 1
    """Trying again will not help."""
    INTERRUPTED = 3
    """Its checkpoint is saved; the next attempt goes on from it."""
    REFUSED = 4
    """The job cannot be run here: changed code, plugin or parent, data that is not there."""
    TOO_LARGE = 5
    """Memory ran out: try again with fewer jobs at once."""


class HarnessError(Exception):
    """Something the user can mend. The command line prints it without a traceback.

    Args:
        message: one sentence that names what is wrong.
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
    """A stage cannot go on, and trying again would not help (NaN, dead latent, changed parent)."""

    exit_code = Exit.FAILED


class ChangedSincePlanned(HarnessError):
    """What a stage runs with is not what it was planned with.

    Args:
        what: that changed, as the sentence names it.
        planned, found: its sha256 then and now; "" for what has none.
        hint: what to do about it.
    """

    def __init__(self, what: str, planned: str, found: str, hint: str = "plan the sweep again") -> None:
        super().__init__(
            f"{what} changed since the stage was planned "
            f"(sha256 {planned[:12] or 'none'} then, {found[:12] or 'none'} now)",
            hint,
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest known ones, or the whole list when none is near."""
    known = sorted(known)
    if word.lower() in known:
        return f"did you mean {word.lower()}?"
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else "none are registered"
