"""What a model costs: MACs and FLOPs by operator, parameters, latency, peak memory."""
