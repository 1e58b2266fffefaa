"""Plugins given on the command line: files that register methods, backbones, heads or data sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.plugins.file_plugin import load_plugin
from harness.plugins.registries import DATASETS, FAMILIES, HEADS, METHODS
from harness.plugins.registry import Registry
from harness.workspace.job import PluginFile


def load_plugins(paths: Iterable[Path]) -> tuple[PluginFile, ...]:
    """Load plugins' files; each with its absolute path and the sha256 of its content.

    Raises:
        HarnessError: a file is missing, raises when imported, or registers nothing.
    """
    registries: list[Registry[Any]] = [METHODS, FAMILIES, HEADS, DATASETS]
    return tuple(PluginFile(path=str(p.resolve()), sha256=load_plugin(p.resolve(), registries)) for p in paths)
