"""Mirroring the curves of finished stages from their event files."""

from __future__ import annotations

from collections.abc import Sequence

from harness.curves.base import prepare_sinks
from harness.curves.mirror import mirror_of
from harness.errors import HarnessError
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.job import read_job


def mirror_workspace(workspace: Workspace, names: Sequence[str], cells: Sequence[str] = ()) -> int:
    """Mirror every attempt of every stage of a workspace, and return the number of stages.

    Args:
        names: of sinks.
        cells: only stages whose name holds one of these, or whose key begins with it.

    Raises:
        HarnessError: no such sink.
    """
    count = 0
    prepare_sinks(names, workspace.root)
    for path in sorted((workspace.root / "stages").glob("*/job.json")):
        folder = StageFolder(path.parent)
        try:
            job = read_job(path)
        except HarnessError:
            continue  # of another version: its stage cannot be read either
        job = job.model_copy(update={"workspace": str(workspace.root)})
        if cells and not any(word in job.name or folder.key.startswith(word) for word in cells):
            continue
        attempts = [attempt for attempt in folder.attempts() if attempt.events.is_file()]
        for attempt in attempts:
            mirror_of(attempt, job, names).end()
        count += bool(attempts)
    return count
