"""Checks of SLURM for `harness doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from harness.launch.slurm.queue import SlurmUnavailable, call
from harness.system.checks import Check

AREA = "scheduler"
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "sacct")


def slurm_checks() -> Iterator[Check]:
    """Check SLURM's commands, and whether the controller responds."""
    present = [name for name in COMMANDS if shutil.which(name)]
    if "sbatch" not in present:
        yield Check(AREA, "slurm", "info", "none: the local launcher")
        return
    if missing := sorted({"squeue", "scancel", "scontrol"} - set(present)):
        remedy = "put SLURM's client commands on the PATH of this machine"
        yield Check(AREA, "commands", "warn", f"sbatch is here, but not {', '.join(missing)}", remedy)
    try:
        version = call(["sbatch", "--version"], 10).strip()
        partitions = call(["sinfo", "--noheader", "--format", "%P %a %l %D nodes %G"], 10).strip().splitlines()
    except SlurmUnavailable as silence:
        remedy = "run this on a login node; if SLURM is down, ask its administrators"
        said = str(silence).rpartition("fatal: ")[2]
        yield Check(AREA, "slurm", "warn", f"installed, but does not respond: {said}", remedy)
        return
    yield Check(AREA, "slurm", "ok", f"{version}; sweep --launcher slurm")
    for line in partitions:
        name, _, rest = line.partition(" ")
        yield Check(AREA, f"partition {name}", "ok", rest)
    if "sacct" in present:
        yield Check(AREA, "accounting", "ok", "sacct is here")
    else:
        yield Check(AREA, "accounting", "info", "no sacct: states come from squeue and from the stages' files")
