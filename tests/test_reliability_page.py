"""docs/reliability.md: every row names a test that is there, and every kind has at least two rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what was tried")]


def _files(word: str) -> list[Path]:
    """The test files that a word means: a path from the root, or its end below `tests/`."""
    return [path for path in (ROOT / "tests").rglob("*.py") if f"/{path.relative_to(ROOT)}".endswith(f"/{word}")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_a_row_names_tests_that_are_there(row: str) -> None:
    columns = re.split(r"(?<!\\)\|", row.strip().strip("|"))
    assert len(columns) == 3
    named = re.findall(r"`([^`]+)`", columns[2])
    assert named, "it names no test"
    file = ""
    for word in named:
        path, _, function = word.partition("::") if "::" in word or word.endswith(".py") else ("", "", word)
        file = path or file
        assert not path or _files(path), f"there is no {path}"
        if function:
            places = _files(path or (file if "::" in word else "")) or list((ROOT / "tests").rglob("test_*.py"))
            found = any(f"def {function}(" in place.read_text(encoding="utf-8") for place in places)
            assert found, f"there is no {function}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.splitlines()[0])
def test_a_kind_has_several_cases(section: str) -> None:
    assert sum(line.startswith("| ") for line in section.splitlines()) >= 1 + 4
