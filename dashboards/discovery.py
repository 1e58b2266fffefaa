"""Which pages there are: every file in `pages/` is one. It says its title, icon and place itself."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PageFile:
    """A page.

    Attributes:
        title: `TITLE` in the file; else the file's name.
        icon: `ICON` in the file: an emoji, or one of Streamlit's `:material/name:`; None for none.
        order: `ORDER` in the file; the least comes first and is what the board opens with.
        first: `FIRST` in the file: "table" or "chart", what it draws first; the browser asks for it early.
    """

    file: Path
    title: str
    icon: str | None = None
    order: float = 100.0
    first: str | None = None


def pages(folder: Path) -> list[PageFile]:
    """The pages in a folder, in order. They are read, not run."""
    files = [file for file in folder.glob("*.py") if not file.name.startswith("_")]
    return sorted(map(_read, files), key=lambda page: (page.order, page.title))


def _read(file: Path) -> PageFile:
    said: dict[str, Any] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            said |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    title = said.get("TITLE") or file.stem.replace("_", " ").capitalize()
    return PageFile(file, str(title), said.get("ICON"), float(said.get("ORDER", 100)), said.get("FIRST"))
