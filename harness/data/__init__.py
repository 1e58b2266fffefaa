"""Data sets, joint image/label transforms, samplers, and the check made before any training."""
