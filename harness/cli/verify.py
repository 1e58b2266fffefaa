"""`harness verify`: evaluate stored weights again and compare with the record."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

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
    load_given,
)
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.stage.verify import Verification

SHOWN = 10
"""Maximum number of images printed; `--json` prints all."""
REMEDY = "harness rerun trains it again, in another workspace"


def verify(
    words: RunWords,
    device: RecordedDevice = "auto",
    data_root: OriginalData = None,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the stored weights of a run again, and compare the confusion matrices image by image.

    The run's files are checked against the digests in its record, and its weights are evaluated on the same split, in
    the same precision and memory layout. Reports differences; exit code 1 if there are any. Nothing is written.

    Examples:

        harness verify 3f2a91

        harness verify ka @16 seed=0 --device cpu

        harness verify teacher shapes --json
    """
    from harness.launch.progress import counting
    from harness.stage.verify import verify as verified
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import run_folder

    folder = run_folder(Folder(workspace), database(workspace, db), words)
    load_given(plugin)
    with counting("evaluating", quiet=as_json) as progress:
        found = verified(folder, device, data_root, progress)
    typer.echo(json.dumps(_facts(found), indent=1) if as_json else _text(found))
    if not found.same:
        raise typer.Exit(Exit.FAILED)


def _facts(found: Verification) -> dict[str, object]:
    """The result as JSON."""
    miou = found.miou and [None if math.isnan(value) else value for value in found.miou]
    return asdict(found) | {"miou": miou, "same": found.same}


def _text(found: Verification) -> str:
    """The result as text."""
    from results import sinks

    lines = [f"{found.name}  {found.key}"]
    lines += [f"  {name}: {what}" for name, what in found.files.items()]
    if found.images and not found.differing and found.same:
        lines.append(f"  same: the confusion matrices of all {found.images} images are identical")
    elif found.differing:
        lines.append(f"  different: the confusion matrices of {len(found.differing)} of {found.images} images")
        worst = sorted(found.differing.items(), key=lambda item: -item[1])
        lines += [f"    {name}: {pixels} pixels" for name, pixels in worst[:SHOWN]]
        if len(worst) > SHOWN:
            lines.append(f"    and {len(worst) - SHOWN} more (--json lists them)")
    elif not found.images:
        lines.append("  its files match its record" if found.same else f"  not evaluated: {REMEDY}")
    if found.miou and not found.same:
        lines.append(f"  mIoU [%]: {100 * found.miou[0]:.4f} in the record, {100 * found.miou[1]:.4f} now")
    lines += [f"  {name}: {then} then, {now} now" for name, (then, now) in found.environment.items()]
    return "\n".join(sinks.terminal(line) for line in lines)
