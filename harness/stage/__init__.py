"""One stage, from its job to its record."""
