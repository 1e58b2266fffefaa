"""`harness cancel`: take back what is queued or running."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Plugins, Workspace, load_given
from harness.errors import HarnessError


def cancel(
    cells: Annotated[
        list[str] | None, typer.Argument(help="Stages whose name holds this, or whose key begins so.")
    ] = None,
    all_stages: Annotated[bool, typer.Option("--all", help="Everything of this workspace.")] = False,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Cancel jobs of this workspace on a cluster. What ran saves a checkpoint; `harness retry` goes on from it.

    Stages that wait for a cancelled one are cancelled by SLURM and shown as blocked. The database is still brought
    up to date when everything has ended. On this machine instead of a cluster, press Ctrl-C.

    Examples:

        harness cancel --all

        harness cancel 'ka timm:mobilenetv2_100/linear@16 seed 2'
    """
    from harness.launch import launchers
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import stages_called
    from harness.workspace.status import read_sweeps

    if bool(cells) == all_stages:
        raise HarnessError("say what to cancel", "name stages, or give --all")
    load_given(plugin)
    folder = Folder(workspace)
    keys = stages_called(read_sweeps(folder), cells) if cells else None
    taken = launchers.cancel(folder, keys)
    typer.echo(f"cancelled {', '.join(taken)}" if taken else "nothing of it is queued or running")
