"""Figures as files: SVG, PNG and PDF, made without a browser or a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUFFIXES = (".svg", ".png", ".pdf")
SCALE = 3.0
"""Pixels of a PNG for each of the figure's own: 288 to the inch."""


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

    spec = json.dumps(chart.to_dict())
    if suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    elif suffix == ".png":
        content = vl_convert.vegalite_to_png(spec, scale=SCALE)
    else:
        content = vl_convert.vegalite_to_pdf(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
