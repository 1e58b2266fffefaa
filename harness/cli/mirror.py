"""`harness mirror`: curves of what has been run already, in another board."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Plugins, Workspace, load_given
from harness.errors import HarnessError


def mirror(
    log: Annotated[list[str], typer.Argument(metavar="SINK...", help="tensorboard, mlflow, wandb, or a plugin's.")],
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", "-c", help="Only stages whose name holds this, or key begins so."),
    ] = None,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Mirror the curves of stages that have run, from their events, as `harness sweep --log` does while they run.

    Examples:

        harness mirror tensorboard

        harness mirror wandb --cell 'ka timm:mobilenetv2_100/linear@16'
    """
    from harness.curves.afterwards import mirror_workspace
    from harness.curves.base import chosen_sinks
    from harness.workspace.folders import Workspace as Folder

    load_given(plugin)
    names = chosen_sinks(log)
    count = mirror_workspace(Folder(workspace), names, cell or [])
    if not count:
        raise HarnessError(f"no stage in {workspace} has events to mirror", "run a sweep in it, or name another --cell")
    typer.echo(f"{count} stages mirrored to {' and '.join(names)}")
