"""Turn a sweep into the graph of stages that it needs."""
