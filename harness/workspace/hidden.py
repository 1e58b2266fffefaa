"""Runs hidden on the board, each with a reason. Kept in one file; records and database are unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.workspace.files import now, read_json, write_json
from harness.workspace.folders import Workspace


@dataclass(frozen=True)
class Hidden:
    """Why a run is hidden, and since when (ISO 8601, UTC)."""

    reason: str
    since: str


def hidden_runs(workspace: Workspace) -> dict[str, Hidden]:
    """Key of each hidden run -> the reason. An unreadable file hides nothing."""
    entries = read_json(workspace.hidden_file)
    if not isinstance(entries, dict):
        return {}
    return {
        str(key): Hidden(str(entry.get("reason", "")), str(entry.get("since", "")))
        for key, entry in entries.items()
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
    _write(workspace, {**_known(workspace), **{key: Hidden(reason.strip(), since) for key in keys}})


def unhide(workspace: Workspace, keys: Iterable[str]) -> list[str]:
    """Show runs again.

    Returns:
        Those that were hidden.

    Raises:
        HarnessError: the file of hidden runs cannot be read.
    """
    known, wanted = _known(workspace), set(keys)
    _write(workspace, {key: entry for key, entry in known.items() if key not in wanted})
    return sorted(wanted & known.keys())


def take_over(workspace: Workspace, entries: Mapping[str, Hidden]) -> None:
    """Hide runs that are hidden in another workspace; runs that are hidden already keep their reason.

    Raises:
        HarnessError: the file of hidden runs cannot be read.
    """
    known = _known(workspace)
    if entries.keys() - known.keys():
        _write(workspace, {**entries, **known})


def _known(workspace: Workspace) -> dict[str, Hidden]:
    """The hidden runs; an unreadable file raises an error, so that it is not overwritten."""
    if workspace.hidden_file.exists() and not isinstance(read_json(workspace.hidden_file), dict):
        raise HarnessError(f"{workspace.hidden_file} is not valid JSON", "repair it, or move it away")
    return hidden_runs(workspace)


def _write(workspace: Workspace, entries: dict[str, Hidden]) -> None:
    write_json(workspace.hidden_file, {key: vars(entry) for key, entry in sorted(entries.items())})
