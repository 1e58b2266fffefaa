"""What the workspace knows of stages, finished or not: states, curves, logs. Reads files only, never a scheduler."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import curves, source, tagging
from harness.errors import HarnessError
from harness.workspace.files import read_json
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.hidden import Hidden, hidden_runs
from harness.workspace.status import (
    PlannedStage,
    SavedSweep,
    StageStatus,
    State,
    saved_sweeps,
    stage_states,
)

LOG_BYTES = 64_000
"""So much of the end of a log is read."""
ORDER = (
    State.FAILED,
    State.LOST,
    State.RUNNING,
    State.INTERRUPTED,
    State.QUEUED,
    State.BLOCKED,
    State.WAITING,
    State.DONE,
)
"""States in the order in which one wants to see them."""
TO_COME = (State.QUEUED, State.WAITING)
"""States that a running sweep or a scheduler ends."""
Planned = frozenset[tuple[str, int]]
"""The files of sweeps, and when they were written (nanoseconds)."""


def workspace() -> Workspace:
    """The workspace that the board was opened for."""
    return Workspace(source.workspace())


def folder(key: str) -> StageFolder | None:
    """The folder of a stage, where there is one."""
    try:
        found = workspace().stage(key)
    except HarnessError:
        return None
    return found if found.path.is_dir() else None


def hidden() -> dict[str, Hidden]:
    """Runs that are hidden, and why: by `harness hide`, for the board writes nothing."""
    return hidden_runs(workspace())


def tags() -> dict[str, list[str]]:
    """Key of a run -> its tags: by `harness tag`."""
    return tagging.of_runs(source.workspace())


def sweeps() -> list[SavedSweep]:
    """All sweeps that were started in this workspace, the newest first."""
    return sorted(saved_sweeps(workspace()), key=lambda sweep: -sweep.saved)


def planned() -> Planned:
    """Changes when a sweep is started, or started again."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(workspace().sweeps) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found.add((entry.name, entry.stat().st_mtime_ns))
    return frozenset(found)


@st.cache_resource
def _known_done(root: str) -> dict[str, int]:
    """Records of a workspace that were read and found valid: they need not be read at every look."""
    return {}


def states(stages: Iterable[PlannedStage]) -> list[StageStatus]:
    """The states of stages, parents before children, as their own files tell."""
    found = workspace()
    return stage_states(found, stages, done=_known_done(str(found.root.resolve())))


def state_of(key: str) -> StageStatus | None:
    """The state of one stage, by itself; None for one that nothing is known of."""
    if folder(key) is None:
        return None
    said = job(key)
    return states([PlannedStage(key, str(said.get("name") or key), str(spec(key).get("kind", "")), ())])[0]


def job(key: str) -> dict[str, Any]:
    """The job file of its worker; empty where there is none."""
    return _json(key, "job.json")


def spec(key: str) -> dict[str, Any]:
    """Its specification; empty where there is none."""
    return _json(key, "spec.json")


def _json(key: str, name: str) -> dict[str, Any]:
    found = folder(key)
    said = read_json(found.path / name) if found else None
    return said if isinstance(said, dict) else {}


def curves_of(key: str) -> pd.DataFrame:
    """Its curves until now, as `curves.read_curves`."""
    found = folder(key)
    files = [attempt.events for attempt in found.attempts()] if found else []
    return _curves(tuple((str(file), _size(file)) for file in files))


@st.cache_data(max_entries=24, show_spinner=False)
def _curves(files: tuple[tuple[str, int], ...]) -> pd.DataFrame:
    return curves.read_curves([Path(name) for name, _ in files])


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def log_tail(key: str, lines: int = 200) -> list[str]:
    """The last lines that its latest attempt printed, oldest first."""
    found = folder(key)
    attempt = found.last_attempt() if found else None
    if attempt is None:
        return []
    try:
        with attempt.log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def attempts(key: str) -> pd.DataFrame:
    """Its attempts as their folders tell, one row each."""
    found = folder(key)
    return pd.DataFrame([attempt.summary().model_dump() for attempt in found.attempts()] if found else [])


def dependants(key: str) -> list[PlannedStage]:
    """Stages that were planned to learn from it, each once."""
    waiting = {
        stage.key: stage for sweep in saved_sweeps(workspace()) for stage in sweep.stages if key in stage.parents
    }
    return list(waiting.values())


# ------------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True)
class Cause:
    """Failures that have one cause.

    Attributes:
        reason: as the first of them says it.
        stages: which failed.
        line: the last line of the first one's log; "" where it printed nothing.
        retry: the command that tries them again.
    """

    reason: str
    stages: tuple[StageStatus, ...]
    line: str
    retry: str


_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def cause_key(reason: str) -> str:
    """Equal for reasons that differ in numbers only: iterations, addresses, sizes."""
    return _NUMBERS.sub("#", reason)


def causes(failed: Sequence[StageStatus], commands: Mapping[str, str]) -> list[Cause]:
    """Failed stages by cause, the most frequent first.

    Args:
        commands: key -> the command that tries that stage again.
    """
    groups: dict[str, list[StageStatus]] = {}
    for status in failed:
        groups.setdefault(cause_key(status.reason), []).append(status)
    found = []
    for group in sorted(groups.values(), key=lambda group: -len(group)):
        log = log_tail(group[0].key, 1)
        retries = dict.fromkeys(commands[status.key] for status in group if commands.get(status.key))
        found.append(Cause(group[0].reason, tuple(group), log[0] if log else "", "\n".join(retries)))
    return found


def retry_commands(sweep: SavedSweep, failed: Iterable[StageStatus]) -> dict[str, str]:
    """Key -> the command that tries a failed stage again: the sweep itself where it ran on this machine, else
    `harness retry`."""
    root = source.workspace()
    return {
        status.key: sweep.command
        if job(status.key).get("launcher", "local") == "local"
        else f"harness retry --failed --sweep {sweep.id} --workspace {root}"
        for status in failed
    }
