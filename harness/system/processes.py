"""Find and end child processes, so that none outlives its parent."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
_PR_SET_CHILD_SUBREAPER = 36
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's helper processes, which clean up and end by themselves."""


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (Linux), so that `end_children` finds them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int = 0) -> list[psutil.Process]:
    """The running descendants of a process; 0 for this one."""
    try:
        return [p for p in psutil.Process(pid or None).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []


def end_children(keep: Iterable[int] = ()) -> list[str]:
    """Kill all descendants of this process; return "PID (command)" of each.

    Args:
        keep: ids of processes to spare, with their descendants.
    """
    kept = set(keep)
    kept |= {child.pid for pid in kept for child in children(pid)}
    ended = []
    for process in children():
        if process.pid in kept:
            continue
        try:
            words = " ".join(process.cmdline()) or process.name()
            if any(helper in words for helper in _HELPERS):
                continue
            process.kill()
            ended.append(f"{process.pid} ({words[:80]})")
        except psutil.Error:
            continue
    return ended


def leave_within(seconds: float, code: int) -> None:
    """End this process with an exit code if it has not ended by itself by then.

    A thread that third-party code started, or what it registered to run at exit, may otherwise keep it for ever.
    """

    def leave() -> None:
        time.sleep(seconds)
        waiting = [thread.name for thread in threading.enumerate() if not thread.daemon]
        print(f"note: ended although {', '.join(waiting)} is still running", file=sys.stderr, flush=True)
        os._exit(code)

    threading.Thread(target=leave, name="leave", daemon=True).start()


def end_group(leader: int) -> None:
    """Kill the remaining processes of a group whose leader has ended."""
    try:
        if leader > 1 and leader != os.getpgrp():
            os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def shared_memory() -> tuple[int, int] | None:
    """(free, total) bytes of the shared memory that loader processes use for batches; None if unknown."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return None
    return usage.free, usage.total


def memory_kills() -> int:
    """Number of processes that the kernel killed for lack of memory since boot; 0 if unknown."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
