"""Interruptible waits: they end when the process is asked to stop, when the wait is hopeless, or after a time limit.

Python restarts a blocked system call after a signal, so a flag that a handler sets is never checked during a wait. Here
an alarm fires every second during a wait, and its handler raises.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from harness.system.guard import HarnessInterruption

LOOK_EVERY_S = 1.0
PATIENCE_S = 600.0
"""Default time limit of a wait, in seconds."""


class StoppedWaiting(Exception):
    """The process was asked to stop during the wait."""


class GivenUpWaiting(Exception):
    """The wait took too long or is hopeless; the message says why."""


class _Ended(HarnessInterruption):
    """Raised by the alarm."""


@dataclass
class _Patience:
    limit_s: float = PATIENCE_S
    asked_to_stop: Callable[[], bool] = lambda: False


_patience = _Patience()


def set_patience(limit_s: float, asked_to_stop: Callable[[], bool]) -> None:
    """Set how this process waits from now on.

    Args:
        limit_s: time limit of a wait, in seconds; 0 for none.
        asked_to_stop: called once per second during a wait.
    """
    _patience.limit_s, _patience.asked_to_stop = limit_s, asked_to_stop


@contextmanager
def waiting(hopeless: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Make a wait in this context interruptible. Only in the main thread; elsewhere it has no effect.

    Args:
        hopeless: called once per second; returns why the wait is hopeless, "" if it is not.

    Raises:
        StoppedWaiting: the process was asked to stop.
        GivenUpWaiting: the wait took too long or is hopeless.
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
