"""Memory that runs out: how it is told from other errors, whatever the device calls it."""

from __future__ import annotations

_NAMED = ("out of memory", "can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NAMED)
