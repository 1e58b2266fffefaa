"""The state of every stage, read from the workspace: records first, then attempts. Read-only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.workspace.events import last_events
from harness.workspace.files import read_json, write_json
from harness.workspace.folders import (
    AttemptFolder,
    InvalidRecord,
    NewerRecord,
    StageFolder,
    Workspace,
    is_key,
)


class State(StrEnum):
    """The state of a stage."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    WAITING = "waiting"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


FINAL = frozenset({State.DONE, State.FAILED, State.BLOCKED})
"""States that only a user's action changes."""


STILL_S = 120.0
"""Seconds without progress after which a running attempt is reported as stalled."""


_A_YEAR_S = 365 * 86400.0
"""A longer standstill is a damaged file."""

_OPEN = frozenset({State.WAITING, State.INTERRUPTED, State.LOST, State.FAILED})
"""States from a stage's files that a scheduler may override, since the stage may have been submitted again."""


@dataclass(frozen=True)
class StageStatus:
    """The current status of a stage.

    Attributes:
        reason: why it failed, was interrupted or is blocked.
        progress: the latest progress event: iteration, iterations, loss, eta_s.
    """

    key: str
    name: str
    kind: str
    state: State
    reason: str = ""
    attempts: int = 0
    progress: Mapping[str, Any] | None = None
    job: str = ""


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a saved plan."""

    key: str
    name: str
    kind: str
    parents: tuple[str, ...]


def save_sweep(workspace: Workspace, plan: Any, command: str) -> None:
    """Save the command and the plan of a sweep, for `status` and `retry`.

    The file is readable by the user only, since the command may contain anything.
    """
    write_json(
        workspace.sweeps / f"{plan.id}.json",
        {
            "id": plan.id,
            "command": command,
            "sweep": plan.sweep.model_dump(mode="json"),
            "stages": [
                {"key": n.key, "name": n.name, "kind": n.spec.kind, "parents": list(n.parents)}
                for n in plan.nodes.values()
            ],
            "skips": [{"cell": s.cell, "reason": s.reason} for s in plan.skips],
        },
        private=True,
    )


@dataclass(frozen=True)
class SavedSweep:
    """A saved plan.

    Attributes:
        command: what asks for the same sweep again.
        saved: when it was last asked for, in seconds since 1970.
        skips: cells that it left out: (cell, reason).
    """

    id: str
    command: str
    saved: float
    stages: tuple[PlannedStage, ...]
    skips: tuple[tuple[str, str], ...]


def saved_sweeps(workspace: Workspace, sweep: str | None = None) -> list[SavedSweep]:
    """All saved plans, or those whose id begins so, by their ids; files that are no plans are passed over."""
    files = sorted(workspace.sweeps.glob(f"{sweep or ''}*.json")) if workspace.sweeps.is_dir() else []
    return [found for file in files if (found := _saved_sweep(file))]


def _saved_sweep(file: Path) -> SavedSweep | None:
    try:
        said, saved = dict(read_json(file) or {}), file.stat().st_mtime
        stages = [_planned_stage(stage) for stage in said["stages"]]
        skips = [(str(s["cell"]), str(s["reason"])) for s in said.get("skips", [])]
        return SavedSweep(file.stem, str(said.get("command", "")), saved, tuple(stages), tuple(skips))
    except (OSError, TypeError, ValueError, KeyError):
        return None


def _planned_stage(said: Any) -> PlannedStage:
    """A stage as written in a plan.

    Raises:
        TypeError, ValueError, KeyError: it is not one.
    """
    texts = [said["key"], said["name"], said["kind"], *said["parents"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(said["parents"], list):
        raise TypeError("a plan's stage consists of texts")
    if not is_key(said["key"]):
        raise ValueError(f"{said['key']} is not a key")
    return PlannedStage(said["key"], said["name"], said["kind"], tuple(said["parents"]))


def read_sweeps(workspace: Workspace, sweep: str | None = None) -> list[PlannedStage]:
    """The stages of all saved plans, or of one sweep, each once, parents before children.

    Raises:
        HarnessError: unknown sweep, or no sweep was planned in this workspace.
    """
    saved = saved_sweeps(workspace, sweep)
    if not saved and (unreadable := sorted(workspace.sweeps.glob(f"{sweep or ''}*.json"))):
        hint = "run the same harness sweep again, which writes it anew: finished stages are kept"
        raise HarnessError(f"{unreadable[0]} cannot be read as the plan of a sweep", hint)
    if not saved:
        what = f"no sweep '{sweep}' in {workspace.root}" if sweep else f"no sweep was planned in {workspace.root} yet"
        raise HarnessError(what, "start one with harness sweep, or name another --workspace")
    return list({stage.key: stage for found in saved for stage in found.stages}.values())


def stage_state(folder: StageFolder) -> tuple[State, str, int]:
    """A stage's state by its own files, without its parents: (state, reason, number of attempts)."""
    try:
        folder.record()
        return State.DONE, "", 0
    except NewerRecord as error:
        return State.DONE, error.message, 0
    except InvalidRecord as error:
        return State.LOST, error.message, len(folder.attempts())
    except HarnessError:
        pass  # it has no record
    attempts = folder.attempts()
    if not attempts:
        return State.WAITING, "", 0
    last = attempts[-1]
    outcome = last.outcome()
    if outcome is None:
        if last.shows_life():
            return State.RUNNING, _stillness(last), len(attempts)
        silence, host = last.silence_s(), last.started().get("host", "?")
        if silence < 0:
            ahead = f"is {-silence:.0f} s in the future: the clock was wrong, and the process is gone"
            return State.LOST, f"its last heartbeat on {host} {ahead}", len(attempts)
        return State.LOST, f"no heartbeat for {silence:.0f} s on {host}", len(attempts)
    reason = str(outcome.get("reason", ""))
    if outcome.get("outcome") == "done":
        return State.LOST, "it ended without a record", len(attempts)
    if outcome.get("outcome") == "failed":
        return State.FAILED, reason, len(attempts)
    return State.INTERRUPTED, reason, len(attempts)


