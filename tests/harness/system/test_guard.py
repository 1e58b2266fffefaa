"""Code of others that would end, interrupt or double the process: an error that names it, and nothing worse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.plugins.file_plugin import load_plugin
from harness.system.guard import PluginExited, guard_process, listen_to_ctrl_c


@pytest.fixture
def listening() -> Iterator[None]:
    """As the command line listens to Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    listen_to_ctrl_c()
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("os._exit(0)", r"line 3: PluginExited: it called os._exit\(0\)"),
        ("from os import _exit; _exit(7)", r"line 3: PluginExited: it called os._exit\(7\)"),
        ("raise KeyboardInterrupt", "line 3: PluginExited: it raised KeyboardInterrupt"),
        ("sys.exit(0)", "line 3: SystemExit: 0"),
    ],
)
def test_a_plugin_that_ends_the_process_when_imported(line: str, said: str, tmp_path: Path, listening: None) -> None:
    file = tmp_path / "leaves.py"
    file.write_text(f"import os, sys\n\n{line}\n")
    with pytest.raises(HarnessError, match=said):
        load_plugin(file, [])


def test_a_ctrl_c_that_was_pressed_is_one(listening: None) -> None:
    with pytest.raises(KeyboardInterrupt), guard_process():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def test_where_nobody_listens_an_interrupt_is_taken_for_one() -> None:
    """In a notebook, say: the handler is Python's own, and there is no telling who raised it."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), guard_process():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_child_never_comes_out_of_the_plugin(tmp_path: Path) -> None:
    came_out = tmp_path / "came_out"
    with guard_process():
        child = os.fork()
    if child == 0:
        came_out.touch()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not came_out.exists()


def test_a_forked_child_may_leave_as_it_likes() -> None:
    with guard_process():
        child = os.fork()
        if child == 0:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_an_error_in_between_does_not_leave_the_guard_up() -> None:
    with pytest.raises(PluginExited), guard_process():
        os._exit(0)
    code = (
        "import os, harness.system.guard as g\ntry:\n with g.guard_process(): 1 / 0\n"
        "except ZeroDivisionError: os._exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
