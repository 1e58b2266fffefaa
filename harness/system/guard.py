"""Guard calls of third-party code: attempts to end, interrupt or fork this process become errors that name the code.

`os._exit` ends a process silently and with any exit code; a child of `os.fork` would continue in the harness as a
second run; a KeyboardInterrupt raised by code would be taken for Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_exit = os._exit


class _Depth(threading.local):
    """The number of guarded blocks that this thread is in."""

    count = 0


_depth = _Depth()
_pressed = False


class PluginExited(Exception):
    """Third-party code tried to end the process."""


@contextmanager
def guard_process() -> Iterator[None]:
    """Run third-party code in this context.

    Raises:
        PluginExited: it called `os._exit`, or raised a KeyboardInterrupt.
    """
    own = os.getpid()
    _depth.count += 1
    try:
        yield
    except KeyboardInterrupt as error:
        if os.getpid() == own and not _user_interrupted():
            raise PluginExited("it raised KeyboardInterrupt").with_traceback(error.__traceback__) from error
        raise
    finally:
        _depth.count -= 1
        if os.getpid() != own:
            # A child forked by the third-party code must not continue here.
            _exit(1)


def listen_to_ctrl_c() -> None:
    """Record when Ctrl-C is pressed, which still interrupts; only the main thread can install the handler."""
    if threading.current_thread() is threading.main_thread():
        global _pressed
        _pressed = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _on_ctrl_c)


def _on_ctrl_c(number: int, frame: Any) -> None:
    global _pressed
    _pressed = True
    signal.default_int_handler(number, frame)


def _user_interrupted() -> bool:
    """Whether a KeyboardInterrupt may come from the keyboard: it was pressed, or no handler is installed."""
    handler = signal.getsignal(signal.SIGINT)
    return handler is signal.default_int_handler or (handler is _on_ctrl_c and _pressed)


def _refuse_exit(status: int) -> NoReturn:
    """Replacement of `os._exit`: raise an error inside guarded third-party code."""
    if _depth.count and os.getpid() == _owner:
        raise PluginExited(f"it called os._exit({status}), which would end the whole process silently")
    _exit(status)


_owner = os.getpid()


def _release_child() -> None:
    """Allow `os._exit` in a forked child, where it is the usual way to end."""
    global _owner
    _owner = -1


def claim_process() -> None:
    """Mark this process, even if forked, as one of the harness."""
    global _owner
    _owner = os.getpid()


os.register_at_fork(after_in_child=_release_child)
os._exit = _refuse_exit
