"""Progress display: a bar for the sweep and for each running stage, or plain lines."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from results import sinks

if TYPE_CHECKING:
    from harness.planning.plan import Plan

LINE_EVERY_S = 15.0
"""Seconds between two lines of progress without a terminal."""
LINE_STAGES = 4
"""The most running stages that such a line names: a cohort has many, all at one iteration."""


@contextmanager
def counting(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; call the yielded function with (done, total). Without a terminal nothing is shown."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Display:
    """Progress of a launch, with the estimated remaining time."""

    def __init__(self, plan: Plan, keys: list[str], quiet: bool = False) -> None:
        self._plan, self._keys, self._began = plan, keys, time.monotonic()
        self._console = Console(stderr=True, quiet=quiet)
        self._notebook = NotebookBars() if self._console.is_jupyter and not quiet else None
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        work = {key: float(plan.nodes[key].spec.recipe.iterations) for key in keys}
        self._work, self._all = work, sum(work.values()) or 1.0
        self._share: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._ended = 0
        self._line = 0.0

    def __enter__(self) -> Display:
        if not self._notebook:
            self._bars.start()
        self._sweep = self._bars.add_task("[bold]sweep", total=self._all, info="")
        self._console.print(f"{len(self._keys)} stage{'s' if len(self._keys) > 1 else ''} to run", highlight=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        if self._notebook:
            self._notebook.show(self._bars)

    def update(self, running: Mapping[str, Mapping[str, Any]]) -> None:
        """Show the progress of the running stages, from the latest event of each type."""
        for key, events in running.items():
            progress = events.get("progress", {})
            self._share[key] = progress.get("iteration", 0) / max(1, self._plan.nodes[key].spec.recipe.iterations)
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(self._name(key), total=1.0, info="starting")
            self._bars.update(self._tasks[key], completed=self._share[key], info=_info(events))
        for key in set(self._tasks) - set(running):
            self._bars.remove_task(self._tasks.pop(key))
        self._bars.update(
            self._sweep, completed=self._completed(), info=f"{self._ended}/{len(self._keys)}{self._eta()}"
        )
        if self._notebook:
            self._notebook.show(self._bars)
        elif not self._console.is_terminal and time.monotonic() - self._line > LINE_EVERY_S:
            self._line = time.monotonic()
            self._plain(running)

    def finished(self, key: str) -> None:
        """Report a finished stage."""
        self._end(key, f"[green]done[/] {self._name(key)}")

    def failed(self, key: str, why: str) -> None:
        """Report a failed stage."""
        self._end(key, f"[red]failed[/] {self._name(key)}: {sinks.markup(why)}")

    def blocked(self, key: str, why: str) -> None:
        """Report a blocked stage."""
        self._end(key, f"[yellow]blocked[/] {self._name(key)}: {sinks.markup(why)}")

    def note(self, text: str) -> None:
        """Print a note."""
        self._console.print(f"[yellow]note[/] {sinks.markup(text)}", highlight=False)

    def _name(self, key: str) -> str:
        """A stage's name with its brackets (`ka[beta=10]`) escaped."""
        return sinks.markup(self._plan.nodes[key].name)

    def _end(self, key: str, line: str) -> None:
        self._share[key] = 1.0
        self._ended += 1
        self._console.print(line, highlight=False, soft_wrap=True)

    def _completed(self) -> float:
        return sum(self._work[key] * share for key, share in self._share.items())

    def _eta(self) -> str:
        """The remaining time, extrapolated from the finished work."""
        share = self._completed() / self._all
        elapsed = time.monotonic() - self._began
        return f"  about {_span(elapsed * (1 - share) / share)} left" if share > 0.02 else ""

    def _plain(self, running: Mapping[str, Mapping[str, Any]]) -> None:
        stages = [f"{self._name(key)}: {_info(events)}" for key, events in islice(running.items(), LINE_STAGES)]
        if len(running) > LINE_STAGES:
            stages.append(f"and {len(running) - LINE_STAGES} more")
        self._console.print(
            f"{self._ended}/{len(self._keys)}{self._eta()} | {'; '.join(stages)}", highlight=False, soft_wrap=True
        )


class NotebookBars:
    """The bars as one output of a notebook cell that is replaced on update; needs no widgets."""

    EVERY_S = 0.5
    """Seconds between two updates, each of which is a message to the browser."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._text, self._time = "", 0.0

    def show(self, bars: Progress) -> None:
        """Replace the output by the current bars."""
        from IPython.display import HTML, display

        ended = bars.finished
        if not ended and time.monotonic() - self._time < self.EVERY_S:
            return
        self._time = time.monotonic()
        if (text := _html(bars)) == self._text:
            return
        self._text = text
        if self._handle is None:
            self._handle = display(HTML(text), display_id=True)
        else:
            self._handle.update(HTML(text))


def _html(bars: Progress) -> str:
    """The bars as an HTML table."""
    rows = []
    for task in bars.tasks:
        name, info = (
            html.escape(Text.from_markup(str(text)).plain) for text in (task.description, task.fields["info"])
        )
        bar = f'<progress value="{task.completed:g}" max="{task.total or 1:g}"></progress>'
        rows.append(f"<tr><td>{name}</td><td>{bar}</td><td>{task.percentage:.0f}%</td><td>{info}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _info(events: Mapping[str, Mapping[str, Any]]) -> str:
    """A short description of a running stage."""
    if "evaluating" in events:
        done = events["evaluating"]
        return f"evaluating {done['done']}/{done['total']}"
    if progress := events.get("progress"):
        return (
            f"{progress['iteration']}/{progress['iterations']} loss {progress['loss']:.3f} "
            f"{_span(progress['eta_s'])} left"
        )
    return "starting"


def _span(seconds: float) -> str:
    """A readable time span."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
