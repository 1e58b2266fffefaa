"""Template of a site's settings file, from the cluster's configuration."""

from __future__ import annotations

import re
import sys

from harness.errors import HarnessError
from harness.launch.slurm import queue as slurm_queue
from harness.specs.yaml_files import yaml_word


def site_facts() -> dict[str, str]:
    """Defaults for this site, from `sinfo` and `scontrol show config`: setting -> value.

    Raises:
        HarnessError: SLURM does not answer.
    """
    try:
        partitions = slurm_queue.call(["sinfo", "--noheader", "--format=%R|%a|%l|%G|%m|%c|%P"])
        array = slurm_queue.controller_setting("MaxArraySize")
    except slurm_queue.SlurmUnavailable as error:
        raise HarnessError(f"SLURM does not answer: {error}", "run this on a login node of the cluster") from error
    rows = [line.split("|") for line in partitions.splitlines() if line.count("|") >= 6]
    up = [row for row in rows if row[1] == "up"] or rows
    if not up:
        raise HarnessError("sinfo lists no partition", "run this on a login node of the cluster")
    with_gpus = [row for row in up if "gpu" in row[3]]
    chosen = next((row for row in with_gpus if row[6].endswith("*")), (with_gpus or up)[0])
    kind = re.search(r"gpu:([A-Za-z]\w*):\d+", chosen[3])
    return {
        "partition": chosen[0],
        "partitions": ", ".join(dict.fromkeys(f"{row[0]} ({row[3]}, limit {row[2]})" for row in up)),
        "limit": chosen[2],
        "gpus": "1" if with_gpus else "0",
        "gpu_type": kind[1] if kind else "",
        "max_array_size": array,
        "python": sys.executable,
    }


def site_text(facts: dict[str, str]) -> str:
    """The text of the settings file, with a comment on every line."""
    limit = facts["limit"]
    time = limit if limit and limit not in ("infinite", "n/a", "UNLIMITED") else "4:00:00"
    gpu_type = yaml_word(facts["gpu_type"]) if facts["gpu_type"] else "a100"
    lines = [
        "# Defaults of this site for: harness sweep --launcher slurm. Flags and -o NAME=VALUE override them.",
        f"# Partitions here: {facts['partitions']}",
        f"partition: {yaml_word(facts['partition'])}",
        "# account: NAME          # account to charge",
        "# qos: NAME",
        "# constraint: NAME       # required feature of nodes",
        f"gpus: {facts['gpus']}                  # of one run, per node",
        "gpu_flag: gpus-per-node  # or gres, gpus-per-task, gpus, none: how this site requests GPUs",
        f"# gpu_type: {gpu_type}",
        "# cpus: 4                # per process",
        "# mem: 16G               # per node",
        f"time: {yaml_word(time)}",
        f"max_array_size: {facts['max_array_size'] or 0}     # MaxArraySize of the controller; 0 to query it each time",
        "max_parallel: 0          # tasks of a kind at once; 0 for no limit",
        "signal_delay_s: 90       # seconds before the time limit at which a run saves a checkpoint",
        "setup: []                # shell lines at the start of a job: [module load cuda, source env/bin/activate]",
        "# python: apptainer exec --nv image.sif python   # command that starts Python in a job",
        "sbatch: {}               # any other flag of sbatch: {nice: 100, exclude: node7}",
        "# collect_options: {partition: cpu}               # for the final job, which needs no GPU",
        "# stages:                                          # other resources for a kind of stage",
        '#   teacher: {time: "12:00:00", mem: 64G}',
    ]
    return "\n".join(lines) + "\n"
