"""Run a stage, from its job to its record."""
