"""The commands of `harness`, one file a command."""
