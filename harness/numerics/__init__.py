"""Which precision and memory layout can be trusted on a device."""
