"""What can be asked: sweeps and stages, their canonical JSON and keys, and recipes."""
