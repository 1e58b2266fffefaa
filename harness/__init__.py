"""Which distillation method helps which student at which output stride: sweeps from Python.

    import harness

    result = harness.sweep(methods="none,kd,ka", strides=[8, 16], seeds=[0, 1])
    result.leaderboard()

`sweep` trains what is missing, `plan` only says what that would be, `open` reads a workspace. Importing this package
imports nothing heavy; torch and pandas come with the first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from harness.launch.keywords import Names, SweepKeywords
    from harness.launch.opened import OpenedWorkspace
    from harness.launch.run_sweep import FinishedSweep, PlannedSweep

__version__ = "0.1.0"
__all__ = ["open", "plan", "sweep"]


def sweep(methods: Names | None = None, **keywords: Unpack[SweepKeywords]) -> FinishedSweep:
    """Train every method x student x output stride x seed that is not done yet, with a progress bar.

    What exists already is not trained again: the same call goes on after an interruption, or adds seeds.

    Args:
        methods: "none,kd,ka", or a list of expressions.
        **keywords: what is asked for and how it is run, as `harness sweep` takes it; see
            `harness.launch.keywords.SweepKeywords`. `progress=False` prints nothing.

    Returns:
        The finished sweep: `.leaderboard()` and `.runs()` as DataFrames, `.failed`, `.blocked`, `.plan`. Stages that
        failed do not raise. A launcher that submits and returns (slurm) leaves `.finished` False.

    Raises:
        harness.errors.HarnessError: an unknown or impossible word; one sentence, with the remedy.
        KeyboardInterrupt: interrupted; every running stage has saved itself.
    """
    from harness.launch.run_sweep import plan_sweep, run_sweep

    result = run_sweep(plan_sweep(methods=methods, run=True, **keywords))
    if result.interrupted:
        raise KeyboardInterrupt("interrupted: make the same call again to go on")
    return result


def plan(methods: Names | None = None, **keywords: Unpack[SweepKeywords]) -> PlannedSweep:
    """What a sweep would do; nothing is trained or written. The arguments are those of `sweep`.

    Returns:
        `.stages()` as a DataFrame, `.missing`, `.skips`, `.plan`; `.run()` then does it.

    Raises:
        harness.errors.HarnessError: an unknown or impossible word.
    """
    from harness.launch.run_sweep import plan_sweep

    return plan_sweep(methods=methods, **keywords)


def open(workspace: Path | str = "runs", db: str | None = None) -> OpenedWorkspace:
    """A workspace that is there already, its records collected: `.leaderboard()`, `.runs()`, `.status()`, `.failed`.

    Args:
        db: the database, a file or a URL; by default the workspace's own.

    Raises:
        harness.errors.HarnessError: it is not a workspace.
    """
    from harness.launch.opened import open_workspace

    return open_workspace(Path(workspace), db)
