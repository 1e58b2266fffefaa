"""What goes wrong in a browser without being seen: errors in the console, in scripts, and answers that are refusals."""

from __future__ import annotations

import re
from typing import Any

FORGOTTEN = re.compile(r"https?://[^/]+/media/[0-9a-f]+\.\w+")
"""A picture that left the page while the browser was about to ask for it: Streamlit forgets it at once. Whether
pictures that stay are drawn is asked of the pictures themselves (`naturalWidth`)."""


def watch(page: Any) -> list[str]:
    """Everything that goes wrong on a page from now on, as it happens."""
    wrong: list[str] = []

    def note(url: str, said: str) -> None:
        if not ("404" in said and FORGOTTEN.fullmatch(url)):
            wrong.append(f"{said} {url}")

    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: note(said.location["url"], said.text) if said.type == "error" else None)
    page.on("response", lambda answer: note(answer.url, str(answer.status)) if answer.status >= 400 else None)
    return wrong


def settle(page: Any) -> None:
    """Until Streamlit has drawn all it was asked for."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
