"""Fixtures of this folder."""

from tests.harness.workspace.two_rows import workspace  # noqa: F401
