"""Live metrics of an attempt: one JSON object per line, flushed after each, so that other processes can follow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO


class Events:
    """Writer of an attempt's events. `progress` events are throttled; others are written immediately."""

    def __init__(self, path: Path | None, every_s: float = 0.5) -> None:
        self._file: TextIO | None = path.open("a", buffering=1) if path else None
        self._every_s, self._last = every_s, 0.0

    def write(self, event: str, **values: Any) -> None:
        """Append one event with a timestamp."""
        if self._file:
            self._file.write(json.dumps({"t": round(time.time(), 3), "event": event, **values}) + "\n")

    def due(self) -> bool:
        """Whether the next progress event is due."""
        if time.monotonic() - self._last < self._every_s:
            return False
        self._last = time.monotonic()
        return True

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class Movement:
    """Progress of an attempt, and time since its last event, read from its events.

    Args:
        events: the attempt's event file.
    """

    def __init__(self, events: Path) -> None:
        self._events, self._size, self._since = events, -1, time.monotonic()
        self._iteration: int | None = None

    def look(self) -> dict[str, Any]:
        """`iteration`, if any is known, and `still_s`, the seconds since the last event."""
        try:
            size = self._events.stat().st_size
        except OSError:
            size = 0
        if size != self._size:
            self._size, self._since = size, time.monotonic()
            self._iteration = last_events(self._events).get("progress", {}).get("iteration")
        still_s = round(time.monotonic() - self._since, 1)
        return {"still_s": still_s} | ({} if self._iteration is None else {"iteration": self._iteration})


def last_events(path: Path, tail_bytes: int = 8192) -> dict[str, dict[str, Any]]:
    """The latest event of each type in the last `tail_bytes` of a file. Incomplete lines are skipped."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - tail_bytes))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            event = json.loads(line)
            found[event["event"]] = event
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def read_events(path: Path, event: str) -> list[dict[str, Any]]:
    """All events of one type, oldest first; empty when there is no file. Half lines are skipped."""
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = []
    with path.open(errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and value.get("event") == event:
                found.append(value)
    return found
