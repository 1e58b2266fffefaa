"""The workspace: the folder of all files, jobs, events and states of sweeps."""
