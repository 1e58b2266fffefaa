"""A crash in native code: the line of Python that called it is in the log, and is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.crashes import crash_place

CRASHES = """
import ctypes, os, sys
from harness.system.crashes import trace_crashes

def careless():
    HOW

print('File "before.py", line 3 in not_here', file=sys.stderr, flush=True)
trace_crashes()
careless()
"""


@pytest.mark.parametrize("how", ["ctypes.string_at(0)", "os.abort()"])
def test_where_a_process_crashed_is_in_its_log(how: str, tmp_path: Path) -> None:
    script, log = tmp_path / "crashes.py", tmp_path / "log"
    script.write_text(CRASHES.replace("HOW", how))
    with log.open("wb") as output:
        done = subprocess.run([sys.executable, str(script)], stderr=output, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode < 0
    inner = "string_at" in how
    place = crash_place(log)
    assert place.endswith("(string_at)" if inner else f"{script}, line 6 (careless)"), log.read_text()


def test_a_log_without_a_crash(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert crash_place(log) == ""
    log.write_text('Traceback:\n  File "a.py", line 3 in f\n')
    assert crash_place(log) == ""
