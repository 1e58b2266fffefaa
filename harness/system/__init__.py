"""The environment of a stage: code revision, devices, processes."""
