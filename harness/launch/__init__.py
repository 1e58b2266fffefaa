"""Launchers: how the stages of a plan come to run. On this machine, or as SLURM arrays."""

from __future__ import annotations
