"""From a sweep to the graph of stages it needs."""
