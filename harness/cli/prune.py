"""`harness prune`: delete files that are no longer needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.workspace.prune import Removable

SHOWN = 10
"""Number of files printed, the largest first; `--json` prints all."""


def prune(
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Also delete weights of students: the board does not need them, verify does."),
    ] = False,
    keep: Annotated[
        int,
        typer.Option("--keep", min=0, help="Number of best runs per data set, student and stride that keep weights."),
    ] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the files. By default, only list them.")] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """List files that are no longer needed; delete them with --yes.

    These are checkpoints of finished stages, temporary files of dead processes and, with --weights, the weights of all
    but the best students. Records, and weights of teachers, translators and other parents of stages, are never deleted.

    Examples:

        harness prune

        harness prune --weights --keep 3

        harness prune --weights --keep 3 --yes
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.prune import find_removable, remove

    found = find_removable(Folder(workspace), weights, keep)
    freed = remove(found) if yes else 0
    if as_json:
        files = [{"path": str(f.path), "bytes": f.size, "why": f.why, "name": f.name} for f in found]
        typer.echo(json.dumps({"files": files, "bytes": sum(f.size for f in found), "deleted": yes}, indent=1))
    else:
        typer.echo(_text(found, yes, freed))


def _text(found: Sequence[Removable], deleted: bool, freed: int) -> str:
    from results import sinks

    if not found:
        return "nothing to delete"
    lines = []
    for why in dict.fromkeys(each.why for each in found):
        some = [each for each in found if each.why == why]
        lines.append(f"{len(some):6d} x {why}: {sum(each.size for each in some) / 1e6:.1f} MB")
    largest = sorted(found, key=lambda each: -each.size)
    lines += [f"         {each.size / 1e6:8.1f} MB  {each.path}  {each.name}" for each in largest[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"         and {len(found) - SHOWN} more (--json lists them)")
    total = sum(each.size for each in found)
    said = f"{freed} bytes deleted" if deleted else f"{total} bytes could be deleted: give --yes"
    return "\n".join(sinks.terminal(line) for line in [*lines, said])
