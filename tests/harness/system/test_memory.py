"""Main memory that is kept between the steps of a training on a CPU."""

from __future__ import annotations

import sys

import pytest

from tests.processes import python

_FAULTS = """
import ctypes, resource, torch
from harness.system.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(7 << 20) for _ in range(4)]
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

ctypes.CDLL(None).mallopt(-3, 131072)
print(min(faults() for _ in range(4)))
assert keep_freed_memory()
print(min(faults() for _ in range(12)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_allocated_again_without_page_faults() -> None:
    """A step allocates 4 maps of 28 MB, 28672 pages of 4 KB, and frees them all. Without this, they are given back.

    The least of some steps counts: the first ones fault in either case, until the heap has a place for every map.
    glibc adapts its thresholds to what is freed, with an outcome that depends on random addresses; mallopt keeps it
    to its first one, M_MMAP_THRESHOLD of 128 KB.
    """
    done = python("-c", _FAULTS)
    assert done.returncode == 0, done.stderr
    off, on = map(int, done.stdout.split())
    assert on < 2500 < 10000 < off
