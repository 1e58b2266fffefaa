"""`harness dashboard`: the board in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError


def dashboard(
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; 0.0.0.0 makes the board visible in your network, without protection."
        ),
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Open the leaderboard in a browser. It is read-only, and may run during a sweep.

    Examples:

        harness dashboard

        harness dashboard --db postgresql://board@db.example.org/harness --port 8600 --no-browser
    """
    if not _free(host, port):
        raise HarnessError(f"port {port} of {host} is taken", f"try --port {port + 1 if port < 65535 else 8501}")
    place = {"HARNESS_WORKSPACE": str(workspace.absolute()), "HARNESS_DB": _absolute(database(workspace, db))}
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
    typer.echo(f"The board: http://{shown}:{port}  (Ctrl-C to stop)")
    sys.stdout.flush()
    if not no_browser:
        place["HARNESS_BOARD_OPENS"] = f"http://{shown}:{port}"
    words = command(host, port)
    os.execve(words[0], words, os.environ | place)  # this process becomes the server: what ends it ends the server


def command(host: str, port: int) -> list[str]:
    """The command line of Streamlit, with the current Python (`dashboards.serve`).

    Headless, also where a browser is opened: otherwise Streamlit takes the viewer for a developer, offers to install
    files for coding agents, and writes them when asked to.
    """
    app = Path(__file__).resolve().parents[2] / "dashboards" / "entrance" / "server.py"
    flags = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "runner.magicEnabled": "false",
        "client.toolbarMode": "minimal",
        "theme.light.primaryColor": "#2563eb",
        "theme.dark.primaryColor": "#60a5fa",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "dashboards.serve", "run", str(app), *words]


def _absolute(target: str) -> str:
    """The database with an absolute path, valid in any folder."""
    return target if "://" in target else str(Path(target).absolute())


def _free(host: str, port: int) -> bool:
    """Whether the port is free."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
