"""Versions and code revision of a stage's environment. They are recorded with a stage, but are not part of its key.

Versions are read from package metadata, without importing the packages.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
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
"""Packages whose code determines the results of a stage."""

ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the packages: a checkout, or site-packages."""


def package_version() -> str:
    """The version of this distribution; "unknown" if it is not installed."""
    return _version(DISTRIBUTION) or "unknown"


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package of `PACKAGES`."""
    found = {"python": platform.python_version(), DISTRIBUTION: package_version()}
    return found | {name: number for name in PACKAGES if (number := _version(name))}


@dataclass(frozen=True)
class Revision:
    """The running code: a commit, and whether the tree differs from it; or "package VERSION" outside a checkout."""

    name: str
    dirty: bool = False

    def __str__(self) -> str:
        return f"{self.name}{' with changes' if self.dirty else ''}"


def revision(root: Path = ROOT) -> Revision:
    """The revision of the sources; the package's version without git or outside a checkout."""
    packaged = Revision(f"package {package_version()}")
    top, commit = _git(root, "rev-parse", "--show-toplevel"), _git(root, "rev-parse", "HEAD")
    # An installation inside another repository (in its virtual environment) is not a checkout of this one.
    if not commit or not top or Path(top).resolve() != root.resolve():
        return packaged
    tracked = [name for name in (*SOURCES, "results") if (root / name).is_dir()]
    status = _git(root, "status", "--porcelain", "--", *tracked)
    return Revision(commit, dirty=status is None or bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    """The output of git; None if git is missing, slow or fails."""
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
    """sha256 of the source files of `harness`, `methods` and `backbones`: names and contents, ordered by name.

    With it a worker detects code changes between planning and running, in a checkout and in site-packages. Only `.py`
    and `.yaml` files count.
    """
    total = sha256()
    for package in SOURCES:
        files = (file for file in (root / package).rglob("*") if file.suffix in (".py", ".yaml"))
        for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
            total.update(f"{file.relative_to(root).as_posix()}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
