"""The commands of `harness`, one file per command."""
