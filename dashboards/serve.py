"""The board's process: Streamlit, with what its pages import loaded while the browser is still on its way.

Streamlit imports a page's modules when somebody first opens it; that took two of the four seconds to the first paint.
"""

from __future__ import annotations

import contextlib
import importlib
import threading

PAGES_NEED = ("pandas", "sqlalchemy", "results.leaderboard", "altair", "dashboards.source", "dashboards.tables")


def _load() -> None:
    for name in PAGES_NEED:
        importlib.import_module(name)


def main() -> None:
    """As `streamlit` on the command line; Ctrl-C is the normal way to end."""
    threading.Thread(target=_load, daemon=True).start()
    from click import Abort
    from streamlit.web.cli import main as streamlit

    with contextlib.suppress(Abort):
        streamlit(prog_name="streamlit", standalone_mode=False)


if __name__ == "__main__":
    main()
