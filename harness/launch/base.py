"""The contract of launchers, which run the stages of a plan. Plan, worker, attempts and status are shared by all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import HarnessError, did_you_mean
from harness.launch.settings import CONFIG, LauncherSettings, read_site, validated
from harness.plugins.registry import FILE_KINDS, Registry
from harness.system.checks import Check
from harness.system.waiting import PATIENCE_S
from harness.workspace.folders import Workspace
from harness.workspace.job import Job, PluginFile
from harness.workspace.status import PlannedStage, StageStatus

if TYPE_CHECKING:
    from harness.planning.plan import Node, Plan


LARGEST = {
    "workers": 1024,
    "threads": 1024,
    "loader_workers": 1024,
    "samples": 10_000,
    "checkpoint_every": 10**9,
    "gradients_every": 10**9,
    "loader_timeout_s": 10**9,
}
"""The largest sensible value of each numeric option; the smallest is 0."""


@dataclass(frozen=True)
class Options:
    """Options of the user that do not change results.

    Raises:
        HarnessError: a number is negative, not finite, or above `LARGEST`.

    Attributes:
        workers: stages at once on this machine; 0 for the launcher's default.
        threads: CPU threads of each stage; 0 for the launcher's default.
        cohort: grouping of students that can be trained together: "auto", "off" or the maximum size of a cohort.
        loader_timeout_s: seconds without a batch after which data loading is aborted; 0 for never.
        checkpoint_every: iterations between checkpoints.
        gradients_every: iterations between records of each term's gradient; 0 for none.
        samples: number of images whose predictions are saved, plus half as many of the worst ones.
        log: sinks to which curves are mirrored.
        settings: settings of the launcher as given: partition, time, ... (`Launcher.settings` validates them).
    """

    workspace: Workspace
    database: str
    data_root: Path | None = None
    plugins: tuple[PluginFile, ...] = ()
    device: str = "auto"
    workers: int = 0
    threads: int = 0
    cohort: str = "auto"
    loader_workers: int | None = None
    loader_timeout_s: float = PATIENCE_S
    checkpoint_every: int = 100
    gradients_every: int = 0
    samples: int = 4
    log: tuple[str, ...] = ()
    quiet: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            whole = name != "loader_timeout_s"
            kind = int if whole else int | float
            if value is None or (isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= largest):
                continue
            flag = f"--{name.removesuffix('_s').replace('_', '-')}"
            what = "a whole number" if whole else "a number"
            raise HarnessError(f"{flag} {value} is not {what} from 0 to {largest}", "leave it out for the default")


@dataclass(frozen=True)
class LaunchResult:
    """The result of a launch.

    Attributes:
        finished: whether the launcher waited for the end.
        failed: failed stages, with the reason.
        blocked: stages that depend on a failed one, with the reason.
        message: information for the user (job ids, next steps).
    """

    finished: bool
    failed: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    message: str = ""


class Launcher(ABC):
    """Runs stages. Registered by a file or folder in `harness/launch/`, by an entry point of the group
    `harness.launchers`, or by a file given by `--plugin`.

    Only `launch` is abstract. It may wait for the end, as on this machine, or submit and return, as on a cluster; a
    launcher of the second kind also defines `sent`, `observe`, `logs`, `cancel`, `resubmit`.

    Attributes:
        Settings: the model of its settings. Docstrings of fields are their help in `harness launchers`.
        flags: setting -> command-line flags, in addition to `-o setting=value`: {"time": ("--time",)}.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Settings: ClassVar[type[LauncherSettings]] = LauncherSettings
    flags: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Run or submit the stages `keys` of the plan: those not done yet, parents before children."""

    def rehearse(
        self, plan: Plan, keys: Sequence[str], options: Options, images: Sequence[tuple[int, int]]
    ) -> list[str]:
        """Rehearse the stages where they will run, before `launch`. By default, do nothing.

        Args:
            images: sizes (height, width) of the evaluated images, smallest first.

        Returns:
            Notes on stages that can run.

        Raises:
            HarnessError: a stage cannot run there.
        """
        return []

    def cohorts(self, plan: Plan, keys: Sequence[str], options: Options) -> list[tuple[str, ...]]:
        """The groups in which `launch` would run the stages; by default, each stage alone."""
        return [(key,) for key in keys]

    def describe(self, plan: Plan, keys: Sequence[str], options: Options) -> str:
        """A description of what `launch` would do, for `--dry-run`."""
        return ""

    def settings(self, given: Mapping[str, Any]) -> LauncherSettings:
        """The validated settings from words and the site's file; words override the file.

        Raises:
            HarnessError: an unknown setting, or an invalid value.
        """
        words = {self.setting_name(name): value for name, value in given.items() if value is not None}
        chosen = words.pop(CONFIG, None)
        values, source = read_site(self.name, Path(str(chosen)) if chosen else None)
        return validated(self.Settings, {**values, **words}, source or f"settings of launcher {self.name}")

    def setting_name(self, word: str) -> str:
        """The setting that a word refers to: its name, or one of its flags without dashes."""
        for setting, flags in self.flags.items():
            if word.replace("_", "-") in [flag.lstrip("-") for flag in flags if flag.startswith("--")]:
                return setting
        return word.replace("-", "_")

    def cancel(self, workspace: Workspace, keys: Sequence[str] | None = None) -> list[str]:
        """Cancel queued and running jobs; return a description of each (job ids). By default, do nothing.

        Args:
            keys: cancel jobs of these stages only; None for all.
        """
        return []

    def resubmit(self, workspace: Workspace, keys: Sequence[str], changes: Mapping[str, Any]) -> LaunchResult:
        """Submit stages again, with the settings of their last submission and these changes.

        Args:
            keys: stages that are neither done nor queued or running, parents before children.

        Raises:
            HarnessError: the launcher cannot (the default); the hint says what to do.
        """
        raise HarnessError(
            f"the launcher {self.name} cannot submit stages again",
            "run the same harness sweep again: it resumes",
        )

    def collecting(self, workspace: Workspace) -> list[StageStatus]:
        """The status of jobs that update the database. By default, there are none."""
        return []

    def collect_again(self, workspace: Workspace, changes: Mapping[str, Any]) -> LaunchResult:
        """Submit the jobs of `collecting` again, with the settings of their last submission and these changes.

        Raises:
            HarnessError: the launcher cannot (the default).
        """
        raise HarnessError(f"the launcher {self.name} has no collecting jobs", "run harness collect")

    def logs(self, workspace: Workspace, key: str) -> list[Path]:
        """Log files of a stage's job, in addition to the stage's own log. By default, there are none."""
        return []

    def sent(self, workspace: Workspace) -> Collection[str]:
        """Keys of the stages that `observe` has information about. By default, there are none."""
        return ()

    def observe(self, workspace: Workspace, stage: PlannedStage, status: StageStatus) -> StageStatus:
        """Refine a stage's status with the launcher's information. By default, return it unchanged."""
        return status

    def checks(self) -> Iterator[Check]:
        """Checks of this launcher for `harness doctor`. By default, there are none."""
        yield from ()

    def site_file(self) -> str:
        """A commented template of the site's settings file, with every setting at its default or a detected value."""
        lines = [f"# Settings of harness sweep --launcher {self.name}. Flags and -o NAME=VALUE override them."]
        for setting in describe_settings(type(self)):
            lines += [f"# {setting['help']}", f"# {setting['name']}: {setting['default']}"]
        return "\n".join(lines) + "\n"


