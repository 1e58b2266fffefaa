"""`harness rerun`: train a run again from its record."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    Database,
    OriginalData,
    Plugins,
    RecordedDevice,
    RunWords,
    Workspace,
    database,
)

if TYPE_CHECKING:
    from harness.launch.rerun import Rerun


def rerun(
    words: RunWords,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Workspace for the new run.", show_default="WORKSPACE/reruns/KEY-N"),
    ] = None,
    device: RecordedDevice = "auto",
    data_root: OriginalData = None,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Train a run again from its record, in a separate workspace, and compare the results.

    Its parents (teacher, translators) are reused. The original run is not changed. Reports whether weights and
    confusion matrices are equal, and differences in code, libraries, device and numerics.

    Examples:

        harness rerun 3f2a91

        harness rerun ka @16 seed=0 --into /tmp/again --device cpu
    """
    from harness.launch.rerun import rerun as trained_again
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import run_folder

    folder = run_folder(Folder(workspace), database(workspace, db), words)
    found = trained_again(folder, into, device, data_root, plugin or (), quiet=as_json)
    typer.echo(json.dumps(_facts(found), indent=1) if as_json else _text(found))


def _facts(found: Rerun) -> dict[str, object]:
    """The result as JSON."""
    miou = found.miou and [None if math.isnan(value) else value for value in found.miou]
    return {
        "key": found.then.key,
        "name": found.then.name,
        "folder": str(found.folder),
        "same": found.same,
        "weights_same": found.weights_same,
        "images": found.images,
        "differing": found.differing,
        "miou": miou,
        "environment": found.environment,
        "numerics": found.numerics,
    }


def _text(found: Rerun) -> str:
    """The result as text."""
    from results import sinks

    lines = [f"{found.then.name}  {found.then.key}", f"  trained again in {found.folder}"]
    lines.append(f"  weights: {'identical, bit for bit' if found.weights_same else 'different'}")
    if found.images:
        pixels = sum(found.differing.values())
        where = f"differ in {len(found.differing)} of {found.images} images, by {pixels} pixels"
        same = f"identical over all {found.images} images"
        lines.append(f"  confusion matrices: {where if found.differing else same}")
    if found.miou:
        lines.append(f"  mIoU [%]: {100 * found.miou[0]:.2f} then, {100 * found.miou[1]:.2f} now")
    changes = found.environment | found.numerics
    lines += [f"  {name}: {then or '-'} then, {now or '-'} now" for name, (then, now) in changes.items()]
    if not changes:
        lines.append("  code, libraries and device are unchanged")
    return "\n".join(sinks.terminal(line) for line in lines)
