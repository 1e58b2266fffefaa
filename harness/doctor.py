"""Check whether a machine has what the harness needs; each finding has a remedy. Read-only."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from harness.errors import HarnessError
from harness.system.checks import Check, Status
from harness.system.code import DISTRIBUTION, PACKAGES, revision, versions
from harness.system.devices import devices

IMPORTS = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "fvcore.nn")
"""Packages to import as a test: incompatible versions fail only then."""

DISK_WARN_BYTES, DISK_FAIL_BYTES = 5 << 30, 200 << 20


def diagnose(
    workspace: Path, database: str, data_root: Path | None = None, weights_dir: Path | None = None
) -> Iterator[Check]:
    """Run all checks in turn; none raises.

    Args:
        workspace: the folder for sweeps.
        database: SQLite file or URL; opened read-only.
        data_root, weights_dir: folders of data sets and of ImageNet weights, if any.
    """
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("devices", _devices),
        ("code", _code),
        ("launchers", _launchers),
        ("workspace", lambda: _workspace(workspace)),
        ("database", lambda: _database(database)),
        ("data", lambda: _data(data_root)),
        ("weights", lambda: _weights(weights_dir)),
    ]
    for area, part in parts:
        try:
            yield from part()
        except Exception as error:
            yield Check(
                area, area, "fail", f"{type(error).__name__}: {error}", "the check itself failed: report this as a bug"
            )


def _python() -> Iterator[Check]:
    right = sys.version_info >= (3, 11)
    remedy = "" if right else "use Python 3.11 or newer: make PYTHON=python3.12 demo"
    yield Check("python", "version", "ok" if right else "fail", platform.python_version(), remedy)


def _packages() -> Iterator[Check]:
    """Check that required packages are installed, new enough and importable."""
    found = versions()
    wanted = _requirements()
    for name in dict.fromkeys((*PACKAGES, *wanted)):
        have, needed = found.get(name) or _installed(name), wanted.get(name, SpecifierSet())
        if have is None:
            yield Check("packages", name, "fail", "not installed", f"pip install '{name}{needed}'")
        elif not needed.contains(have, prereleases=True):
            yield Check("packages", name, "fail", f"{have}, which is not {needed}", f"pip install '{name}{needed}'")
        elif name in PACKAGES:
            yield Check("packages", name, "ok", have)
    for name in IMPORTS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            remedy = "install matching versions, especially of torch and torchvision, with one pip command"
            yield Check("packages", f"import {name}", "fail", text, remedy)


def _requirements() -> dict[str, SpecifierSet]:
    """Required packages -> accepted versions, as declared by the distribution."""
    try:
        declared = [Requirement(line) for line in requires(DISTRIBUTION) or []]
    except PackageNotFoundError:
        return {}
    return {
        canonicalize_name(item.name): item.specifier
        for item in declared
        if item.marker is None or item.marker.evaluate({"extra": ""})
    }


def _installed(name: str) -> str | None:
    from importlib.metadata import version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Check]:
    import torch

    found = devices()
    for device in found:
        memory = f", {device.memory_bytes / 2**30:.0f} GiB" if device.memory_bytes else ""
        extra = ""
        if device.word == "cpu":
            extra = f", {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
        yield Check("devices", device.word, "ok", f"{device.name}{memory}{extra}")
    if len(found) > 1:
        return
    if Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available():
        why = "is built without CUDA" if torch.version.cuda is None else f"(CUDA {torch.version.cuda}) does not see it"
        remedy = "install a torch that matches the driver; nvidia-smi shows the driver's CUDA version"
        yield Check("devices", "gpu", "warn", f"a driver is loaded, but this torch {why}", remedy)
    else:
        yield Check("devices", "gpu", "info", "none: stages run on the CPU")


def _code() -> Iterator[Check]:
    yield Check("code", "revision", "ok", str(revision()))


def _launchers() -> Iterator[Check]:
    """The checks of each launcher."""
    from harness.launch.base import LAUNCHERS

    for entry in LAUNCHERS:
        yield from entry.cls().checks()
    for name, reason in LAUNCHERS.broken.items():
        yield Check("launchers", name, "warn", reason, "fix or remove that package")


def _workspace(workspace: Path) -> Iterator[Check]:
    """Check that the folder, or its nearest existing parent, is writable, and how much space is free."""
    folder = workspace.absolute()
    while not folder.exists():
        folder = folder.parent
    state = "exists" if workspace.is_dir() else "will be created"
    if not folder.is_dir():
        yield Check("workspace", "folder", "fail", f"{folder} is a file", "name a folder with --workspace")
        return
    if not os.access(folder, os.W_OK):
        remedy = "name another folder with --workspace"
        yield Check("workspace", "folder", "fail", f"{folder} cannot be written to", remedy)
    else:
        yield Check("workspace", "folder", "ok", f"{workspace} ({state})")
    free = shutil.disk_usage(folder).free
    status: Status = "fail" if free < DISK_FAIL_BYTES else "warn" if free < DISK_WARN_BYTES else "ok"
    remedy = "" if status == "ok" else "a stage needs up to a few hundred MB during training: free some space"
    yield Check("workspace", "free disk", status, f"{free / 2**30:.1f} GiB", remedy)


def _database(database: str) -> Iterator[Check]:
    """Check the database, read-only; it is never created here."""
    import sqlite3

    from sqlalchemy import func, select

    from results.store import open_store, runs

    yield Check("database", "SQLite", "ok", sqlite3.sqlite_version)
    if "://" not in database and not Path(database).exists():
        yield Check("database", "leaderboard", "ok", f"{database} will be created by the first sweep")
        return
    try:
        with open_store(database, readonly=True) as store, store.read() as connection:
            count = connection.execute(select(func.count()).select_from(runs)).scalar()
            yield Check("database", "leaderboard", "ok", f"{store.name}: {count} rows")
    except ValueError as error:
        if "holds no leaderboard yet" in str(error):
            yield Check("database", "leaderboard", "ok", f"reached; {error}")
            return
        remedy = "correct --db, or start the server; a database can be deleted and collected again"
        yield Check("database", "leaderboard", "fail", str(error), remedy)


def _data(data_root: Path | None) -> Iterator[Check]:
    """Check each data set: generated, found, or not found."""
    from harness.builders.datasets import ROOT_VARIABLE, data_root_or_default, open_dataset
    from harness.plugins.registries import DATASETS

    root = data_root_or_default(data_root)
    if root is not None and not root.is_dir():
        yield Check("data", "root", "fail", f"{root} is not a folder", f"correct --data-root or {ROOT_VARIABLE}")
        return
    for entry in DATASETS:
        if not entry.cls.needs_root:
            yield Check("data", entry.name, "ok", "generated, needs no files")
            continue
        if root is None:
            remedy = f"give --data-root FOLDER or set {ROOT_VARIABLE} if you want it"
            yield Check("data", entry.name, "info", "no data root", remedy)
            continue
        try:
            problems = open_dataset(entry.name, root).check(full=False)
        except HarnessError:
            remedy = f"if you have it, harness data check {entry.name} lists the expected files"
            yield Check("data", entry.name, "info", f"not found under {root}", remedy)
            continue
        if problems:
            more = f" and {len(problems) - 1} more problems" if len(problems) > 1 else ""
            yield Check("data", entry.name, "warn", f"{problems[0]}{more}", f"harness data check {entry.name}")
        else:
            yield Check("data", entry.name, "ok", f"found under {root}")


def _weights(weights_dir: Path | None) -> Iterator[Check]:
    """Check ImageNet weights: files in a folder, or timm's hub."""
    if weights_dir is None:
        remedy = "without network access, give --weights-dir FOLDER or set HARNESS_WEIGHTS"
        yield Check("weights", "imagenet", "info", "no weights folder: downloaded from timm's hub when needed", remedy)
        return
    if not weights_dir.is_dir():
        remedy = "correct --weights-dir or HARNESS_WEIGHTS"
        yield Check("weights", "imagenet", "fail", f"{weights_dir} is not a folder", remedy)
        return
    files = sorted(path.stem for path in weights_dir.glob("*.safetensors"))
    if files:
        shown = ", ".join(files[:6]) + (f" and {len(files) - 6} more" if len(files) > 6 else "")
        yield Check("weights", "imagenet", "ok", f"{len(files)} in {weights_dir}: {shown}")
    else:
        remedy = "put ENCODER.safetensors files there, with timm's model names"
        yield Check("weights", "imagenet", "warn", f"{weights_dir} contains no .safetensors file", remedy)
