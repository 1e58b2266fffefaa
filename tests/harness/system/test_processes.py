"""Processes that others leave behind are found and ended; waits end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from harness.system import waiting as waiting_module
from harness.system.processes import end_group, shared_memory
from harness.system.waiting import GivenUpWaiting, StoppedWaiting, set_patience, waiting

LEAVES_THREE = """
import os, subprocess, sys, time
from harness.system.processes import adopt_orphans, end_children
adopt_orphans()
pids = [subprocess.Popen(["sleep", "1000"]).pid]
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child:
        os.write(write, f"{os.getpid()} {child}".encode())
        os._exit(0)
    time.sleep(1000)
pids.append(int(os.read(read, 100).split()[1]))
os.wait()
print(*pids, flush=True)
print(len(end_children()))
"""


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def _wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 20
    while not _gone(pid):
        assert time.monotonic() < end, f"{pid} lives on"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans over")
def test_children_and_orphans_of_children_are_ended() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVES_THREE], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert second == "2"
    for pid in map(int, first.split()):
        _wait_until_gone(pid)


def test_what_a_dead_leader_left_in_its_group_is_ended() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL).pid, flush=True)"
    leader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, process_group=0)
    pid = int(leader.communicate()[0])
    assert not _gone(pid)
    end_group(leader.pid)
    _wait_until_gone(pid)
    end_group(leader.pid)  # nothing is left: no error
    end_group(os.getpgrp())  # never one's own
    end_group(0)


def test_shared_memory_is_measured_where_there_is_any() -> None:
    found = shared_memory()
    assert found is None or 0 <= found[0] <= found[1]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "LOOK_EVERY_S", 0.05)
    set_patience(0.3, lambda: False)


def test_waits_end_and_the_alarm_with_them() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(GivenUpWaiting, match="nothing came for"), waiting():
        time.sleep(30)
    with pytest.raises(GivenUpWaiting, match="they are all dead"), waiting(lambda: "they are all dead"):
        time.sleep(30)
    set_patience(600, lambda: True)
    with pytest.raises(StoppedWaiting), waiting():
        threading.Event().wait(30)
    with waiting():
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) and signal.getsignal(signal.SIGALRM) == handler
    set_patience(0, lambda: False)
    with waiting():
        time.sleep(0.5)  # no limit
    with pytest.raises(ZeroDivisionError), waiting():
        raise ZeroDivisionError


def test_a_thread_that_is_not_the_main_one_just_waits() -> None:
    came: list[str] = []

    def work() -> None:
        with waiting(lambda: "hopeless"):
            time.sleep(0.3)
        came.append("out")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert came == ["out"]
