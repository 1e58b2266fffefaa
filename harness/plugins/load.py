"""Plugins given on the command line: files that register methods, backbones, heads, data sets, metrics or launchers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import harness.plugins.registries  # noqa: F401 - their registries are among FILE_KINDS from then on
from harness.plugins.file_plugin import load_plugin
from harness.plugins.registry import FILE_KINDS
from harness.system.shipping import ship_along
from harness.workspace.job import PluginFile


def load_plugins(paths: Iterable[Path]) -> tuple[PluginFile, ...]:
    """Load plugin files; return each with its absolute path and sha256.

    Raises:
        HarnessError: a file is missing, raises when imported, or registers nothing.
    """
    return tuple(load_file(str(path.resolve())) for path in paths)


def load_file(path: str) -> PluginFile:
    """Load one plugin file, here and in every process that is handed objects of this one.

    Raises:
        HarnessError: as for `load_plugins`.
    """
    loaded = PluginFile(path=path, sha256=load_plugin(Path(path), FILE_KINDS))
    ship_along(path, load_file)
    return loaded
