"""A PostgreSQL server of one's own, for as long as it is needed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where the server's programs are; None where it is not installed."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), "")
    return Path(found).resolve().parent if found else None


@contextmanager
def own_server() -> Iterator[str]:
    """A new server on a socket in a temporary folder; its URL, as a user who may make databases.

    Raises:
        FileNotFoundError: it is not installed.
    """
    tools = programs()
    if tools is None:
        raise FileNotFoundError("there is no PostgreSQL: install its server")
    home = Path(tempfile.mkdtemp(prefix="pg"))
    who: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = pwd.getpwnam("nobody")
        os.chown(home, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = home / "data"
    make = [tools / "initdb", "-D", data, "-A", "trust", "-U", "harness", "--no-sync", "-E", "UTF8"]
    subprocess.run(make, check=True, capture_output=True, cwd=home, **who)  # type: ignore[call-overload]
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
    control = [tools / "pg_ctl", "-D", data, "-w"]
    with (home / "log").open("wb") as log:
        start = [*control, "-o", options, "start"]
        subprocess.run(start, check=True, stdout=log, stderr=log, cwd=home, **who)  # type: ignore[call-overload]
    try:
        yield f"postgresql://harness@/postgres?host={home}"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, capture_output=True, cwd=home, **who)  # type: ignore[call-overload]
        shutil.rmtree(home, ignore_errors=True)
