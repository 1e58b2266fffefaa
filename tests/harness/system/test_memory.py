"""Main memory that is kept between the steps of a training on a CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, torch
from harness.system.memory import keep_freed_memory

assert sys.argv[1] == "off" or keep_freed_memory()
torch.ones(7 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(7 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_allocated_again_without_page_faults() -> None:
    """28 MB are 7168 pages of 4 KB."""
    faults = {}
    for choice in ("off", "on"):
        done = subprocess.run([sys.executable, "-c", _FAULTS, choice], capture_output=True, text=True, check=True)
        faults[choice] = int(done.stdout)
    assert faults["on"] < 700 < 5000 < faults["off"]
