"""`harness retry`: submit failed, interrupted or blocked stages again."""

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
    failed: Annotated[bool, typer.Option("--failed", help="Failed, lost and interrupted stages.")] = False,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="Blocked stages, and the failed stages that block them.")
    ] = False,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", "-c", help="Stages whose name holds this, or whose key begins so.")
    ] = None,
    sweep: Annotated[str, typer.Option(help="Only this sweep (id, or its beginning).")] = "",
    launcher: Annotated[
        str, typer.Option("--launcher", "-l", help="Launcher to use.", show_default="the previous one")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="Change a setting of the launcher: -o partition=long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be submitted.")] = False,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Submit stages to their launcher again; they resume from their checkpoints.

    By default, all stages that are neither done nor queued or running. Missing parents of selected stages are included.
    Settings are those of the last submission, with the changes given here. For runs on this machine, run the same
    `harness sweep` again instead: it resumes.

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
        typer.echo("nothing to submit again: harness status --all shows every stage")
        return
    for stage in chosen:
        status = statuses[stage.key]
        reason = f": {status.reason}" if status.reason else ""
        typer.echo(sinks.terminal(f"{status.state:12} {stage.name}{reason}"))
    if not dry_run:
        close_attempts(folder, [statuses[stage.key] for stage in chosen])
        _tell(resubmit(folder, [stage.key for stage in chosen], changes, launcher))


def _not_collected(folder: Folder) -> list[tuple[Launcher, StageStatus]]:
    """The jobs that should have updated the database but failed."""
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
