"""Main memory that is kept between the steps of a training on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, torch
from harness.system.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.ones(7 << 20) for _ in range(8)]
    del maps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert sys.argv[1] == "off" or keep_freed_memory()
print(min(faults() for _ in range(12)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_allocated_again_without_page_faults() -> None:
    """A step allocates 8 maps of 28 MB, 57344 pages of 4 KB, and frees them all. Without this, they are given back.

    The least of 12 steps counts: the first ones of a process fault in either case. glibc adapts its thresholds to what
    is freed, with an outcome that depends on random addresses; the variable makes it keep to its first one.
    """
    faults = {}
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    for choice in ("off", "on"):
        command = [sys.executable, "-c", _FAULTS, choice]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        faults[choice] = int(done.stdout)
    assert faults["on"] < 5000 < 20000 < faults["off"]
