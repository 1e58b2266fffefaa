"""A plugin of pytest: the processes of one session fork their commands from one server.

Without it each process of the session (`pytest -n`) starts its own, which imports torch and the rest once more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any

import pytest

from tests.processes import context, use_server

GIVEN = "fork_server"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of the session, before it starts, where the server is; the first time, start that."""
    context()
    with _no_output():
        forkserver.ensure_running()
    node.workerinput[GIVEN] = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    """In such a process: use that server."""
    if address := getattr(config, "workerinput", {}).get(GIVEN):
        use_server(address)


@contextmanager
def _no_output() -> Iterator[None]:
    """What is started here prints nothing between the dots: a test that looks at output gives its process a file."""
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    yield
    for number, file in zip((1, 2), kept):
        os.dup2(file, number)
    for file in (nowhere, *kept):
        os.close(file)
