"""Figures as files: SVG, PNG and PDF, made without a browser or a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUFFIXES = (".svg", ".png", ".pdf")
SCALE = 3.0
"""Pixels of a PNG for each of the figure's own: 288 to the inch."""


LONGEST = 160
"""Characters of a name in a figure. More are never seen, and placing them takes time that grows with their square."""


def save(chart: Any, path: Path) -> None:
    """Write a figure that was drawn for paper (`Looks.for_paper`).

    Raises:
        ValueError: the name's ending is none of `SUFFIXES`.
        OSError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a figure is written as {', '.join(SUFFIXES)}, not '{path.suffix or path.name}'")
    import vl_convert  # 40 MB: not before it is needed

    spec = json.dumps(_brief(chart.to_dict()))
    if suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    elif suffix == ".png":
        content = vl_convert.vegalite_to_png(spec, scale=SCALE)
    else:
        content = vl_convert.vegalite_to_pdf(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _brief(spec: dict[str, Any]) -> dict[str, Any]:
    """A figure in which long names are cut, and numbered so that they stay different names."""
    values = (value for rows in spec.get("datasets", {}).values() for row in rows for value in row.values())
    long = sorted({value for value in values if isinstance(value, str) and len(value) > LONGEST})
    cut = {name: f"({number}) {name[: LONGEST - 12]}…" for number, name in enumerate(long, 1)}
    return dict(_renamed(spec, cut)) if cut else spec


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _renamed(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(value, names) for value in part]
    return names.get(part, part) if isinstance(part, str) else part
