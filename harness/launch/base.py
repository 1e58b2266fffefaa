"""The contract of a launcher: how the stages of a plan come to run. Plan, worker, attempts and status are shared."""

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


@dataclass(frozen=True)
class Options:
    """What is the user's choice and changes no result.

    Attributes:
        workers: stages at once on this machine; 0 lets the launcher choose.
        threads: CPU threads of each stage; 0 lets the launcher choose.
        cohort: how students are grouped that can be trained together: "auto", "off" or the most of one cohort.
        loader_timeout_s: seconds without a batch after which loading is given up where it is; 0 for never.
        checkpoint_every: iterations between checkpoints.
        gradients_every: iterations between two looks at the gradient of each term; 0 for none.
        samples: images whose predictions are kept; besides them half as many of the worst.
        log: sinks to which curves are mirrored.
        settings: the launcher's own, as they were given: partition, time, ... (`Launcher.settings` checks them).
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
    """Brings stages to run. Registered by a file or folder in `harness/launch/`, by an entry point of the group
    `harness.launchers`, or by a file given by `--plugin`.

    Only `launch` must be written. It may wait until all is done, as on this machine, or submit and return, as on a
    cluster; a launcher of the second kind says more of its stages by `sent`, `observe`, `logs`, `cancel`, `resubmit`.

    Attributes:
        Settings: the model of what it can be told. Texts under the fields are their help: `harness launchers`.
        flags: setting -> flags of its own on the command line, besides `-o setting=value`: {"time": ("--time",)}.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Settings: ClassVar[type[LauncherSettings]] = LauncherSettings
    flags: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def launch(self, plan: Plan, keys: Sequence[str], options: Options) -> LaunchResult:
        """Run, or submit, the stages `keys` of the plan: those not done yet, parents before children."""

    def rehearse(
        self, plan: Plan, keys: Sequence[str], options: Options, images: Sequence[tuple[int, int]]
    ) -> list[str]:
        """Try the stages out where they will run, before `launch`; nothing by default.

        Args:
            images: sizes (height, width) of the images that are evaluated, smallest first.

        Returns:
            What is good to know of those that can be run.

        Raises:
            HarnessError: one of them cannot be run there.
        """
        return []

    def cohorts(self, plan: Plan, keys: Sequence[str], options: Options) -> list[tuple[str, ...]]:
        """The groups in which `launch` would run the stages; each alone by default."""
        return [(key,) for key in keys]

    def describe(self, plan: Plan, keys: Sequence[str], options: Options) -> str:
        """What `launch` would do, for `--dry-run`."""
        return ""

    def settings(self, given: Mapping[str, Any]) -> LauncherSettings:
        """The settings that words and the site's file make, checked; words go before the file.

        Raises:
            HarnessError: an unknown setting, or a value that does not fit.
        """
        words = {self.setting_name(name): value for name, value in given.items() if value is not None}
        chosen = words.pop(CONFIG, None)
        values, source = read_site(self.name, Path(str(chosen)) if chosen else None)
        return validated(self.Settings, {**values, **words}, source or f"settings of launcher {self.name}")

    def setting_name(self, word: str) -> str:
        """The setting that a word means: its name, or one of its flags without the dashes."""
        for setting, flags in self.flags.items():
            if word.replace("_", "-") in [flag.lstrip("-") for flag in flags if flag.startswith("--")]:
                return setting
        return word.replace("-", "_")

    def cancel(self, workspace: Workspace, keys: Sequence[str] | None = None) -> list[str]:
        """Take back what is queued or running; what was, in the launcher's own words (ids of jobs). Nothing by default.

        Args:
            keys: of these stages alone; None for all.
        """
        return []

    def resubmit(self, workspace: Workspace, keys: Sequence[str], changes: Mapping[str, Any]) -> LaunchResult:
        """Send stages again that were sent before, with the settings of then and these changes.

        Args:
            keys: parents before children; none of them is done or on its way.

        Raises:
            HarnessError: it cannot; the hint says what to do. So by default.
        """
        raise HarnessError(
            f"the launcher {self.name} cannot send stages again by itself",
            "run the same harness sweep again: it goes on where it stopped",
        )

    def collecting(self, workspace: Workspace) -> list[StageStatus]:
        """How the jobs stand that bring the database up to date, where there are such. None by default."""
        return []

    def collect_again(self, workspace: Workspace, changes: Mapping[str, Any]) -> LaunchResult:
        """Send what `collecting` shows once more, with the settings of then and these changes.

        Raises:
            HarnessError: it cannot. So by default.
        """
        raise HarnessError(f"the launcher {self.name} does not collect by itself", "run harness collect")

    def logs(self, workspace: Workspace, key: str) -> list[Path]:
        """Files with what was printed around a stage, besides the stage's own log. None by default."""
        return []

    def sent(self, workspace: Workspace) -> Collection[str]:
        """Keys of the stages of which it knows more than their files tell. None by default."""
        return ()

    def observe(self, workspace: Workspace, stage: PlannedStage, status: StageStatus) -> StageStatus:
        """What the launcher knows of a stage besides its files. Nothing by default."""
        return status

    def checks(self) -> Iterator[Check]:
        """What `harness doctor` should say of this machine where this launcher is concerned. Nothing by default."""
        yield from ()

    def site_file(self) -> str:
        """A first file of this site's settings, with comments: every setting at its default, unless better is known."""
        lines = [f"# Settings of harness sweep --launcher {self.name}. Flags and -o NAME=VALUE go before them."]
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
    """A setting's type for people: "integer", "one of gres, none"."""
    if "enum" in schema:
        return f"one of {', '.join(str(value) for value in schema['enum'])}"
    if "anyOf" in schema:
        return " or ".join(_type_word(one) for one in schema["anyOf"])
    word = str(schema.get("type", "any"))
    plain = {"array": "list", "object": "mapping", "string": "text"}
    return plain.get(word, word)


def check_launcher(cls: type[Launcher]) -> None:
    """See that a launcher's declarations make sense.

    Raises:
        HarnessError: no summary, a setting without a default or named as another thing is, a flag of no setting.
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
                f"launcher {cls.name}: the setting '{CONFIG}' names the site's file", "choose another name"
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
# Whoever extends Launcher has imported this file, so that a plugin's launcher finds its registry here.
FILE_KINDS.append(LAUNCHERS)


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
        "loader_timeout_s": options.loader_timeout_s,
        "checkpoint_every": options.checkpoint_every,
        "gradients_every": options.gradients_every,
        "samples": options.samples,
        "log": options.log,
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
