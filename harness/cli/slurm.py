"""`harness slurm init`: a file of site defaults, from what the cluster says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError


def slurm_init(
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Where to write it.", show_default="./harness-slurm.yaml"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print it; write nothing.")] = False,
) -> None:
    """Write this site's defaults for `--launcher slurm`: partition, GPUs, limits, setup lines.

    They come from `sinfo` and `scontrol show config`; read the file and complete it (account, modules). It is found
    by --slurm-config FILE, the variable HARNESS_SLURM_CONFIG, ./harness-slurm.yaml or ~/.config/harness/slurm.yaml,
    in this order.

    Examples:

        harness slurm init

        harness slurm init --file ~/.config/harness/slurm.yaml --force

        harness slurm init --show
    """
    from harness.launch.slurm.config import FILE_NAME, make_config
    from harness.launch.slurm.launcher import first_site_file
    from harness.workspace.files import write_atomic

    text = site_text(first_site_file())
    if show:
        typer.echo(text, nl=False)
        return
    target = file or Path(FILE_NAME)
    if target.exists() and not force:
        raise HarnessError(f"{target} is there already", "give --force to overwrite it, or --show to look first")
    write_atomic(target, text)
    make_config({}, target)
    typer.echo(f"wrote {target}: read it, fill in account and setup, then: harness sweep --launcher slurm --dry-run")


def site_text(facts: dict[str, str]) -> str:
    """The file for a site, with a comment to every line."""
    import yaml

    def word(value: str) -> str:
        """A value as YAML writes it, so that no name from sinfo is read as something else."""
        return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]

    limit = facts["limit"]
    time = limit if limit and limit not in ("infinite", "n/a", "UNLIMITED") else "4:00:00"
    gpu_type = word(facts["gpu_type"]) if facts["gpu_type"] else "a100"
    lines = [
        "# Defaults of this site for: harness sweep --launcher slurm. Flags and -o NAME=VALUE go before them.",
        f"# Partitions here: {facts['partitions']}",
        f"partition: {word(facts['partition'])}",
        "# account: NAME          # who pays",
        "# qos: NAME",
        "# constraint: NAME       # a feature that nodes must have",
        f"gpus: {facts['gpus']}                  # of one run, on each node",
        "gpu_flag: gpus-per-node  # or gres, gpus-per-task, gpus, none: how this site wants GPUs to be asked for",
        f"# gpu_type: {gpu_type}",
        "# cpus: 4                # of each process",
        "# mem: 16G               # of each node",
        f"time: {word(time)}",
        f"max_array_size: {facts['max_array_size'] or 0}     # MaxArraySize of the controller; 0 asks it each time",
        "max_parallel: 0          # tasks of a kind at once; 0 for no limit",
        "signal_delay_s: 90       # seconds before the time limit at which a run saves itself",
        "setup: []                # shell lines at the start of a job: [module load cuda, source env/bin/activate]",
        "# python: apptainer exec --nv image.sif python   # what starts Python in a job",
        "sbatch: {}               # any other flag of sbatch: {nice: 100, exclude: node7}",
        "# collect_options: {partition: cpu}               # for the last job, which needs no GPU",
        "# stages:                                          # other resources for a kind of stage",
        '#   teacher: {time: "12:00:00", mem: 64G}',
    ]
    return "\n".join(lines) + "\n"
