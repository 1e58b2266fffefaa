"""Recognise out-of-memory errors of all devices, and keep freed main memory for the next step."""

from __future__ import annotations

import ctypes
import platform

from harness.system.guard import text_of

_NAMED = ("out of memory", "can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    text = text_of(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NAMED)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_LARGEST_MMAP_THRESHOLD = 32 << 20
"""The largest that glibc takes."""


def keep_freed_memory() -> bool:
    """Keep main memory that is freed in this process, instead of returning it to the system; whether that is possible.

    A training step on a CPU frees its maps and allocates the same amount in the next one. By default, glibc returns the
    memory in between, and the system clears every page again: an eighth of a step's time with small crops. The maximum
    that the process occupies does not change. Only glibc is asked.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
