"""The processes that one has started: found and ended, so that none lives on when its maker is gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
_PR_SET_CHILD_SUBREAPER = 36
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's own helpers: they end by themselves, and tidy up first."""


def adopt_orphans() -> None:
    """Whatever this process's children leave behind becomes its own child (Linux), so that `end_children` finds it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int = 0) -> list[psutil.Process]:
    """The living descendants of a process; 0 for this one."""
    try:
        return [p for p in psutil.Process(pid or None).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []


def end_children(keep: Iterable[int] = ()) -> list[str]:
    """Kill every process that this one has started, directly or not; "PID (command)" of each.

    Args:
        keep: ids of processes that live on, with their own children.
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


def end_group(leader: int) -> None:
    """Kill what is left of a process group whose leader has ended."""
    try:
        if leader > 1 and leader != os.getpgrp():
            os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def shared_memory() -> tuple[int, int] | None:
    """(free, total) bytes of the shared memory through which loader processes hand over batches; None where unknown."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return None
    return usage.free, usage.total


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
