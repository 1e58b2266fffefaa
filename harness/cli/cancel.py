"""`harness cancel`: take back what is queued or running on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Workspace
from harness.errors import HarnessError


def cancel(
    cells: Annotated[
        list[str] | None, typer.Argument(help="Stages whose name holds this, or whose key begins so.")
    ] = None,
    all_stages: Annotated[bool, typer.Option("--all", help="Everything of this workspace.")] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Cancel SLURM jobs of this workspace. What ran saves a checkpoint; `harness retry` goes on from it.

    Stages that wait for a cancelled one are cancelled by SLURM and shown as blocked. The database is still brought
    up to date when everything has ended. On this machine instead of a cluster, press Ctrl-C.

    Examples:

        harness cancel --all

        harness cancel 'ka timm:mobilenetv2_100/linear@16 seed 2'
    """
    from harness.launch.slurm.launcher import cancel as take_back
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import read_sweeps

    if bool(cells) == all_stages:
        raise HarnessError("say what to cancel", "name stages, or give --all")
    folder = Folder(workspace)
    keys = None
    if cells:
        listed = read_sweeps(folder)
        keys = [s.key for s in listed if any(text in s.name or s.key.startswith(text) for text in cells)]
        if not keys:
            raise HarnessError(f"no stage is called '{cells[0]}'", "harness status --all lists them")
    tasks = take_back(folder, keys)
    typer.echo(f"cancelled {', '.join(tasks)}" if tasks else "nothing of it is queued or running")
