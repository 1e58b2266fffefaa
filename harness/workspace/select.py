"""Select stages by the words that a user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.status import PlannedStage, StageStatus, State, read_sweeps

if TYPE_CHECKING:
    from results.queries import Run
    from results.store import Store

SHORTEST_PREFIX = 4
"""Fewer characters are never taken for the beginning of a key: `16` is a stride."""

_HINT = "harness status --all lists them"


def stages_called(listed: Sequence[PlannedStage], words: Sequence[str]) -> list[str]:
    """Keys of the stages whose name contains a word, or whose key begins with it.

    Raises:
        HarnessError: a word matches no stage.
    """
    found: list[str] = []
    for word in words:
        named = [stage.key for stage in listed if word in stage.name or stage.key.startswith(word)]
        if not named:
            raise HarnessError(f"no stage matches '{word}'", _HINT)
        found += named
    return list(dict.fromkeys(found))


def select_stages(
    listed: Sequence[PlannedStage],
    statuses: Mapping[str, StageStatus],
    failed: bool = False,
    blocked: bool = False,
    cells: Sequence[str] = (),
) -> list[PlannedStage]:
    """The stages to run again, parents before children, with the parents that they need.

    Raises:
        HarnessError: a word matches no stage.
    """
    away = {State.DONE, State.QUEUED, State.RUNNING}
    wanted = set(stages_called(listed, cells))
    ended, waiting = {State.FAILED, State.LOST, State.INTERRUPTED}, {State.BLOCKED}
    states = (ended if failed else set()) | (waiting if blocked else set())
    if not cells and not states:
        states = ended | waiting | {State.WAITING}
    wanted |= {key for key, status in statuses.items() if status.state in states}
    for stage in reversed(listed):
        if stage.key in wanted:
            wanted |= set(stage.parents)
    return [stage for stage in listed if stage.key in wanted and statuses[stage.key].state not in away]


def find_stage(workspace: Workspace, word: str) -> PlannedStage:
    """The single stage that a word matches: the beginning of its key, or a part of its name.

    Raises:
        HarnessError: no stage, or several.
    """
    listed = read_sweeps(workspace)
    found = [s for s in listed if s.key.startswith(word)] or [s for s in listed if s.name == word]
    found = found or [s for s in listed if word in s.name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise HarnessError(f"no stage matches '{word}'", _HINT)
    names = "; ".join(f"{s.key[:10]} {s.name}" for s in found[:5])
    raise HarnessError(
        f"'{word}' matches {len(found)} stages", f"give a key: {names}{' ...' if len(found) > 5 else ''}"
    )


def run_folder(workspace: Workspace, database: str, words: Sequence[str]) -> StageFolder:
    """The folder of the finished run that is meant: by the beginning of its key, or by words of its cell.

    A beginning that is one stage's in this workspace needs no database; words are looked up in it,
    as by `harness show`.

    Raises:
        HarnessError: none fits, or several; or the run is not in this workspace.
    """
    if len(words) == 1 and len(words[0]) >= SHORTEST_PREFIX and words[0].isalnum():
        found = sorted((workspace.root / "stages").glob(f"{words[0].lower()}*"))
        if len(found) == 1:
            return StageFolder(found[0])
    from results.store import open_store

    try:
        with open_store(database, readonly=True) as store:
            meant = _meant(store, words)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    folder = workspace.stage(meant.record.key)
    if not folder.path.is_dir():
        raise HarnessError(
            f"{meant.record.name} ({meant.record.key}) lies in another workspace, {meant.row['workspace']}",
            "name that one with --workspace",
        )
    return folder


def _meant(store: Store, words: Sequence[str]) -> Run:
    from results.queries import run

    try:
        return run(store, *words)
    except ValueError as error:
        raise HarnessError(str(error), "give the beginning of its key, or words of its cell: ka @16 seed=0") from error