def describe_settings(cls: type[Launcher]) -> list[dict[str, Any]]:
    """Name, type, default, flags and help of every setting of a launcher."""
    properties = cls.Settings.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "type": _type_word(properties[name]),
            "default": info.get_default(call_default_factory=True),
            "flags": list(cls.flags.get(name, ())),
            "help": " ".join((info.description or "").split()),
        }
        for name, info in cls.Settings.model_fields.items()
    ]


def _type_word(schema: Mapping[str, Any]) -> str:
    """A readable type of a setting: "integer", "one of gres, none"."""
    if "enum" in schema:
        return f"one of {', '.join(str(value) for value in schema['enum'])}"
    if "anyOf" in schema:
        return " or ".join(_type_word(one) for one in schema["anyOf"])
    word = str(schema.get("type", "any"))
    plain = {"array": "list", "object": "mapping", "string": "text"}
    return plain.get(word, word)


def check_launcher(cls: type[Launcher]) -> None:
    """Check that a launcher's declarations are valid.

    Raises:
        HarnessError: no summary, a setting without a default or with a reserved name, or a flag without a setting.
    """
    if not isinstance(getattr(cls, "summary", None), str) or not cls.summary.strip():
        raise HarnessError(
            f"launcher {cls.name} has no summary", 'declare summary = "one line that says where it runs"'
        )
    if not (isinstance(cls.Settings, type) and issubclass(cls.Settings, LauncherSettings)):
        raise HarnessError(
            f"launcher {cls.name}: Settings is not a class of settings",
            "subclass harness.launch.settings.LauncherSettings",
        )
    for name, info in cls.Settings.model_fields.items():
        if info.is_required():
            raise HarnessError(f"launcher {cls.name}: setting {name} has no default", "give it one")
        if name == CONFIG:
            raise HarnessError(
                f"launcher {cls.name}: the setting name '{CONFIG}' is reserved for the site's file",
                "choose another name",
            )
    for name, flags in cls.flags.items():
        if name not in cls.Settings.model_fields and name != CONFIG:
            hint = did_you_mean(name, cls.Settings.model_fields)
            raise HarnessError(f"launcher {cls.name}: flags of '{name}', which is not one of its settings", hint)
        if isinstance(flags, str) or not all(flag.startswith("-") for flag in flags):
            raise HarnessError(f"launcher {cls.name}: {flags!r} are not flags", 'write {"time": ("--time",)}')


LAUNCHERS: Registry[Launcher] = Registry(
    "launcher", Launcher, "harness.launch", "harness.launchers", check=check_launcher
)
# Every subclass of Launcher imports this file, so the registry exists when a plugin is loaded.
FILE_KINDS.append(LAUNCHERS)


def make_job(plan: Plan, node: Node, options: Options, **changes: Any) -> Job:
    """The job of a node: its stage, and the user's options."""
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
        "loader_timeout_s": options.loader_timeout_s,
        "checkpoint_every": options.checkpoint_every,
        "gradients_every": options.gradients_every,
        "samples": options.samples,
        "log": options.log,
    }
    return Job.model_validate({**values, **changes})


def parents_done(plan: Plan, key: str, done: set[str]) -> bool:
    """Whether all parents of a stage are done."""
    return all(parent in done for parent in plan.nodes[key].parents)


def refuse_empty(keys: Sequence[str]) -> None:
    """Check that there are stages to launch.

    Raises:
        HarnessError: there are none.
    """
    if not keys:
        raise HarnessError("there is nothing to launch", "all stages are done")
