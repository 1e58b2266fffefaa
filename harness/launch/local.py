"""Run stages on this machine: one process per cohort, forked from a server that has already imported torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from harness.launch.base import Launcher, LaunchResult, Options, make_job, parents_done
from harness.launch.settings import LauncherSettings
from harness.system.crashes import crash_place
from harness.system.processes import end_group, leave_within, memory_kills
from harness.worker import TOO_LARGE
from harness.workspace.events import last_events
from harness.workspace.folders import Workspace
from harness.workspace.job import Job
from harness.workspace.status import State, stage_state

if TYPE_CHECKING:
    from harness.planning.plan import Plan

POLL_S = 0.2

PRELOAD = ["harness.stage.preloaded"]
"""What the server imports before workers are forked from it."""


def warm_up() -> Any:
    """Start importing torch, timm and SMP in the server process from which workers are forked; return at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    from multiprocessing import forkserver

    forkserver.ensure_running()
    return context


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Start a process without importing the main script: without a `__main__` guard, it would sweep again there."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _work(job_files: list[str], parent_pid: int) -> None:
    from harness.worker import LEAVING_S, main

    # Ctrl-C reaches the whole process group; the launcher asks workers to stop.
    os.setpgrp()
    code = main([Path(file) for file in job_files], capture=True, parent_pid=parent_pid)
    leave_within(LEAVING_S, code)
    raise SystemExit(code)


def _try_out(file: str, log: str, parent_pid: int) -> None:
    from harness.worker import LEAVING_S, rehearse

    os.setpgrp()
    code = rehearse(Path(file), Path(log), parent_pid)
    leave_within(LEAVING_S, code)
    raise SystemExit(code)


Unit = tuple[str, ...]
"""Keys of the stages that one process runs: a single stage, or the students of a cohort."""


class LocalSettings(LauncherSettings):
    """Settings of the local launcher."""

    max_attempts: int = Field(default=3, ge=1)
    """Attempts at a stage whose process is killed, before the stage fails."""
    grace_s: float = Field(default=30.0, ge=0)
    """Seconds for stages to save a checkpoint after Ctrl-C."""
    rehearse: bool = True
    """Rehearse each network and each method for one step before the launch."""


