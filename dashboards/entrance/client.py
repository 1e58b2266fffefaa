"""The files of Streamlit's client: from memory, and those that a page draws with asked for at once.

Streamlit reads each of them in a thread, in pieces, behind all its middleware, and the browser asks for those of a
table only when the page has said that there is one: with 130 files, half a second of the first paint.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import streamlit
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(streamlit.__file__).parent / "static"
SCRIPTS = STATIC / "static" / "js"
DRAWN_BY = {"table": ("DataFrame",), "chart": ("ArrowVegaLiteChart", "embed")}
"""What a page draws first -> the client's scripts for it, by the beginnings of their names."""
FOREVER = {"Cache-Control": "public, immutable, max-age=31536000"}
"""As Streamlit says of them: their names hold a digest of their content."""
_IMPORTED = re.compile(r"""(?:from|import)["']\./([\w.-]+\.js)["']""")


class Client:
    """Answers for the client's files; passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        there = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in _files()
        await (_answer(scope["path"]) if there else self.app)(scope, receive, send)


@cache
def _files() -> dict[str, Path]:
    """Path in the address -> file."""
    return {f"/{file.relative_to(STATIC).as_posix()}": file for file in STATIC.glob("static/*/*.*")}


@cache
def _answer(path: str) -> Response:
    file = _files()[path]
    return Response(file.read_bytes(), media_type=mimetypes.guess_type(file.name)[0], headers=FOREVER)


@cache
def preloads(first: str | None) -> str:
    """HTML that has a browser ask for what a page draws first, after what it needs to draw anything.

    Args:
        first: one of `DRAWN_BY`; any other: nothing is asked for.
    """
    scripts: dict[str, None] = {}
    for beginning in DRAWN_BY.get(first or "", ()):
        for file in SCRIPTS.glob(f"{beginning}.*.js"):
            scripts |= dict.fromkeys(_with_imports(file.name, set()))
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    link = '<link rel="modulepreload" fetchpriority="low" crossorigin href="./static/js/{}">'
    return "".join(link.format(name) for name in scripts if name not in index)


def _with_imports(name: str, seen: set[str]) -> Iterator[str]:
    """A script of the client and all that it imports."""
    if name not in seen:
        seen.add(name)
        yield name
        for imported in _IMPORTED.findall((SCRIPTS / name).read_text(encoding="utf-8")):
            yield from _with_imports(imported, seen)
