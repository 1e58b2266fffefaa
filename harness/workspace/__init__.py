"""The folder in which everything happens: its files, jobs, events and states."""
