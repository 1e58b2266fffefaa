"""Launchers run the stages of a plan, on this machine or as SLURM arrays."""

from __future__ import annotations
