"""Where and with what a stage runs: versions, host, devices, code revision. Recorded beside a stage's key, never in it.

Versions are read from package metadata and nothing heavy is imported; only the functions about devices import torch.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "segmentation-distillation-harness"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "fvcore",
    "numpy",
    "scipy",
    "pandas",
    "sqlalchemy",
    "pydantic",
    "safetensors",
    "submitit",
    "streamlit",
)
"""Distributions whose versions are recorded."""

SOURCES = ("harness", "methods", "backbones")
"""Packages whose code decides what a stage computes."""

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout, or site-packages."""


def package_version() -> str:
    """The version of this distribution; "unknown" where it is not installed."""
    return _version(DISTRIBUTION) or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Python and every package of `PACKAGES` that is installed -> version."""
    found = {"python": platform.python_version(), DISTRIBUTION: package_version()}
    return found | {name: number for name in PACKAGES if (number := _version(name))}


@dataclass(frozen=True)
class Revision:
    """The code that runs: a commit, and whether the tree differs from it; or "package VERSION" outside a checkout."""

    name: str
    dirty: bool = False

    def __str__(self) -> str:
        return f"{self.name}{' with changes' if self.dirty else ''}"


def revision(root: Path = ROOT) -> Revision:
    """The revision of the sources. Never fails: without git, or outside a checkout, it is the package's version."""
    packaged = Revision(f"package {package_version()}")
    top, commit = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    # An installation inside somebody else's repository (a virtual environment in it) is not a checkout of this one.
    if not commit or not top or Path(top).resolve() != root.resolve():
        return packaged
    tracked = [name for name in (*SOURCES, "results") if (root / name).is_dir()]
    status = _git(root, "status", "--porcelain", "--", *tracked)
    return Revision(commit, dirty=status is None or bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; None when it is missing, slow or refuses."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def tree_digest(root: Path = ROOT) -> str:
    """sha256 over the source files of `harness`, `methods` and `backbones`: names and contents, in order of name.

    It tells a worker whether the code changed between planning and running, in a checkout and in site-packages alike.
    Compiled files and anything but `.py` and `.yaml` do not count.
    """
    total = sha256()
    for package in SOURCES:
        files = (file for file in (root / package).rglob("*") if file.suffix in (".py", ".yaml"))
        for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
            total.update(f"{file.relative_to(root).as_posix()}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
