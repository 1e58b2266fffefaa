"""Find launchers by name or by stage, and build `Options` from a user's choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, refuse_undecodable
from harness.launch.base import LAUNCHERS, Launcher, LaunchResult, Options, describe_settings
from harness.launch.settings import LauncherSettings
from harness.system.secrets import database_without_password
from harness.workspace.files import read_json
from harness.workspace.folders import Workspace
from harness.workspace.status import PlannedStage, StageStatus, State, read_sweeps, stage_states

__all__ = ["LAUNCHERS", "describe_settings", "find_launcher", "make_options", "observer", "settings_of"]

Look = Callable[[PlannedStage, StageStatus], StageStatus]


def find_launcher(name: str) -> Launcher:
    """The launcher of that name.

    Raises:
        HarnessError: unknown launcher.
    """
    try:
        return LAUNCHERS.get(name)()
    except HarnessError as error:
        raise HarnessError(error.message, f"{error.hint}; a launcher from a file needs --plugin FILE") from error


def settings_of(name: str, given: Mapping[str, Any]) -> LauncherSettings:
    """The validated settings of a launcher, from words and the site's file.

    Args:
        given: setting (or its flag without dashes) -> value.

    Raises:
        HarnessError: an unknown launcher or setting, or an invalid value.
    """
    launcher = find_launcher(name)
    try:
        return launcher.settings(given)
    except HarnessError as error:
        owners = [e.name for e in LAUNCHERS if e.name != name and _has_one_of(e.cls(), given, launcher)]
        if not owners:
            raise
        hint = f"{error.hint}; or give --launcher {' or '.join(owners)}, which has this setting"
        raise HarnessError(error.message, hint.removeprefix("; or ")) from error


def _has_one_of(other: Launcher, given: Mapping[str, Any], chosen: Launcher) -> bool:
    """Whether a word is a setting of another launcher but not of the chosen one."""
    names = {word: (other.setting_name(word), chosen.setting_name(word)) for word in given}
    return any(
        theirs in other.Settings.model_fields and ours not in chosen.Settings.model_fields
        for theirs, ours in names.values()
    )


def make_options(
    workspace: Path, db: str | None, plugins: list[Path], launcher: str | None = None, **rest: Any
) -> Options:
    """The options of a launch, from a command's flags.

    Args:
        launcher: the launcher of `settings`, which are validated.

    Raises:
        HarnessError: the workspace is a file, a plugin cannot be loaded, or a setting is invalid.
    """
    from harness.plugins.load import load_plugins

    for folder in (workspace, rest.get("data_root")):
        refuse_undecodable(str(folder.resolve()) if folder else "")
    if workspace.exists() and not workspace.is_dir():
        raise HarnessError(f"the workspace {workspace} is a file", "name a folder with --workspace")
    opened = Workspace(workspace)
    files = load_plugins(plugins)
    if launcher is not None:
        settings_of(launcher, rest.get("settings") or {})
    return Options(
        workspace=opened, database=database_without_password(db or str(opened.database)), plugins=files, **rest
    )


def observer(workspace: Workspace) -> Look:
    """A function that refines statuses with the information of the launchers that submitted the stages."""
    launchers = [(launcher, launcher.sent(workspace)) for launcher in (entry.cls() for entry in LAUNCHERS)]

    def observe(stage: PlannedStage, status: StageStatus) -> StageStatus:
        for launcher, keys in launchers:
            # A stage without attempts was not taken over by another launcher, so its job need not be read.
            if stage.key in keys and (not status.attempts or launched_by(workspace, stage.key) == launcher.name):
                return launcher.observe(workspace, stage, status)
        return status

    return observe


def look(workspace: Workspace, sweep: str = "") -> tuple[list[PlannedStage], dict[str, StageStatus]]:
    """The stages of the saved plans (of one sweep, or all) and their states.

    Raises:
        HarnessError: no sweep was planned, or a scheduler does not respond, so that states are unknown.
    """
    listed = read_sweeps(workspace, sweep or None)
    statuses = {status.key: status for status in stage_states(workspace, listed, observer(workspace))}
    unknown = next((s for s in statuses.values() if s.state is State.UNKNOWN), None)
    if unknown:
        raise HarnessError(f"the state of {unknown.name} is {unknown.reason}", "try again when its scheduler responds")
    return listed, statuses


def launched_by(workspace: Workspace, key: str) -> str:
    """The name of the launcher of a stage's last submission; "" if there is none."""
    return str((read_json(workspace.stage(key).job_file) or {}).get("launcher", ""))


def launcher_of(workspace: Workspace, keys: Sequence[str]) -> Launcher:
    """The common launcher of stages; stages that were never submitted do not count.

    Raises:
        HarnessError: there are several launchers, none, or one that is not registered.
    """
    names = sorted({name for key in keys if (name := launched_by(workspace, key))})
    if len(names) > 1:
        raise HarnessError(f"these stages were submitted to {' and '.join(names)}", f"choose: --launcher {names[0]}")
    if not names:
        raise HarnessError("these stages were not submitted yet", "run the same harness sweep again")
    return find_launcher(names[0])


def cancel(workspace: Workspace, keys: Sequence[str] | None = None) -> list[str]:
    """Cancel queued and running jobs of all launchers; return a description of each.

    Args:
        keys: of these stages alone; None for all.
    """
    return [word for entry in LAUNCHERS for word in entry.cls().cancel(workspace, keys)]


def job_logs(workspace: Workspace, key: str) -> list[Path]:
    """Log files of a stage's job, in addition to its own log."""
    name = launched_by(workspace, key)
    return LAUNCHERS.get(name)().logs(workspace, key) if name in LAUNCHERS else []


def collecting(workspace: Workspace) -> list[tuple[Launcher, StageStatus]]:
    """The status of the jobs that update the database, each with its launcher."""
    launchers = [entry.cls() for entry in LAUNCHERS]
    return [(launcher, status) for launcher in launchers for status in launcher.collecting(workspace)]


def close_attempts(workspace: Workspace, statuses: Iterable[StageStatus]) -> None:
    """Record the outcome of attempts that ended without recording it, as far as it is known.

    A job that is killed with all its processes (mostly for lack of memory) leaves its attempt open; only the scheduler
    knows the reason.
    """
    for status in statuses:
        attempt = workspace.stage(status.key).last_attempt()
        if status.state in (State.FAILED, State.INTERRUPTED, State.LOST) and attempt and attempt.outcome() is None:
            attempt.end("failed" if status.state is State.FAILED else "interrupted", status.reason)


def resubmit(workspace: Workspace, keys: Sequence[str], changes: Mapping[str, Any], launcher: str = "") -> LaunchResult:
    """Submit stages again with their launcher, or with another one.

    Args:
        keys: parents before children.
        changes: settings that differ from the last submission.
    """
    chosen = find_launcher(launcher) if launcher else launcher_of(workspace, keys)
    return chosen.resubmit(workspace, keys, changes)
