"""What the board's server adds to Streamlit's: the client's files from memory, and pages that name what they need."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from dashboards.entrance import client, server

STATIC = client.STATIC


def asked(path: str, method: str = "GET") -> tuple[dict[str, str], bytes]:
    """Headers and content of an answer; Streamlit's part says only that it was asked."""
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": []}
    asyncio.run(client.Client(PlainTextResponse("Streamlit"))(scope, receive, send))
    return {name.decode(): value.decode() for name, value in said[0]["headers"]}, said[1]["body"]


@pytest.mark.parametrize(("kind", "type_"), [("js", "javascript"), ("css", "text/css"), ("media", "font/woff2")])
def test_the_clients_files_come_whole_and_are_kept_for_ever(kind: str, type_: str) -> None:
    file = max((STATIC / "static" / kind).glob("index.*" if kind == "css" else "*"), key=lambda f: f.stat().st_size)
    if kind == "media":
        file = next((STATIC / "static" / kind).glob("*.woff2"))
    headers, content = asked(f"/static/{kind}/{file.name}")
    assert content == file.read_bytes() and headers["content-length"] == str(len(content))
    assert type_ in headers["content-type"] and "immutable" in headers["cache-control"]


@pytest.mark.parametrize(
    ("path", "method"),
    [("/", "GET"), ("/_stcore/health", "GET"), ("/static/js/none.js", "GET"), ("/static/../index.html", "GET")],
)
def test_everything_else_is_streamlits(path: str, method: str) -> None:
    assert asked(path, method)[1] == b"Streamlit"


def test_a_page_asks_early_for_all_that_its_first_element_imports() -> None:
    """The names are Streamlit's: a version that calls its scripts otherwise is found here."""
    for name, first in server.FIRST.items():
        page = server.index(name)
        known = set(re.findall(r"static/js/([\w.-]+\.js)", page))
        drawn = [file for word in client.DRAWN_BY.get(first or "", ()) for file in client.SCRIPTS.glob(f"{word}.*.js")]
        assert len(drawn) == len(client.DRAWN_BY.get(first or "", ())), name
        for file in drawn:
            text = file.read_text()
            assert {file.name, *re.findall(r"""(?:from|import)["']\./([\w.-]+)["']""", text)} <= known, name
        assert page.count("<head>") == page.count("</head>") == 1 and "BACKEND_BASE_URL" in page
        assert len(re.findall("modulepreload", page)) == len(set(re.findall('modulepreload.*?js/(.*?)"', page)))


def test_a_page_that_says_nothing_of_it_asks_for_nothing_early() -> None:
    assert 'fetchpriority="low"' not in server.index("unknown") and 'fetchpriority="low"' in server.index("runs")
