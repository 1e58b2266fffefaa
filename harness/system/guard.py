"""Guard calls of third-party code: attempts to end, interrupt or fork this process become errors that name the code.

`os._exit` ends a process silently and with any exit code; a child of `os.fork` would continue in the harness as a
second run; a KeyboardInterrupt raised by code would be taken for Ctrl-C. What such code changes of the process (working
directory, signal handlers, torch's global settings) is set back, so that it affects neither the run nor its neighbours.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

_exit = os._exit
_HANDLED = {"interrupt": int(signal.SIGINT), "terminate": int(signal.SIGTERM)}


class _Depth(threading.local):
    """The number of guarded blocks that this thread is in."""

    count = 0


_depth = _Depth()
_pressed = False


class PluginExited(Exception):
    """Third-party code tried to end the process."""


class HarnessInterruption(BaseException):
    """Raised by the harness to leave third-party code. Not an `Exception`, which that code may catch."""


@contextmanager
def guard_process() -> Iterator[None]:
    """Run third-party code in this context, and set back what it changes of the process.

    Raises:
        PluginExited: it called `os._exit`, raised a KeyboardInterrupt, or an exception that is no `Exception`.
    """
    own, before = os.getpid(), _process_state()
    _depth.count += 1
    try:
        yield
    except (Exception, SystemExit, HarnessInterruption):
        raise
    except KeyboardInterrupt as error:
        if os.getpid() == own and not _user_interrupted():
            raise PluginExited("it raised KeyboardInterrupt").with_traceback(error.__traceback__) from error
        raise
    except BaseException as error:
        what = f"it raised {type(error).__name__}, which is not an Exception: {text_of(error)}"
        raise PluginExited(what).with_traceback(error.__traceback__) from error
    finally:
        _depth.count -= 1
        if os.getpid() != own:
            # A child forked by the third-party code must not continue here.
            _exit(1)
        _set_back(before)


def text_of(error: BaseException) -> str:
    """The message of an exception, even if its `__str__` raises."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _process_state() -> dict[str, Any]:
    """What third-party code in the main thread might change for the whole process, by name."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    state: dict[str, Any] = {"folder": _folder()}
    state |= {name: signal.getsignal(number) for name, number in _HANDLED.items()}
    # Not imported here: commands that need no torch do without it.
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "get_num_threads"):
        state |= {
            "threads": torch.get_num_threads(),
            "gradients": torch.is_grad_enabled(),
            "dtype": torch.get_default_dtype(),
            "device": torch.get_default_device(),
            "matmul": torch.get_float32_matmul_precision(),
            "deterministic": (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
        }
    return state


def _set_back(before: dict[str, Any]) -> None:
    if not before:
        return
    now = _process_state()
    for name, value in before.items():
        if now[name] != value:
            _set(name, value)


def _set(name: str, value: Any) -> None:
    if name == "folder":
        if value:
            os.chdir(value)
        return
    if name in _HANDLED:
        signal.signal(_HANDLED[name], value)
        return
    import torch

    if name == "deterministic":
        torch.use_deterministic_algorithms(value[0], warn_only=value[1])
        return
    setters: dict[str, Any] = {
        "threads": torch.set_num_threads,
        "gradients": torch.set_grad_enabled,
        "dtype": torch.set_default_dtype,
        "device": torch.set_default_device,
        "matmul": torch.set_float32_matmul_precision,
    }
    setters[name](value)


def _folder() -> str:
    """The working directory; "" if it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


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
