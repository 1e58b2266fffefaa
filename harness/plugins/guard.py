"""Around code of others: what would end, interrupt or double this process becomes an error that names the code.

`os._exit` ends a process without a word and with whatever code it is given; a child that `os.fork` makes would go on in
the harness, as a second run; a KeyboardInterrupt that nobody pressed would read as one that somebody did.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_exit = os._exit
_depth = 0
_pressed = False


class PluginLeft(Exception):
    """Code of others asked for the end of the whole process."""


@contextmanager
def guarded() -> Iterator[None]:
    """A block that runs code of others.

    Raises:
        PluginLeft: it called `os._exit`, or raised a KeyboardInterrupt.
    """
    global _depth
    own, _depth = os.getpid(), _depth + 1
    try:
        yield
    except KeyboardInterrupt as error:
        if os.getpid() == own and not _by_hand():
            raise PluginLeft("it raised KeyboardInterrupt").with_traceback(error.__traceback__) from error
        raise
    finally:
        _depth -= 1
        if os.getpid() != own:
            # A child of a fork in there: it has no business out here.
            _exit(1)


def listen_to_ctrl_c() -> None:
    """Remember when Ctrl-C is pressed, which interrupts as ever; only a process's main thread can listen."""
    if threading.current_thread() is threading.main_thread():
        global _pressed
        _pressed = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _press)


def _press(number: int, frame: Any) -> None:
    global _pressed
    _pressed = True
    signal.default_int_handler(number, frame)


def _by_hand() -> bool:
    """A KeyboardInterrupt may come from the keyboard: nobody listens who would know better."""
    handler = signal.getsignal(signal.SIGINT)
    return handler is signal.default_int_handler or (handler is _press and _pressed)


def _refuse_exit(status: int) -> NoReturn:
    """In place of `os._exit`: in code of others, and in the process that called it, an error."""
    if _depth and threading.current_thread() is threading.main_thread() and os.getpid() == _owner:
        raise PluginLeft(f"it called os._exit({status}), which would end the whole process without a word")
    _exit(status)


_owner = os.getpid()


def _in_child() -> None:
    """A forked child may leave by `os._exit`: most do, and the libraries' own always."""
    global _owner
    _owner = -1


def take_charge() -> None:
    """This process, forked though it may be, is one of the harness's own."""
    global _owner
    _owner = os.getpid()


os.register_at_fork(after_in_child=_in_child)
os._exit = _refuse_exit
