"""One training loop for every kind of stage, and its checkpoints."""
