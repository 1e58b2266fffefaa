"""The board's server: Streamlit's own, with pages that know where it is.

Streamlit's client guesses: opened at `/strides` it first asks for `/strides/_stcore/health`, which is not there: a
wait, and an error in the browser's console (streamlit/streamlit, issue 7074). So the page names its server, by the
setting that the client has for hosts.
"""

from __future__ import annotations

import json
from pathlib import Path

import streamlit
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route
from streamlit.starlette import App

from dashboards.discovery import pages

HERE = Path(__file__).parent
NAMES = [page.file.stem for page in pages(HERE.parent / "pages")]
# The address may have a part of its own before the page's name: a proxy's.
WHERE = """<script>
window.__streamlit = {BACKEND_BASE_URL: location.origin + location.pathname.replace(
  new RegExp("[^/]*$"), (name) => %s.includes(name) ? "" : name)}
</script>"""


def index() -> str:
    """Streamlit's page, with a script that names its server."""
    found = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    return found.replace("<head>", "<head>" + WHERE % json.dumps(NAMES), 1)


def answer(request: Request) -> HTMLResponse:
    """Every page of the board: which one is drawn is decided by the browser."""
    return HTMLResponse(index(), headers={"Cache-Control": "no-cache"})


def first(request: Request) -> RedirectResponse:
    """The page that the board opens with has no name of its own."""
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


app = App(
    HERE / "app.py",
    routes=[
        Route("/", answer),
        Route(f"/{NAMES[0]}", first),
        *(Route(f"/{name}", answer) for name in NAMES[1:]),
    ],
)
