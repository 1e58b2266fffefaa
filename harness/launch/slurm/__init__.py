"""The launcher for a cluster: stages as SLURM arrays through submitit."""

from harness.launch.slurm.launcher import SlurmLauncher

__all__ = ["SlurmLauncher"]
