"""docs/architecture.md names the rooms and files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SECTION = PAGE.partition("## Packages and layers")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| `([\w/]+)` \| (.*) \|$", SECTION, re.MULTILINE))
PACKAGES = ("backbones", "benchmarks", "dashboards", "harness", "methods", "results", "tests")
LOOSE = {"__init__", "__main__", "doctor", "errors", "worker"}


def _rooms() -> set[str]:
    return {f"harness/{folder.name}/" for folder in (ROOT / "harness").iterdir() if (folder / "__init__.py").is_file()}


def test_every_room_has_a_row() -> None:
    assert set(ROWS) == {f"{name}/" for name in PACKAGES if name != "harness"} | _rooms() | {"harness/__init__"}


def test_five_files_of_the_harness_are_in_no_room() -> None:
    assert {file.stem for file in (ROOT / "harness").glob("*.py")} == LOOSE


@pytest.mark.parametrize("folder", [folder for folder in ROWS if folder.endswith("/")])
def test_what_a_row_names_is_in_its_folder(folder: str) -> None:
    """Words in backticks that could be a file: `base`, `sets/`, `sinks/`; of other packages, their own names."""
    place = ROOT / folder
    words = re.findall(r"`([a-z_]+/?|\w+\.py)`", ROWS[folder])
    known = {*PACKAGES, "workspace"}
    missing = [
        word
        for word in words
        if word.rstrip("/") not in known
        and not any((place / f"{word}{end}").exists() for end in ("", ".py"))
        and not any((inner / f"{word}{end}").exists() for inner in place.iterdir() for end in ("", ".py"))
    ]
    assert not missing


def test_every_path_of_the_page_exists() -> None:
    roots = "|".join(PACKAGES)
    paths = set(re.findall(rf"`((?:{roots})/[\w./]+)`", PAGE))
    short = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", PAGE)) - paths
    assert len(paths) > 20
    assert not [path for path in paths if not any((ROOT / f"{path}{end}").exists() for end in ("", ".py"))]
    assert not [path for path in short if not (ROOT / "harness" / path).exists() and not (ROOT / path).exists()]
