"""Runs hidden on the board, each with a reason. Kept in one file; records and database are unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.workspace.files import now
from harness.workspace.folders import Workspace
from harness.workspace.notes import changed_notes, read_notes


@dataclass(frozen=True)
class Hidden:
    """Why a run is hidden, and since when (ISO 8601, UTC)."""

    reason: str
    since: str


def hidden_runs(workspace: Workspace) -> dict[str, Hidden]:
    """Key of each hidden run -> the reason. An unreadable file hides nothing."""
    return {
        str(key): Hidden(str(entry.get("reason", "")), str(entry.get("since", "")))
        for key, entry in read_notes(workspace.hidden_file).items()
        if isinstance(entry, dict)
    }


def hide(workspace: Workspace, keys: Iterable[str], reason: str) -> None:
    """Hide runs.

    Raises:
        HarnessError: the reason is empty, or the file of hidden runs cannot be read.
    """
    if not reason.strip():
        raise HarnessError("a reason is needed to hide a run", "for example: --reason 'trained on the wrong split'")
    since = now()
    with changed_notes(workspace.hidden_file) as known:
        known.update({key: vars(Hidden(reason.strip(), since)) for key in keys})


def unhide(workspace: Workspace, keys: Iterable[str]) -> list[str]:
    """Show runs again.

    Returns:
        Those that were hidden.

    Raises:
        HarnessError: the file of hidden runs cannot be read.
    """
    with changed_notes(workspace.hidden_file) as known:
        return sorted(key for key in set(keys) if known.pop(key, None) is not None)


def take_over(workspace: Workspace, entries: Mapping[str, Hidden]) -> None:
    """Hide runs that are hidden in another workspace; runs that are hidden already keep their reason.

    Raises:
        HarnessError: the file of hidden runs cannot be read.
    """
    if entries:
        with changed_notes(workspace.hidden_file) as known:
            for key, entry in entries.items():
                known.setdefault(key, vars(entry))
