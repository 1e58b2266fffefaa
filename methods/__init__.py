"""Distillation methods, one file each; `methods.base` is the contract."""
