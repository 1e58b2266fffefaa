"""Metrics: one file each. `base` is the contract."""
