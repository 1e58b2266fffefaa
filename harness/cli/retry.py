"""`harness retry`: send again what failed, was interrupted or is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Plugins, Workspace, load_given
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.launch.base import Launcher, LaunchResult
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import StageStatus


def retry(
    failed: Annotated[bool, typer.Option("--failed", help="What failed, was lost or interrupted.")] = False,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="What waits for a stage that failed, and that one.")
    ] = False,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", "-c", help="Stages whose name holds this, or whose key begins so.")
    ] = None,
    sweep: Annotated[str, typer.Option(help="Only this sweep (id, or its beginning).")] = "",
    launcher: Annotated[
        str, typer.Option("--launcher", "-l", help="Through which launcher.", show_default="the one of before")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="Another setting of the launcher: -o partition=long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")] = False,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Send stages to their launcher again, where they stopped: a checkpoint that is there is used.

    Without a choice, everything that is not done and not on its way. A chosen stage brings along the parents that it
    needs. The settings are those of the last submission, with the changes given here. On this machine instead of a
    cluster, run the same `harness sweep` again: it goes on by itself.

    Examples:

        harness retry --failed --time 8:00:00 --mem 64G

        harness retry --cell 'ka timm:mobilenetv2_100/linear@16'

        harness retry --blocked --dry-run
    """
    from harness.launch.launchers import close_attempts, look, resubmit
    from harness.specs.values import parse_pairs
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import select_stages
    from results import sinks

    load_given(plugin)
    folder = Folder(workspace)
    changes = parse_pairs(option or [], "--option")
    listed, statuses = look(folder, sweep)
    chosen = select_stages(listed, statuses, failed=failed, blocked=blocked, cells=cell or [])
    if not chosen and not cell and (again := _not_collected(folder)):
        for owner, status in again:
            typer.echo(sinks.terminal(f"{status.state:12} {status.name}: {status.reason}"))
            if not dry_run:
                _tell(owner.collect_again(folder, changes))
        return
    if not chosen:
        typer.echo("nothing to send again: harness status --all shows every stage")
        return
    for stage in chosen:
        status = statuses[stage.key]
        reason = f": {status.reason}" if status.reason else ""
        typer.echo(sinks.terminal(f"{status.state:12} {stage.name}{reason}"))
    if not dry_run:
        close_attempts(folder, [statuses[stage.key] for stage in chosen])
        _tell(resubmit(folder, [stage.key for stage in chosen], changes, launcher))


def _not_collected(folder: Folder) -> list[tuple[Launcher, StageStatus]]:
    """The jobs that should have brought the database up to date, and have not."""
    from harness.launch.launchers import collecting
    from harness.workspace.status import State

    ended = (State.FAILED, State.LOST, State.INTERRUPTED)
    return [(owner, status) for owner, status in collecting(folder) if status.state in ended]


def _tell(launched: LaunchResult) -> None:
    if launched.message:
        typer.echo(launched.message)
    for key, reason in {**launched.failed, **launched.blocked}.items():
        typer.secho(f"not done  {key}: {reason}", fg="red", err=True)
    if launched.failed or launched.blocked:
        raise typer.Exit(Exit.FAILED)
