"""Importing torch and the libraries on it without looking for garbage meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_ignored() -> Iterator[None]:
    """A block of imports, in which Python collects no garbage.

    A million objects come and next to none goes, so that looking through them again and again is a fifth of the time
    that importing torch, timm and SMP takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
