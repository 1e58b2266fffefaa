"""`harness retry`: send again what failed, was interrupted or is blocked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Workspace
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import PlannedStage, StageStatus


def retry(
    failed: Annotated[bool, typer.Option("--failed", help="What failed, was lost or interrupted.")] = False,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="What waits for a stage that failed, and that one.")
    ] = False,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", "-c", help="Stages whose name holds this, or whose key begins so.")
    ] = None,
    sweep: Annotated[str, typer.Option(help="Only this sweep (id, or its beginning).")] = "",
    time: Annotated[str | None, typer.Option("--time", help="Another time limit: 8:00:00.")] = None,
    mem: Annotated[str | None, typer.Option("--mem", help="Another amount of memory: 64G.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="Another setting of the launcher: -o partition=long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Send stages to SLURM again, where they stopped: a checkpoint that is there is used.

    Without a choice, everything that is not done and not on its way. A chosen stage brings along the parents that it
    needs. The settings are those of the last submission, with the changes given here. On this machine instead of a
    cluster, run the same `harness sweep` again: it goes on by itself.

    Examples:

        harness retry --failed --time 8:00:00 --mem 64G

        harness retry --cell 'ka timm:mobilenetv2_100/linear@16'

        harness retry --blocked --dry-run
    """
    from harness.cli.parse_sweep import parse_pairs
    from harness.launch.slurm.launcher import resubmit
    from harness.workspace.folders import Workspace as Folder

    folder = Folder(workspace)
    changes: dict[str, Any] = parse_pairs(option or [], "--option")
    changes |= {name: value for name, value in (("time", time), ("mem", mem)) if value is not None}
    listed, statuses = look(folder, sweep)
    chosen = select_stages(listed, statuses, failed=failed, blocked=blocked, cells=cell or [])
    if not chosen:
        typer.echo("nothing to send again: harness status --all shows every stage")
        return
    for stage in chosen:
        status = statuses[stage.key]
        typer.echo(f"{status.state:12} {stage.name}{f': {status.reason}' if status.reason else ''}")
    if not dry_run:
        typer.echo(resubmit(folder, [stage.key for stage in chosen], changes).message)


def look(workspace: Folder, sweep: str) -> tuple[list[PlannedStage], dict[str, StageStatus]]:
    """The stages of the saved plans and their states.

    Raises:
        HarnessError: nothing was planned, or SLURM does not answer, so that nothing sure can be said.
    """
    from harness.launch.launchers import observer
    from harness.workspace.status import State, read_sweeps, stage_states

    listed = read_sweeps(workspace, sweep or None)
    statuses = {status.key: status for status in stage_states(workspace, listed, observer(workspace))}
    unknown = next((s for s in statuses.values() if s.state is State.UNKNOWN), None)
    if unknown:
        raise HarnessError(f"the state of {unknown.name} is {unknown.reason}", "try again when SLURM answers")
    return listed, statuses


def select_stages(
    listed: Sequence[PlannedStage],
    statuses: dict[str, StageStatus],
    failed: bool = False,
    blocked: bool = False,
    cells: Sequence[str] = (),
) -> list[PlannedStage]:
    """The stages to send again, parents before children, with the parents that they need.

    Raises:
        HarnessError: no stage is called so.
    """
    from harness.workspace.status import State

    away = {State.DONE, State.QUEUED, State.RUNNING}
    wanted: set[str] = set()
    for text in cells:
        named = [s.key for s in listed if text in s.name or s.key.startswith(text)]
        if not named:
            raise HarnessError(f"no stage is called '{text}'", "harness status --all lists them")
        wanted |= set(named)
    ended, waiting = {State.FAILED, State.LOST, State.INTERRUPTED}, {State.BLOCKED}
    states = (ended if failed else set()) | (waiting if blocked else set())
    if not cells and not states:
        states = ended | waiting | {State.WAITING}
    wanted |= {key for key, status in statuses.items() if status.state in states}
    for stage in reversed(listed):
        if stage.key in wanted:
            wanted |= set(stage.parents)
    return [stage for stage in listed if stage.key in wanted and statuses[stage.key].state not in away]


def find_stage(workspace: Path, run: str) -> PlannedStage:
    """The one stage that a word means: a key's beginning, or a part of its name.

    Raises:
        HarnessError: none, or several.
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import read_sweeps

    listed = read_sweeps(Folder(workspace))
    found = [s for s in listed if s.key.startswith(run)] or [s for s in listed if s.name == run]
    found = found or [s for s in listed if run in s.name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise HarnessError(f"no stage is called '{run}'", "harness status --all lists them")
    names = "; ".join(f"{s.key[:10]} {s.name}" for s in found[:5])
    raise HarnessError(f"'{run}' means {len(found)} stages", f"give a key: {names}{' ...' if len(found) > 5 else ''}")
