"""`harness slurm init`: write a file of site defaults from the cluster's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError


def slurm_init(
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="File to write.", show_default="./harness-slurm.yaml"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print it; write nothing.")] = False,
) -> None:
    """Write this site's defaults for `--launcher slurm`: partition, GPUs, limits, setup lines.

    They come from `sinfo` and `scontrol show config`; review and complete the file (account, modules). The harness
    looks for it in this order: --slurm-config FILE, the variable HARNESS_SLURM_CONFIG, ./harness-slurm.yaml,
    ~/.config/harness/slurm.yaml.

    Examples:

        harness slurm init

        harness slurm init --file ~/.config/harness/slurm.yaml --force

        harness slurm init --show
    """
    from harness.launch.launchers import find_launcher
    from harness.launch.settings import site_file_name
    from harness.workspace.files import write_atomic

    launcher = find_launcher("slurm")
    text = launcher.site_file()
    if show:
        typer.echo(text, nl=False)
        return
    target = file or Path(site_file_name(launcher.name))
    if target.exists() and not force:
        raise HarnessError(f"{target} exists already", "give --force to overwrite it, or --show to only print")
    write_atomic(target, text)
    launcher.settings({"config": target})
    typer.echo(f"wrote {target}: review it, add account and setup, then run: harness sweep --launcher slurm --dry-run")
