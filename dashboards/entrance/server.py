"""The board's server: Streamlit's own, with pages that know where it is.

Streamlit's client guesses: opened at `/strides` it first asks for `/strides/_stcore/health`, which is not there: a
wait, and an error in the browser's console (streamlit/streamlit, issue 7074). So the page names its server, by the
setting that the client has for hosts. And it names what of the client it is going to need (`client`).
"""

from __future__ import annotations

import json
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route
from streamlit.starlette import App

from dashboards.discovery import pages
from dashboards.entrance.client import STATIC, Client, preloads

HERE = Path(__file__).parent
PAGES = pages(HERE.parent / "pages")
NAMES = [page.file.stem for page in PAGES]
FIRST = {page.file.stem: page.first for page in PAGES}
# The address may have a part of its own before the page's name: a proxy's.
WHERE = """<script>
window.__streamlit = {BACKEND_BASE_URL: location.origin + location.pathname.replace(
  new RegExp("[^/]*$"), (name) => %s.includes(name) ? "" : name)}
</script>"""


def index(name: str) -> str:
    """Streamlit's page, with a script that names its server, and with what a page of the board draws first."""
    found = (STATIC / "index.html").read_text(encoding="utf-8")
    found = found.replace("<head>", "<head>" + WHERE % json.dumps(NAMES), 1)
    return found.replace("</head>", preloads(FIRST.get(name)) + "</head>", 1)


def answer(request: Request) -> HTMLResponse:
    """Every page of the board: which one is drawn is decided by the browser."""
    name = request.url.path.rpartition("/")[2] or NAMES[0]
    return HTMLResponse(index(name), headers={"Cache-Control": "no-cache"})


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
    middleware=[Middleware(Client)],
)
