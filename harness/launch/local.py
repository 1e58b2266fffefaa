"""On this machine: each stage a process of its own, forked from a warm one that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from harness.launch.base import Launcher, LaunchResult, Options, make_job, parents_done
from harness.launch.settings import LauncherSettings
from harness.workspace.events import last_events
from harness.workspace.folders import Workspace
from harness.workspace.status import State, stage_state

if TYPE_CHECKING:
    from harness.planning.plan import Plan

POLL_S = 0.2

# The optimiser imports torch._dynamo anyway, at a second and a half for each worker.
_PRELOAD = ["harness.stage.run", "harness.worker", "harness.plugins.load", "torch._dynamo"]


def warm_up() -> Any:
    """Start importing torch, timm and SMP in the process that workers are forked from; returns at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    from multiprocessing import forkserver

    forkserver.ensure_running()
    return context


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Let a process start without importing the script that starts it: one without a guard would sweep again there."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _work(job_file: str, parent_pid: int) -> None:
    from harness.worker import main

    # A Ctrl-C reaches the whole group of processes; it is the launcher that asks workers to stop.
    os.setpgrp()
    raise SystemExit(main(Path(job_file), capture=True, parent_pid=parent_pid))


class LocalSettings(LauncherSettings):
    """What the local launcher can be told."""

    max_attempts: int = Field(default=3, ge=1)
    """Tries at a stage whose process is killed, before the stage is given up."""
    grace_s: float = Field(default=30.0, ge=0)
    """Seconds that stages are given to save a checkpoint after Ctrl-C."""


@dataclass
class _Run:
    """The state of a launch."""

    plan: Plan
    options: Options
    settings: LocalSettings
    waiting: list[str]
    done: set[str]
    running: dict[str, BaseProcess] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        return self.options.workspace


class LocalLauncher(Launcher):
    """Runs stages on this machine, as many at once as there are devices, dependencies respected."""

    name = "local"
    summary = "this machine: a process for each stage, nothing to set up"
    Settings = LocalSettings

    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Run the stages; returns when nothing more can be done, or after Ctrl-C with everything resumable."""
        from harness.launch.progress import Display

        settings = cast(LocalSettings, self.settings(options.settings))
        context = warm_up()
        slots = _slots(options)
        done = {key for key in set(plan.nodes) - set(keys) if options.workspace.stage(key).done()}
        run = _Run(plan, options, settings, most_awaited_first(plan, keys), done)
        with _ctrl_c() as asked, Display(plan, list(keys), quiet=options.quiet) as display:
            while run.waiting or run.running:
                if asked:
                    self._stop(run)
                    return LaunchResult(True, run.failed, run.blocked, interrupted=True)
                self._reap(run, display)
                self._block(run, display)
                self._start(run, context, slots)
                display.update({key: self._progress(run, key) for key in run.running})
                time.sleep(POLL_S)
        return LaunchResult(True, run.failed, run.blocked)

    def _start(self, run: _Run, context: Any, slots: list[str]) -> None:
        free = [slot for slot in slots if slot not in run.devices.values()]
        for key in [k for k in run.waiting if parents_done(run.plan, k, run.done)][: len(free)]:
            slot = free.pop(0)
            job = make_job(
                run.plan,
                run.plan.nodes[key],
                run.options,
                device=slot.partition("#")[0],
                threads=run.options.threads or _threads(slots),
                workers_beside=len(slots) - 1,
            )
            process = context.Process(target=_work, args=(str(job.write()), os.getpid()), name=key)
            with _main_module_hidden():
                process.start()
            run.waiting.remove(key)
            run.running[key], run.devices[key] = process, slot
            run.attempts[key] = run.attempts.get(key, 0) + 1

    def _reap(self, run: _Run, display: Any) -> None:
        for key, process in list(run.running.items()):
            if process.is_alive():
                continue
            process.join()
            del run.running[key], run.devices[key]
            state, reason, _ = stage_state(run.workspace.stage(key))
            if state is State.DONE:
                run.done.add(key)
                display.finished(key)
            elif (
                process.exitcode is not None and process.exitcode < 0 and run.attempts[key] < run.settings.max_attempts
            ):
                name = signal.Signals(-process.exitcode).name
                _close_attempt(run.workspace, key, f"killed by {name}")
                display.note(f"{run.plan.nodes[key].name} was killed by {name}; it goes on from its checkpoint")
                run.waiting.insert(0, key)
            else:
                why = reason or f"its process ended with code {process.exitcode}"
                _close_attempt(run.workspace, key, why, outcome="failed")
                run.failed[key] = why
                display.failed(key, why)

    def _block(self, run: _Run, display: Any) -> None:
        for key in list(run.waiting):
            parents = run.plan.nodes[key].parents
            culprit = next((p for p in parents if p in run.failed or p in run.blocked), None)
            if culprit:
                why = run.failed.get(culprit) or run.blocked[culprit]
                run.blocked[key] = f"{run.plan.nodes[culprit].name} failed: {why}" if culprit in run.failed else why
                run.waiting.remove(key)
                display.blocked(key, run.blocked[key])

    def _stop(self, run: _Run) -> None:
        """Ask workers to save and end; insist after a while, or at a second Ctrl-C."""
        for process in run.running.values():
            process.terminate()
        deadline = time.monotonic() + run.settings.grace_s
        try:
            while any(p.is_alive() for p in run.running.values()) and time.monotonic() < deadline:
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            pass
        for process in run.running.values():
            if process.is_alive():
                process.kill()
            process.join()

    def _progress(self, run: _Run, key: str) -> dict[str, Any]:
        attempt = run.workspace.stage(key).last_attempt()
        return last_events(attempt.events) if attempt else {}


def most_awaited_first(plan: Plan, keys: Sequence[str]) -> list[str]:
    """The stages, those first for which most others wait: no worker should idle at the end while a late chain runs."""
    return sorted(keys, key=lambda key: -len(plan.children[key]))


def _close_attempt(workspace: Workspace, key: str, reason: str, outcome: str = "interrupted") -> None:
    """Say of a process that died without a word how it ended."""
    attempt = workspace.stage(key).last_attempt()
    if attempt and attempt.outcome() is None:
        attempt.end(outcome, reason)


def _slots(options: Options) -> list[str]:
    """A name for each place at which a stage can run: `cuda:0`, or `cpu#0`, `cpu#1` where CPUs are shared."""
    import torch

    if options.device == "auto" and torch.cuda.is_available():
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    elif options.device == "auto":
        devices = ["cpu"]
    else:
        devices = [options.device]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = options.workers or (cpus if devices == ["cpu"] else len(devices))
    return [f"{devices[i % len(devices)]}#{i}" for i in range(workers)]


def _threads(slots: list[str]) -> int:
    """CPU threads of a stage: one, so that its result does not depend on how many run beside it."""
    return 1 if slots[0].startswith("cpu") else 0


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C was pressed, or a TERM came; a second Ctrl-C interrupts as usual."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may listen to signals
        return

    def remember(number: int, _: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
