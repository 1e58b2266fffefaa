"""Sends the numbers in an attempt's event file to sinks, during the run or afterwards."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.curves.base import SINKS, CurveSink, MirroredRun
from harness.system.guard import guard_process, text_of
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job

LOOK_EVERY_S = 1.0
NOT_MIRRORED = frozenset({"start", "evaluating"})
"""Events without training curves."""
NO_CURVE = frozenset({"t", "event", "iteration", "iterations", "eta_s"})
"""Fields of events that are not curves."""


def scalars_of(event: Mapping[str, Any]) -> dict[str, float]:
    """Name -> number for all numbers in an event; those in nested mappings by their path: `terms/ka.adapt`.

    Those of a `progress` event by their own names, others below the event's: `validation/miou`.
    """
    kind = str(event.get("event", ""))
    if kind in NOT_MIRRORED:
        return {}
    data = {name: value for name, value in event.items() if name not in NO_CURVE}
    return dict(_numbers(data, "" if kind == "progress" else f"{kind}/"))


def _numbers(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{path}{name}", float(value)


class Mirror:
    """An attempt and its sinks. A sink that raises an exception is not used again.

    Args:
        attempt: whose events are read.
        run: what the sinks are told that it is.
        sinks: fresh ones, of this attempt alone.
    """

    def __init__(self, attempt: AttemptFolder, run: MirroredRun, sinks: Sequence[CurveSink]) -> None:
        self._attempt, self._run, self._sinks = attempt, run, list(sinks)
        self._read, self._iteration = 0, run.resumed_at
        self._tell("begin", run)

    @property
    def alive(self) -> bool:
        """Whether a sink is left."""
        return bool(self._sinks)

    def look(self) -> None:
        """Send what was written since the last call; an incomplete line is left for the next."""
        try:
            with self._attempt.events.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except OSError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                self._tell_event(event)

    def _tell_event(self, event: Mapping[str, Any]) -> None:
        if isinstance(event.get("iteration"), int):
            self._iteration = event["iteration"]
        if values := scalars_of(event):
            self._tell("scalars", self._iteration, values, float(event.get("t", 0.0)))

    def end(self) -> None:
        """Send the rest, and the attempt's outcome."""
        self.look()
        self._tell("end", str((self._attempt.outcome() or {}).get("outcome", "unknown")))

    def _tell(self, what: str, *words: Any) -> None:
        for sink in list(self._sinks):
            try:
                with guard_process():
                    getattr(sink, what)(*words)
            except (Exception, SystemExit) as error:
                self._sinks.remove(sink)
                why = " ".join(f"{type(error).__name__}: {text_of(error)}".split())[:300]
                print(f"note: {self._run.name}: no longer mirrored to {sink.name}: {why}", file=sys.stderr, flush=True)


def mirror_of(attempt: AttemptFolder, job: Job, names: Sequence[str]) -> Mirror:
    """The mirror of an attempt at a job's stage.

    Raises:
        HarnessError: no such sink.
    """
    cell = {name: value for name, value in (job.cell or {}).items() if value not in ("", None)}
    facts = {"kind": job.stage.kind, "key": job.stage.key, **cell, "seed": job.stage.seed}
    resumed_at = int(attempt.started().get("resumed_at", 0))
    run = MirroredRun(job.stage.key, job.name, facts, Path(job.workspace), resumed_at)
    return Mirror(attempt, run, [SINKS.get(name)() for name in names])


@contextmanager
def mirrored(tasks: Sequence[tuple[Job, AttemptFolder]]) -> Iterator[None]:
    """Mirror the attempts' events during the block, each to the sinks that its job names."""
    mirrors = [mirror_of(attempt, job, job.log) for job, attempt in tasks if job.log]
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(LOOK_EVERY_S):
            for mirror in mirrors:
                mirror.look()

    thread = threading.Thread(target=follow, name="curves", daemon=True)
    if mirrors:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if mirrors:
            thread.join()
        for mirror in mirrors:
            mirror.end()
