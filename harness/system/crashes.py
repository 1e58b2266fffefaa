"""Where a process was when a signal such as SIGSEGV killed it: Python writes that to its log before it dies."""

from __future__ import annotations

import faulthandler
import re
from contextlib import suppress
from pathlib import Path

_LAST_BYTES = 1 << 16
_FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')


def trace_crashes() -> None:
    """Let this process write its Python stack to its standard error when it crashes."""
    with suppress(OSError, ValueError, AttributeError):  # there is no standard error
        faulthandler.enable(all_threads=False)


def crash_place(log: Path) -> str:
    """The line of Python at which the last crash in a log happened: "PATH, line 12 (name)"; "" if there was none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    found = _FRAME.search(text, start) if (start := text.rfind("Fatal Python error: ")) >= 0 else None
    return f"{found[1]}, line {found[2]} ({found[3]})" if found else ""
