"""The Python interface: run sweeps of distillation methods, students and output strides.

    import harness

    result = harness.sweep(methods="none,kd,ka", strides=[8, 16], seeds=[0, 1])
    result.leaderboard()

`sweep` trains what is missing, `plan` only shows what would be trained, `open` reads a workspace. Importing this
package is cheap; torch and pandas are imported by the first call.
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

    Existing results are not trained again: the same call resumes after an interruption, or adds seeds.

    Args:
        methods: "none,kd,ka", or a list of expressions.
        **keywords: the options of `harness sweep`; see `harness.launch.keywords.SweepKeywords`. `progress=False`
            prints nothing.

    Returns:
        The finished sweep: `.leaderboard()` and `.runs()` as DataFrames, `.failed`, `.blocked`, `.plan`. Stages that
        failed do not raise. A launcher that submits and returns (slurm) leaves `.finished` False.

    Raises:
        harness.errors.HarnessError: an unknown or invalid argument; the message contains the remedy.
        KeyboardInterrupt: interrupted; every running stage has saved a checkpoint.
    """
    from harness.launch.run_sweep import plan_sweep, run_sweep

    result = run_sweep(plan_sweep(methods=methods, run=True, **keywords))
    if result.interrupted:
        raise KeyboardInterrupt("interrupted: make the same call again to resume")
    return result


def plan(methods: Names | None = None, **keywords: Unpack[SweepKeywords]) -> PlannedSweep:
    """Show what `sweep` would do with the same arguments. Nothing is trained or written.

    Returns:
        The plan: `.stages()` as a DataFrame, `.missing`, `.skips`, `.plan`; `.run()` executes it.

    Raises:
        harness.errors.HarnessError: an unknown or invalid argument.
    """
    from harness.launch.run_sweep import plan_sweep

    return plan_sweep(methods=methods, **keywords)


def open(workspace: Path | str = "runs", db: str | None = None) -> OpenedWorkspace:
    """Open an existing workspace and collect its records: `.leaderboard()`, `.runs()`, `.status()`, `.failed`.

    Args:
        db: the database, a file or a URL; by default that of the workspace.

    Raises:
        harness.errors.HarnessError: the folder is not a workspace.
    """
    from harness.launch.opened import open_workspace

    return open_workspace(Path(workspace), db)
