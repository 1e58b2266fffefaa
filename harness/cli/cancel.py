"""`harness cancel`: cancel queued and running jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Plugins, Workspace, load_given
from harness.errors import HarnessError


def cancel(
    cells: Annotated[
        list[str] | None, typer.Argument(help="Stages whose name contains this, or whose key begins with it.")
    ] = None,
    all_stages: Annotated[bool, typer.Option("--all", help="Cancel all jobs of this workspace.")] = False,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Cancel jobs of this workspace on a cluster. Running stages save a checkpoint, from which `harness retry` resumes.

    Stages that depend on a cancelled one are cancelled by SLURM and shown as blocked. The database is still updated
    when all jobs have ended. For runs on this machine, press Ctrl-C instead.

    Examples:

        harness cancel --all

        harness cancel 'ka timm:mobilenetv2_100/linear@16 seed 2'
    """
    from harness.launch import launchers
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import stages_called
    from harness.workspace.status import read_sweeps

    if bool(cells) == all_stages:
        raise HarnessError("nothing to cancel was named", "name stages, or give --all")
    load_given(plugin)
    folder = Folder(workspace)
    keys = stages_called(read_sweeps(folder), cells) if cells else None
    taken = launchers.cancel(folder, keys)
    typer.echo(f"cancelled {', '.join(taken)}" if taken else "no matching job is queued or running")
