"""Sinks of curves, one file each."""
