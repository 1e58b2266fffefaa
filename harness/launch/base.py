"""The contract of a launcher: how the stages of a plan come to run. Plan, worker, attempts and status are shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import HarnessError
from harness.workspace.folders import Workspace
from harness.workspace.job import Job, PluginFile
from harness.workspace.status import PlannedStage, StageStatus

if TYPE_CHECKING:
    from harness.planning.plan import Node, Plan


@dataclass(frozen=True)
class Options:
    """What is the user's choice and changes no result.

    Attributes:
        workers: stages at once on this machine; 0 lets the launcher choose.
        threads: CPU threads of each stage; 0 lets the launcher choose.
        checkpoint_every: iterations between checkpoints.
        max_attempts: tries at a stage before it is given up.
        settings: the launcher's own: partition, time, ...
    """

    workspace: Workspace
    database: str
    data_root: Path | None = None
    plugins: tuple[PluginFile, ...] = ()
    device: str = "auto"
    workers: int = 0
    threads: int = 0
    loader_workers: int = 0
    checkpoint_every: int = 100
    max_attempts: int = 3
    quiet: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LaunchResult:
    """What came of it.

    Attributes:
        finished: the launcher waited until nothing more could be done.
        failed: stages that failed, with the reason.
        blocked: stages that wait for a failed one, with the reason.
        message: what to tell the user (job ids, what to do next).
    """

    finished: bool
    failed: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    message: str = ""


class Launcher(ABC):
    """Brings stages to run. Registered by `name`; third parties use the entry point group `harness.launchers`."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Run, or submit, the stages `keys` of the plan: those not done yet, parents before children."""

    def describe(self, plan: Plan, keys: Sequence[str], options: Options) -> str:
        """What `launch` would do, for `--dry-run`."""
        return ""

    def sent(self, workspace: Workspace) -> Collection[str]:
        """Keys of the stages of which it knows more than their files tell. None by default."""
        return ()

    def observe(self, workspace: Workspace, stage: PlannedStage, status: StageStatus) -> StageStatus:
        """What the launcher knows of a stage besides its files. Nothing by default."""
        return status


def make_job(plan: Plan, node: Node, options: Options, **changes: Any) -> Job:
    """The job of a node: its stage, and all that is the user's choice."""
    workspace = options.workspace.root.resolve()
    values: dict[str, Any] = {
        "stage": node.spec,
        "name": node.name,
        "cell": node.cell.model_dump(mode="json") if node.cell else None,
        "reproduce": node.reproduce,
        "workspace": str(workspace),
        "data_root": str(options.data_root.resolve()) if options.data_root else None,
        "weights": plan.weights,
        "plugins": options.plugins,
        "device": options.device,
        "threads": options.threads,
        "loader_workers": options.loader_workers,
        "checkpoint_every": options.checkpoint_every,
    }
    return Job.model_validate({**values, **changes})


def parents_done(plan: Plan, key: str, done: set[str]) -> bool:
    """All parents of a stage are done."""
    return all(parent in done for parent in plan.nodes[key].parents)


def refuse_empty(keys: Sequence[str]) -> None:
    """A launcher is never asked to do nothing.

    Raises:
        HarnessError: there is nothing to launch.
    """
    if not keys:
        raise HarnessError("there is nothing to launch", "everything asked for is done")
