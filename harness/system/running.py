"""The code that this process runs, which the files may differ from by now.

Workers are forked from a server that has imported the harness, and this module with it.
"""

from __future__ import annotations

from harness.system.code import tree_digest

CODE = tree_digest()
"""Digest of the source files when they were imported."""