@dataclass
class _Run:
    """The state of a launch."""

    plan: Plan
    options: Options
    settings: LocalSettings
    waiting: list[Unit]
    done: set[str]
    running: dict[Unit, BaseProcess] = field(default_factory=dict)
    devices: dict[Unit, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    memory_kills: int = 0

    @property
    def workspace(self) -> Workspace:
        return self.options.workspace

    def ready(self, unit: Unit) -> bool:
        """Whether all parents are done."""
        return all(parents_done(self.plan, key, self.done) for key in unit)

    def again(self, keys: Sequence[str], in_halves: bool) -> None:
        """Queue stages again, together or in halves."""
        half = -(-len(keys) // 2) if in_halves and len(keys) > 1 else len(keys)
        self.waiting[:0] = [tuple(part) for part in (keys[:half], keys[half:]) if part]


class LocalLauncher(Launcher):
    """Runs stages on this machine, one per device at a time, in order of dependencies."""

    name = "local"
    summary = "this machine: one process per cohort, no setup needed"
    Settings = LocalSettings

    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Run the stages; return when all have ended, or after Ctrl-C with everything resumable."""
        from harness.launch.collector import Collector
        from harness.launch.progress import Display

        settings = cast(LocalSettings, self.settings(options.settings))
        context = warm_up()
        slots = _slots(options)
        done = {key for key in set(plan.nodes) - set(keys) if options.workspace.stage(key).done()}
        units = most_awaited_first(plan, self.cohorts(plan, keys, options))
        run = _Run(plan, options, settings, units, done, memory_kills=memory_kills())
        progress = Display(plan, list(keys), quiet=options.quiet)
        with _ctrl_c() as asked, Collector(options) as collector, progress as display:
            while run.waiting or run.running:
                if asked:
                    self._stop(run)
                    return LaunchResult(True, run.failed, run.blocked, interrupted=True)
                finished = len(run.done)
                self._reap(run, display)
                if len(run.done) > finished:
                    collector.finished()
                self._block(run, display)
                self._start(run, context, slots)
                display.update({key: self._progress(run, key) for unit in run.running for key in unit})
                _wait(run.running.values())
        return LaunchResult(True, run.failed, run.blocked)

    def rehearse(
        self, plan: Plan, keys: Sequence[str], options: Options, images: Sequence[tuple[int, int]]
    ) -> list[str]:
        """Rehearse each distinct kind of stage in a separate process, on the first device."""
        from harness.launch.progress import counting
        from harness.launch.trials import plan_trials
        from harness.workspace.trials import remember_stages

        if not cast(LocalSettings, self.settings(options.settings)).rehearse:
            return []
        slots = _slots(options)
        device = slots[0].partition("#")[0]
        options = replace(options, device=device, threads=options.threads or _threads(slots))
        trials = plan_trials(plan, keys, options, images, f"{socket.gethostname()} {device}")
        remember_stages(options.workspace, trials.keys)
        count = len(trials.rehearsal.trials)
        if not count:
            return []
        checks, kills = options.workspace.root / "checks", memory_kills()
        file = trials.rehearsal.write(checks / "rehearsal.json")
        (checks / "trials.log").unlink(missing_ok=True)
        trials.expect()
        words = (str(file), str(checks / "trials.log"), os.getpid())
        process = warm_up().Process(target=_try_out, args=words, name="rehearsal")
        with main_module_hidden():
            process.start()
        try:
            with counting(f"rehearsing on {device}", options.quiet) as progress:
                while process.is_alive():
                    progress(trials.done(), count)
                    process.join(POLL_S)
        finally:
            process.kill()
            process.join()
            end_group(process.pid or 0)
        code = process.exitcode or 0
        killed = f"was killed by {_killer(code)}{_for_memory(code, kills)}" if code < 0 else f"left with code {code}"
        trials.refuse(f"in the rehearsal the process {killed}")
        return trials.notes()

    def cohorts(self, plan: Plan, keys: Sequence[str], options: Options) -> list[tuple[str, ...]]:
        """Students grouped for the devices of this machine."""
        from harness.launch.trials import measured_times
        from harness.planning.cohorts import make_cohorts

        times = measured_times(plan, keys, options.workspace)
        return make_cohorts(plan, keys, options.cohort, len(_slots(options)), times=times)

    def _start(self, run: _Run, context: Any, slots: list[str]) -> None:
        free = [slot for slot in slots if slot not in run.devices.values()]
        for unit in [unit for unit in run.waiting if run.ready(unit)][: len(free)]:
            slot = free.pop(0)
            files = [str(self._job(run, key, slot, slots).write()) for key in unit]
            process = context.Process(target=_work, args=(files, os.getpid()), name=unit[0])
            with main_module_hidden():
                process.start()
            run.waiting.remove(unit)
            run.running[unit], run.devices[unit] = process, slot
            for key in unit:
                run.attempts[key] = run.attempts.get(key, 0) + 1

    def _job(self, run: _Run, key: str, slot: str, slots: list[str]) -> Job:
        return make_job(
            run.plan,
            run.plan.nodes[key],
            run.options,
            device=slot.partition("#")[0],
            threads=run.options.threads or _threads(slots),
            workers_beside=len(slots) - 1,
        )

    def _reap(self, run: _Run, display: Any) -> None:
        for unit, process in list(run.running.items()):
            if process.is_alive():
                continue
            process.join()
            # Its remaining children: loader processes, processes of plugins.
            end_group(process.pid or 0)
            del run.running[unit], run.devices[unit]
            code = process.exitcode or 0
            again = [key for key in unit if not self._ended(run, key, code, display)]
            if code == TOO_LARGE:
                display.note(f"{len(again)} students together do not fit into memory; they resume in halves")
            elif again:
                them = run.plan.nodes[again[0]].name if len(again) == 1 else f"a cohort of {len(again)} students"
                display.note(f"{them} was killed by {_killer(code)}; it resumes from its checkpoint")
            # A system out of memory sends SIGKILL.
            run.again(again, in_halves=code in (TOO_LARGE, -signal.SIGKILL))

    def _ended(self, run: _Run, key: str, code: int, display: Any) -> bool:
        """Handle the end of a stage's process; return False if the stage is to be retried."""
        state, reason, _ = stage_state(run.workspace.stage(key))
        if state is State.DONE:
            run.done.add(key)
            display.finished(key)
            return True
        own = _own_end(run.workspace, key)
        if code == TOO_LARGE and own != "failed":
            run.attempts[key] -= 1  # the next attempt runs a different cohort
            return False
        if code < 0 and own != "failed" and run.attempts[key] < run.settings.max_attempts:
            _close_attempt(run.workspace, key, self._killed(run, key, code))
            return False
        why = self._why(run, key, reason, state, code)
        _close_attempt(run.workspace, key, why, outcome="failed")
        run.failed[key] = why
        display.failed(key, why)
        return True

    def _why(self, run: _Run, key: str, reason: str, state: State, code: int) -> str:
        """The reason why a stage failed whose process has ended."""
        if reason and state is not State.RUNNING:
            return reason
        if code < 0:
            return self._killed(run, key, code)
        return f"its process ended with code {code} and no outcome: some code in it called os._exit, or crashed"

    @staticmethod
    def _killed(run: _Run, key: str, code: int) -> str:
        """By which signal a stage's process was killed, and where in the code if it crashed."""
        attempt = run.workspace.stage(key).last_attempt()
        place = crash_place(attempt.log) if attempt and code != -signal.SIGKILL else ""
        return f"killed by {_killer(code)}{_for_memory(code, run.memory_kills)}" + (f" at {place}" if place else "")

    def _block(self, run: _Run, display: Any) -> None:
        """Remove stages that depend on a failed one; the other members of their cohort continue."""
        for unit in list(run.waiting):
            for key in unit:
                parents = run.plan.nodes[key].parents
                culprit = next((p for p in parents if p in run.failed or p in run.blocked), None)
                if culprit:
                    why = run.failed.get(culprit) or run.blocked[culprit]
                    run.blocked[key] = f"{run.plan.nodes[culprit].name} failed: {why}" if culprit in run.failed else why
                    display.blocked(key, run.blocked[key])
            left = tuple(key for key in unit if key not in run.blocked)
            if left != unit:
                place = run.waiting.index(unit)
                run.waiting[place : place + 1] = [left] if left else []

    def _stop(self, run: _Run) -> None:
        """Ask workers to save and end; kill them after a grace period, or at a second Ctrl-C."""
        for process in run.running.values():
            process.terminate()
        deadline = time.monotonic() + run.settings.grace_s
        try:
            while (alive := [p for p in run.running.values() if p.is_alive()]) and time.monotonic() < deadline:
                _wait(alive)
        except KeyboardInterrupt:
            pass
        for process in run.running.values():
            if process.is_alive():
                process.kill()
            process.join()
            end_group(process.pid or 0)

    def _progress(self, run: _Run, key: str) -> dict[str, Any]:
        attempt = run.workspace.stage(key).last_attempt()
        return last_events(attempt.events) if attempt else {}


def _wait(processes: Collection[BaseProcess]) -> None:
    """Wait until one of some processes ends, but no longer than `POLL_S`; not at all if there is none."""
    if processes:
        connection.wait([process.sentinel for process in processes], POLL_S)


def most_awaited_first(plan: Plan, units: Sequence[Unit]) -> list[Unit]:
    """Stages with most dependents first, then the largest, so that no long chain starts late."""
    return sorted(units, key=lambda unit: (-max(len(plan.children[key]) for key in unit), -len(unit)))


def _killer(code: int) -> str:
    return signal.Signals(-code).name


def _for_memory(code: int, kills_before: int) -> str:
    """A note that memory was the cause, if the kernel has killed processes for it since."""
    killed = code == -signal.SIGKILL and memory_kills() > kills_before
    return ": the machine was out of memory" if killed else ""


def _own_end(workspace: Workspace, key: str) -> str:
    """The outcome that the latest attempt at a stage recorded; "" if there is none."""
    attempt = workspace.stage(key).last_attempt()
    return str(((attempt.outcome() if attempt else None) or {}).get("outcome", ""))


def _close_attempt(workspace: Workspace, key: str, reason: str, outcome: str = "interrupted") -> None:
    """Record the outcome of an attempt whose process died without recording it."""
    attempt = workspace.stage(key).last_attempt()
    if attempt and attempt.outcome() is None:
        attempt.end(outcome, reason)


def _slots(options: Options) -> list[str]:
    """A name for each slot in which a stage can run: `cuda:0`, or `cpu#0`, `cpu#1` for shared CPUs."""
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
    """CPU threads per stage: one on CPUs, so that results do not depend on the number of concurrent stages."""
    return 1 if slots[0].startswith("cpu") else 0


@contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """A list that becomes non-empty on Ctrl-C or SIGTERM; a second Ctrl-C interrupts as usual."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread can install signal handlers
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
