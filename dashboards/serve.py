"""The board's process: Streamlit, with what its pages import loaded while the browser is still on its way.

Streamlit imports a page's modules when somebody first opens it; that took two of the four seconds to the first paint.
"""

from __future__ import annotations

import importlib
import threading

PAGES_NEED = ("pandas", "sqlalchemy", "results.leaderboard", "altair", "dashboards.source", "dashboards.tables")


def _load() -> None:
    for name in PAGES_NEED:
        importlib.import_module(name)


def main() -> None:
    """As `streamlit` on the command line."""
    threading.Thread(target=_load, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    streamlit(prog_name="streamlit")


if __name__ == "__main__":
    main()
