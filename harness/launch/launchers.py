"""Launchers by name, and a user's choices as the options that all launchers take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.launch.base import Launcher, Options
from harness.plugins.registry import Registry
from harness.workspace.files import read_json
from harness.workspace.folders import Workspace
from harness.workspace.status import PlannedStage, StageStatus

LAUNCHERS: Registry[Launcher] = Registry("launcher", Launcher, "harness.launch", "harness.launchers")


def make_options(workspace: Path, db: str | None, plugins: list[Path], **rest: Any) -> Options:
    """The options of a launch, out of a command's flags."""
    from harness.plugins.load import load_plugins

    if workspace.exists() and not workspace.is_dir():
        raise HarnessError(f"the workspace {workspace} is a file", "name a folder with --workspace")
    folder = Workspace(workspace)
    return Options(workspace=folder, database=db or str(folder.database), plugins=load_plugins(plugins), **rest)


def observer(workspace: Workspace) -> Callable[[PlannedStage, StageStatus], StageStatus]:
    """What launchers know of stages besides their files; each is asked of the stages that it submitted."""
    launchers = [(launcher, launcher.sent(workspace)) for launcher in (entry.cls() for entry in LAUNCHERS)]

    def observe(stage: PlannedStage, status: StageStatus) -> StageStatus:
        for launcher, keys in launchers:
            # A stage without attempts was never taken over by another launcher: its job need not be read.
            if stage.key in keys and (not status.attempts or _launched_by(workspace, stage.key) == launcher.name):
                return launcher.observe(workspace, stage, status)
        return status

    return observe


def _launched_by(workspace: Workspace, key: str) -> str:
    """The launcher that a stage was given to last."""
    return str((read_json(workspace.stage(key).job_file) or {}).get("launcher", ""))
