"""What goes wrong in a browser without being seen: errors in the console, in scripts, and answers that are refusals."""

from __future__ import annotations

from typing import Any


def watch(page: Any) -> list[str]:
    """Everything that goes wrong on a page from now on, as it happens."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    return wrong


def settle(page: Any) -> None:
    """Until Streamlit has drawn all it was asked for."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
