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
import torch

from harness.errors import HarnessError
from harness.plugins.file_plugin import load_plugin
from harness.system.guard import PluginExited, guard_process, listen_to_ctrl_c, text_of


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
        ("raise GeneratorExit", "line 3: PluginExited: it raised GeneratorExit, which is not an Exception"),
        ("raise type('Mine', (BaseException,), {})('no')", "line 3: PluginExited: it raised Mine, which is not .*: no"),
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


def test_what_plugins_change_of_the_process_is_set_back(tmp_path: Path) -> None:
    """Working directory, signals and torch's settings: the run and its neighbours depend on them."""
    before = Path.cwd(), signal.getsignal(signal.SIGTERM), torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    with guard_process():
        os.chdir(tmp_path)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        torch.set_num_threads(before[2] + 3)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(not deterministic)
    assert before == (Path.cwd(), signal.getsignal(signal.SIGTERM), torch.get_num_threads(), torch.get_default_dtype())
    assert torch.is_grad_enabled() and torch.zeros(1).device.type == "cpu"
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_a_folder_that_was_removed_meanwhile_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with guard_process():
        pass


class _NoWords(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_is_told_all_the_same() -> None:
    assert text_of(_NoWords()) == "(its message cannot be shown)"


@pytest.mark.parametrize("left", ["threading.Thread(target=time.sleep, args=(1000,)).start()",
                                  "atexit.register(time.sleep, 1000)"], ids=["thread", "atexit"])  # fmt: skip
def test_a_process_ends_whatever_a_plugin_left_running(left: str) -> None:
    script = f"import atexit, threading, time; from harness.system.processes import leave_within; {left}"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; leave_within(0.2, 7)"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 7 and "is still running" in done.stderr
