"""One training loop for every kind of stage; checkpoints; the numerics guard."""
