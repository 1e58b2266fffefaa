"""Waits that end: because the process was asked to stop, because nothing can come any more, or after too long.

A blocked system call is begun again by Python after a signal, so that a flag which a handler sets is never looked at
while a process waits. Here an alarm goes off every second while something is awaited, and its handler raises.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

LOOK_EVERY_S = 1.0
PATIENCE_S = 600.0
"""Seconds that something may be awaited unless a user says otherwise."""


class StoppedWaiting(Exception):
    """The process was asked to stop while it waited."""


class GivenUpWaiting(Exception):
    """What was awaited did not come, or can no longer come; the text says why."""


class _Ended(BaseException):
    """Raised by the alarm. No `Exception`: what is interrupted may be somebody's `except Exception`."""


@dataclass
class _Patience:
    limit_s: float = PATIENCE_S
    asked_to_stop: Callable[[], bool] = lambda: False


_patience = _Patience()


def set_patience(limit_s: float, asked_to_stop: Callable[[], bool]) -> None:
    """How this process waits from now on.

    Args:
        limit_s: seconds after which a wait is given up; 0 for never.
        asked_to_stop: asked once a second while something is awaited.
    """
    _patience.limit_s, _patience.asked_to_stop = limit_s, asked_to_stop


@contextmanager
def waiting(hopeless: Callable[[], str] = lambda: "") -> Iterator[None]:
    """A block that waits for something. Only a process's main thread can be interrupted; in others it just waits.

    Args:
        hopeless: asked once a second; why what is awaited can no longer come, "" while it can.

    Raises:
        StoppedWaiting: the process was asked to stop.
        GivenUpWaiting: it took too long, or is hopeless.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    began, armed = time.monotonic(), True
    why: list[Exception] = []

    def look(_: int, __: FrameType | None) -> None:
        nonlocal armed
        if not armed:
            return
        waited = time.monotonic() - began
        if _patience.asked_to_stop():
            why.append(StoppedWaiting())
        elif reason := hopeless():
            why.append(GivenUpWaiting(reason))
        elif _patience.limit_s and waited > _patience.limit_s:
            why.append(GivenUpWaiting(f"nothing came for {waited:.0f} s"))
        if why:
            armed = False
            raise _Ended

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S, LOOK_EVERY_S)
    try:
        try:
            yield
        finally:
            armed = False
    except _Ended:
        raise why[0] from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
