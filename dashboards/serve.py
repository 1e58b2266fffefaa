"""The board's process: Streamlit, with what its first page needs loaded while the browser is still on its way.

Streamlit imports a page's modules, and the page asks the database, when somebody first opens it; that took two of the
four seconds to the first paint.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
import webbrowser

PAGES_NEED = ("altair", *(f"dashboards.{name}" for name in ("asking", "answers", "board_view", "samples", "hiding")))
PATIENCE_S = 30
"""So long the server may take to start."""


def _load() -> None:
    for name in PAGES_NEED:
        importlib.import_module(name)
    import streamlit
    from streamlit import logger, runtime

    from dashboards import source

    deadline = time.monotonic() + PATIENCE_S
    while not runtime.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    # It would say that there is nobody to show anything to; the server's start sets it back.
    logger.get_logger("streamlit.runtime.scriptrunner_utils.script_run_context").disabled = True
    if address := os.environ.get("HARNESS_BOARD_OPENS"):
        webbrowser.open(address)
    streamlit.empty()  # with the first element of a process Streamlit looks through all modules
    with contextlib.suppress(ValueError):  # there is no database yet
        source.prepare()


def main() -> None:
    """As `streamlit` on the command line; Ctrl-C is the normal way to end."""
    threading.Thread(target=_load, daemon=True).start()
    from click import Abort
    from streamlit.web.cli import main as streamlit

    with contextlib.suppress(Abort):
        streamlit(prog_name="streamlit", standalone_mode=False)


if __name__ == "__main__":
    main()
