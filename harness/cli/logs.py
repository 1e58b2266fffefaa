"""`harness logs`: print the log of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, Plugins, Workspace, load_given
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.workspace.folders import Workspace as Folder

_POLL_S = 0.5


def logs(
    run: Annotated[str, typer.Argument(help="A stage: the beginning of its key, or a part of its name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the run ends.")] = False,
    attempt: Annotated[
        int, typer.Option("--attempt", "-a", min=0, help="Number of the attempt; 0 for the latest.")
    ] = 0,
    job: Annotated[
        bool, typer.Option("--job", help="Print the logs of its job instead: of SLURM and submitit.")
    ] = False,
    plugin: Plugins = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
) -> None:
    """Print the log of a run.

    Examples:

        harness logs 'ka timm:mobilenetv2_100/linear@16 seed 0' -f

        harness logs 6c526ade --attempt 1

        harness logs 6c526ade --job
    """
    from harness.launch.launchers import job_logs
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.select import find_stage
    from results import sinks

    load_given(plugin)
    folder = Folder(workspace)
    stage = find_stage(folder, run)
    files = job_logs(folder, stage.key) if job else _attempt_logs(folder, stage.key, attempt)
    files = files or job_logs(folder, stage.key)
    if not files and not follow:
        raise HarnessError(f"{stage.name} has printed nothing yet", "see harness status")
    for file in files if not follow else files[:-1]:
        sys.stdout.write(sinks.terminal_lines(file.read_text(errors="replace")))
    for text in follow_stage(folder, stage.key) if follow else ():
        sys.stdout.write(sinks.terminal_lines(text))
        sys.stdout.flush()


def _attempt_logs(workspace: Folder, key: str, number: int) -> list[Path]:
    attempts = workspace.stage(key).attempts()
    if number and number not in [a.number for a in attempts]:
        raise HarnessError(f"there is no attempt {number}", f"attempts: {', '.join(str(a.number) for a in attempts)}")
    chosen = [a for a in attempts if not number or a.number == number][-1:]
    return [a.log for a in chosen if a.log.is_file()]


def follow_stage(workspace: Folder, key: str) -> Iterator[str]:
    """The log of the latest attempt as it grows, then of the next one, until the stage is done or has failed."""
    from harness.workspace.status import State, stage_state

    folder = workspace.stage(key)
    number, place = 0, 0
    while True:
        state, _, _ = stage_state(folder)
        attempt = folder.last_attempt()
        if attempt:
            if attempt.number != number:
                number, place = attempt.number, 0
                yield f"--- attempt {number}\n"
            text, place = _read_from(attempt.log, place)
            yield text
        if state in (State.DONE, State.FAILED):
            return
        time.sleep(_POLL_S)


def _read_from(file: Path, place: int) -> tuple[str, int]:
    try:
        with file.open("rb") as opened:
            opened.seek(place)
            data = opened.read()
    except OSError:
        return "", place
    return data.decode(errors="replace"), place + len(data)
