"""The SLURM launcher: stages as job arrays, submitted through submitit."""

from harness.launch.slurm.launcher import SlurmLauncher

__all__ = ["SlurmLauncher"]
