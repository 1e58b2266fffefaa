"""Specifications of sweeps and stages, their canonical JSON and keys, and recipes."""
