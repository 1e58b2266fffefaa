"""The training loop of all kinds of stages, and checkpoints."""
