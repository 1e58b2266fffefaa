"""Copy the code for jobs that run later, so that changes of the checkout do not affect them."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.system.code import ROOT, tree_digest
from harness.workspace.files import file_digest
from harness.workspace.job import PluginFile

_PACKAGES = ("harness", "methods", "backbones", "results")


def make_snapshot(folder: Path, root: Path = ROOT) -> Path:
    """Copy the packages into `folder/<digest>`, once; return the copy's root, for PYTHONPATH.

    It is written under a temporary name and renamed, so that a job never sees an incomplete copy.

    Raises:
        HarnessError: the code changed while it was copied.
    """
    code = tree_digest(root)
    target = folder / code[:20]
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{code[:20]}.{uuid.uuid4().hex}"
    try:
        for package in _PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(root / package, temporary / package, ignore=ignore)
        if tree_digest(temporary) != code:
            raise HarnessError("the code changed while a snapshot of it was made", "try again")
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def copy_plugins(folder: Path, plugins: Sequence[PluginFile]) -> tuple[PluginFile, ...]:
    """Copy the plugins to `folder/<digest>/NAME`.

    Raises:
        HarnessError: a plugin changed since it was loaded.
    """
    copies = []
    for plugin in plugins:
        target = folder / plugin.sha256[:20] / Path(plugin.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(plugin.path, temporary)
        if file_digest(temporary) != plugin.sha256:
            temporary.unlink()
            raise HarnessError(f"plugin {plugin.path} changed since it was loaded", "try again")
        temporary.replace(target)
        copies.append(PluginFile(path=str(target), sha256=plugin.sha256))
    return tuple(copies)
