"""Recognise out-of-memory errors of all devices."""

from __future__ import annotations

_NAMED = ("out of memory", "can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NAMED)
