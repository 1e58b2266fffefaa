"""`harness merge`: merge several workspaces into one board."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database
from harness.errors import Exit, HarnessError

if TYPE_CHECKING:
    from harness.workspace.merge import Merged


def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="WORKSPACE...", help="Workspaces to take runs from.")],
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Do not copy weights: the board does not need them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be copied.")] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Copy the finished runs of other workspaces into this one, and collect them.

    Runs are matched by key. Existing runs are kept; if results differ, the conflict is reported (exit code 1), as are
    runs whose files do not match their records. Nothing is overwritten.

    Examples:

        harness merge /mnt/alice/runs /mnt/bob/runs --workspace runs

        harness merge ../other/runs --no-weights --dry-run
    """
    from harness.launch.progress import counting
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.merge import merge as merged_into

    target = Folder(workspace)
    with counting("merging", quiet=as_json) as progress:
        found = merged_into(sources, target, not no_weights, dry_run, progress)
    if found.added and not dry_run:
        _collect(target.root, database(workspace, db))
    typer.echo(json.dumps(asdict(found), indent=1) if as_json else _text(found, dry_run))
    if found.conflicts or found.damaged:
        raise typer.Exit(Exit.FAILED)


def _collect(root: Path, target: str) -> None:
    from results.rebuild import collect_into

    try:
        collect_into(root, target)
    except ValueError as error:
        raise HarnessError(str(error), "the runs are copied; collect them with harness collect") from error


def _text(found: Merged, dry_run: bool) -> str:
    from results import sinks

    what = "would be added" if dry_run else "added"
    lines = [f"{len(found.added)} {what} ({found.size / 1e6:.1f} MB), {len(found.same)} here already"]
    if found.unfinished:
        lines[0] += f", {found.unfinished} unfinished left where they are"
    lines += [f"conflict  {key}: {why}" for key, why in found.conflicts.items()]
    lines += [f"damaged   {folder}: {why}" for folder, why in found.damaged.items()]
    return "\n".join(sinks.terminal(line) for line in lines)
