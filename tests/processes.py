"""Commands in processes of their own, forked from a server that has imported the harness: none imports torch again.

The launcher in such a process shares the server instead of starting one. Where a fresh Python is what is tested (the
cost of an import, limits set before the start), use `subprocess`.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import backbones
import methods
from harness import losses
from harness.data import sets
from harness.evaluation import metrics
from harness.launch.local import PRELOAD, main_module_hidden

PACKAGES = (backbones, methods, sets, losses, metrics)
COMMANDS = (
    "harness.cli.app",
    "harness.cli.report_sweep",
    "harness.cost.forward",
    "harness.launch.launchers",
    "harness.launch.preflight",
    "harness.launch.progress",
    "harness.launch.run_sweep",
    "harness.launch.slurm.launcher",
    "harness.planning.plan",
    "pandas",
    "pyarrow.pandas_compat",
    "results.board",
    "results.formats",
    "results.rebuild",
    "rich.markup",
    "rich.table",
    "scipy.special",
    *(f"{package.__name__}.{file.name}" for package in PACKAGES for file in pkgutil.iter_modules(package.__path__)),
)
"""What commands and stages import on first use."""


def context() -> Any:
    """The context of the fork server, which is started on the first call of a session."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([*PRELOAD, *COMMANDS])
    return found


def use_server(address: str = "") -> None:
    """Let this process fork from a server that another process has started; "" for the one it was forked from."""
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if address:
        server._forkserver_address = address
        # The server ends with the process that started it, so this pipe, which tells of other clients, is not read.
        _, server._forkserver_alive_fd = os.pipe()
    server.ensure_running = forkserver.ensure_running = lambda: None


class Command:
    """`python WORDS...`: `-m MODULE`, `-c CODE` or a file, and arguments; as little of `Popen` as the tests need.

    Args:
        words: what would follow `python`.
        env: changes of the environment; `PYTHONPATH` goes before the path of this process.
        cwd: the folder to start in.
        session: start a process group, for `os.killpg`.
        stdout: where standard output goes instead of `communicate`, such as a named pipe.
    """

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        session: bool = False,
        stdout: Path | None = None,
    ) -> None:
        self.args = list(words)
        self._folder = TemporaryDirectory(prefix="command")
        self._files = [str(stdout or Path(self._folder.name, "out")), str(Path(self._folder.name, "err"))]
        arguments = (self.args, {**os.environ, **(env or {})}, str(cwd or Path.cwd()), session, self._files)
        self._process = context().Process(target=_run, args=arguments)
        with main_module_hidden():
            self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        """The same, as `Popen` has it."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, once the process has ended.

        Raises:
            TimeoutExpired: it runs still.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Standard output and error of the process, once it has ended; one that takes longer is killed."""
        try:
            self.wait(timeout)
        finally:
            if self.returncode is None:
                self.send_signal(signal.SIGKILL)
        return Path(self._files[0]).read_text(), self.errors()

    def errors(self) -> str:
        """What was written to standard error."""
        return Path(self._files[1]).read_text()


def python(*words: str, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS...` to its end; options as of `Command`."""
    command = Command(words, **options)
    out, err = command.communicate(timeout)
    return subprocess.CompletedProcess(command.args, command.returncode or 0, out, err)


def harness(*words: str, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `harness WORDS...` to its end, with room for 200 columns."""
    env = {"COLUMNS": "200", **options.pop("env", {})}
    return python("-m", "harness", *words, timeout=timeout, env=env, **options)


def in_two(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(rank, *arguments)` in two processes; an exception in one of them is raised here."""
    from torch.multiprocessing import start_processes

    context()
    with main_module_hidden():
        start_processes(work, arguments, nprocs=2, start_method="forkserver")


def may_mount() -> bool:
    """Whether this user may mount a file system that only a process of its own sees."""
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


def mount(options: str, folder: str) -> None:
    """Mount a new tmpfs on a folder, for this process and its children alone."""
    new_mounts = 0x00020000  # CLONE_NEWNS; `os.unshare` came with Python 3.12
    if ctypes.CDLL(None, use_errno=True).unshare(new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def free_port() -> int:
    """A port of this machine that nothing listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(words: list[str], env: dict[str, str], folder: str, session: bool, files: list[str]) -> None:
    from harness.system.guard import claim_process

    claim_process()
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if "PYTHONUNBUFFERED" in env:
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    for place in reversed(env.get("PYTHONPATH", "").split(os.pathsep)):
        if place and place not in sys.path[:1]:
            sys.path.insert(0, place)
    use_server()
    if words[0] == "-m":
        sys.argv[1:] = words[2:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
