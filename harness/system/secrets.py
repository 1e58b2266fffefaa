"""Remove secrets from stored text, and pass them on through the environment only."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from urllib.parse import unquote

_USER = re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^\s/:@]*):(?P<secret>[^\s/]*)@")
"""`scheme://user:SECRET@`; a password may contain anything that a URL allows, `@` included."""
_QUERY = re.compile(r"(?P<mark>[?&])(?P<name>password|passfile|sslpassword)=(?P<secret>[^&\s'\"]*)(?P<more>&?)", re.I)
_NAMED = re.compile(r"(?P<name>[\w.-]*(?:password|passwd|secret|token|api_?key)[\w.-]*)=(?P<secret>\S+)", re.I)
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """A text without passwords in URLs, and with the values of names that look like secrets masked."""
    text = _USER.sub(lambda found: f"{found['head']}@", text)
    text = _QUERY.sub(lambda found: found["mark"] if found["more"] else "", text)
    return _NAMED.sub(lambda found: f"{found['name']}={HIDDEN}", text)


def stored_command(words: Sequence[str]) -> str:
    """A command line without secrets."""
    return shlex.join(without_secrets(word) for word in words)


def database_without_password(url: str) -> str:
    """A database URL without its password, which is moved to PGPASSWORD, for this process and its children.

    libpq reads it there, or in ~/.pgpass, as it does for every other program.
    """
    if "://" not in url:
        return url
    found = _USER.search(url)
    secret = (
        found["secret"] if found else next((m["secret"] for m in _QUERY.finditer(url) if m["name"] == "password"), "")
    )
    if secret:
        os.environ["PGPASSWORD"] = unquote(secret)
    return without_secrets(url)