def _stage_state_again(folder: StageFolder, done: dict[str, int] | None) -> tuple[State, str, int]:
    """As `stage_state`, without reading a record again that is known to be valid."""
    if done is None:
        return stage_state(folder)
    try:
        written = folder.record_file.stat().st_mtime_ns
    except OSError:
        written = -1
    if done.get(folder.key) == written:
        return State.DONE, "", 0
    found = stage_state(folder)
    if found[0] is State.DONE and not found[1]:
        done[folder.key] = written
    return found


def _stillness(attempt: AttemptFolder) -> str:
    """A message on a running attempt without progress; "" if it makes progress."""
    beat = attempt.heartbeat()
    said = beat.get("still_s", 0.0)
    still_s = (said if isinstance(said, int | float) and 0 <= said < _A_YEAR_S else 0.0) + max(0.0, attempt.silence_s())
    if still_s < STILL_S:
        return ""
    since = time.strftime("%H:%M:%S", time.localtime(time.time() - still_s))
    return f"no progress since {since} ({still_s / 60:.0f} min)"


def stage_states(
    workspace: Workspace,
    stages: Iterable[PlannedStage],
    scheduler: Callable[[PlannedStage, StageStatus], StageStatus] | None = None,
    done: dict[str, int] | None = None,
) -> list[StageStatus]:
    """The state of every stage, parents before children.

    Args:
        scheduler: refines the status with the launcher's knowledge, for stages neither done nor running by their files.
        done: cache for repeated calls: key -> modification time of the record that was found valid. It is updated, and
            such records are not read again.
    """
    found: dict[str, StageStatus] = {}
    for stage in stages:
        folder = workspace.stage(stage.key)
        state, reason, attempts = _stage_state_again(folder, done)
        status = StageStatus(stage.key, stage.name, stage.kind, state, reason, attempts)
        if state in _OPEN:
            if scheduler:
                status = scheduler(stage, status)
            culprit = next(
                (found[p] for p in stage.parents if p in found and found[p].state in (State.FAILED, State.BLOCKED)),
                None,
            )
            if culprit and status.state is not State.FAILED:
                # A blocked parent's reason already names the failed stage.
                why = culprit.reason if culprit.state is State.BLOCKED else f"{culprit.name} failed: {culprit.reason}"
                status = _with(status, state=State.BLOCKED, reason=why)
        elif state is State.RUNNING and (attempt := folder.last_attempt()):
            events = last_events(attempt.events)
            status = _with(status, progress=events.get("progress"))
        found[stage.key] = status
    return list(found.values())


def _with(status: StageStatus, **changes: Any) -> StageStatus:
    return StageStatus(**{**status.__dict__, **changes})


def count_states(statuses: Iterable[StageStatus]) -> Counter[str]:
    """The number of stages in each state."""
    return Counter(str(status.state) for status in statuses)
