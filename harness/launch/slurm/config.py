"""Settings of the SLURM launcher: a YAML file of site defaults, overridden by flags, and per kind of stage.

partition: gpu
account: vision
time: "4:00:00"
setup: ["module load cuda"]
sbatch: {nice: 100}
stages:
  teacher: {time: "12:00:00", mem: 64G}
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from harness.errors import HarnessError, did_you_mean
from harness.launch.settings import CONFIG, LauncherSettings, read_site, validated

NAME = "slurm"
KINDS = ("teacher", "translator", "student")
_FLAG = re.compile(r"[a-z][a-z0-9-]*")
_MEMORY = re.compile(r"\d+(\.\d+)?[KMGT]?B?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")
_UNITS = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[smhd])")
_OURS = frozenset({"array", "dependency", "output", "error", "job-name", "signal", "parsable", "wrap", "requeue"})
"""sbatch flags that the launcher sets itself and that must not be changed."""


def minutes(text: str | int) -> int:
    """A time limit in minutes, rounded up: `90` (minutes), `4:00:00`, `1-12:00:00`, `30m`, `4h`, `2d`.

    Raises:
        HarnessError: any other text, or zero.
    """
    word = str(text).strip()
    if found := _UNITS.fullmatch(word):
        seconds = float(found["number"]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found["unit"]]
    elif found := _CLOCK.fullmatch(word):
        seconds = _clock_seconds(found["days"], [int(part) for part in found["clock"].split(":")])
    else:
        raise HarnessError(f"'{word}' is not a time limit", "write it as 4:00:00, 1-12:00:00, 90 (minutes), 30m or 4h")
    if seconds <= 0:
        raise HarnessError(f"a time limit of '{word}' is zero", "write it as 4:00:00, or 90 for minutes")
    return int(-(-seconds // 60))


def memory_bytes(text: str) -> int:
    """An amount of memory as sbatch reads it: `64G`, `4000` (megabytes); 0 for none."""
    if not text:
        return 0
    number = text.upper().rstrip("B")
    unit = number[-1] if number[-1] in "KMGT" else "M"
    return int(float(number.rstrip("KMGT")) * 1024 ** ("KMGT".index(unit) + 1))


def _clock_seconds(days: str | None, parts: list[int]) -> float:
    """SLURM's formats: `m`, `m:s`, `h:m:s`, and with days `d-h`, `d-h:m`, `d-h:m:s`."""
    if days is not None:
        hours, mins, secs = (*parts, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + mins * 60 + secs
    if len(parts) == 3:
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


class Resources(LauncherSettings):
    """Resources of one job. Jobs with equal resources can share an array."""

    partition: str = ""
    """Partition; empty for the site's default."""
    account: str = ""
    """Account to charge; empty for the site's default."""
    qos: str = ""
    """Quality of service; empty for the site's default."""
    constraint: str = ""
    """Required feature of nodes; empty for none."""
    gpus: int = Field(default=1, ge=0)
    """GPUs of one run per node; also its processes per node, one per GPU."""
    gpu_type: str = ""
    """Type of GPU, as the site names it: a100."""
    gpu_flag: Literal["gpus-per-node", "gres", "gpus-per-task", "gpus", "none"] = "gpus-per-node"
    """sbatch flag by which the site requests GPUs."""
    nodes: int = Field(default=1, ge=1)
    """Nodes of one run."""
    cpus: int = Field(default=0, ge=0)
    """CPUs per process; 0 for the site's default."""
    mem: str = ""
    """Memory per node: 64G. Empty for the site's default."""
    time: str = "4:00:00"
    """Time limit of a job: 4:00:00, 1-12:00:00, 90 (minutes), 30m, 4h."""
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)
    """Any other flag of sbatch, without dashes."""

    @field_validator("time", mode="before")
    @classmethod
    def _time(cls, value: Any) -> str:
        minutes(value)
        return str(value)

    @field_validator("mem", mode="before")
    @classmethod
    def _mem(cls, value: Any) -> str:
        if str(value) and not _MEMORY.fullmatch(str(value)):
            raise ValueError(f"'{value}' is not an amount of memory: write it as 64G")
        return str(value)

    @field_validator("partition", "account", "qos", "constraint", "gpu_type")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return _printable(value)

    @field_validator("sbatch")
    @classmethod
    def _flags(cls, value: dict[str, Any]) -> dict[str, Any]:
        clean = {name.lstrip("-").replace("_", "-"): content for name, content in value.items()}
        for name, content in clean.items():
            if not _FLAG.fullmatch(name):
                raise ValueError(f"'{name}' is not a flag of sbatch")
            if name in _OURS:
                raise ValueError(f"--{name} is set by the launcher itself")
            _printable(str(content))
        return clean

    @property
    def processes_per_node(self) -> int:
        """One per GPU; one if a run needs none."""
        return max(1, self.gpus)

    @property
    def world_size(self) -> int:
        """The number of processes of one run."""
        return self.nodes * self.processes_per_node

    def flags(self) -> dict[str, Any]:
        """The flags of sbatch."""
        named = {n: getattr(self, n) for n in ("partition", "account", "qos", "constraint", "mem")}
        found: dict[str, Any] = {name: value for name, value in named.items() if value}
        if self.gpus and self.gpu_flag != "none":
            found |= {self.gpu_flag: self._gpus()}
        return found | {name: value for name, value in self.sbatch.items() if value is not False}

    def _gpus(self) -> str:
        count = {"gpus": self.gpus * self.nodes, "gpus-per-task": 1}.get(self.gpu_flag, self.gpus)
        words = ["gpu"] * (self.gpu_flag == "gres") + [self.gpu_type] * bool(self.gpu_type) + [str(count)]
        return ":".join(words)


class SlurmConfig(Resources):
    """The site's file with the user's changes: resources, and how jobs are submitted and supervised."""

    stages: dict[Literal["teacher", "translator", "student"], dict[str, Any]] = Field(default_factory=dict)
    """Other resources for a kind of stage."""
    max_parallel: int = Field(default=0, ge=0)
    """Maximum number of tasks of one kind at once; 0 for the site's limit."""
    max_array_size: int = Field(default=0, ge=0)
    """Maximum number of tasks of one array; 0 to query SLURM (`MaxArraySize`)."""
    max_attempts: int = Field(default=10, ge=1)
    """Attempts at a stage under one submission."""
    signal_delay_s: int = Field(default=90, ge=5)
    """Seconds before the time limit at which a run saves a checkpoint and stops."""
    snapshot: bool = False
    """Run jobs from a copy of the current code."""
    rehearse: bool = False
    """Run a short job first and wait for it: it rehearses each network and method for one step, and its measurements
    limit the size of cohorts by time and memory."""
    setup: tuple[str, ...] = ()
    """Shell lines at the start of each job: modules, environment."""
    python: str = ""
    """Command that starts Python in a job, with a container's prefix if any; empty for the current Python."""
    srun: tuple[str, ...] = ()
    """Arguments of srun."""
    collect: bool = True
    """Update the database by a final job."""
    collect_options: dict[str, str | int | bool] = Field(default_factory=dict)
    """Flags of sbatch for the final job, which needs no GPU: {"partition": "cpu"}."""

    @field_validator("setup", "srun")
    @classmethod
    def _lines(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_printable(line) for line in value)

    @field_validator("python")
    @classmethod
    def _python(cls, value: str) -> str:
        return _printable(value)

    @field_validator("collect_options")
    @classmethod
    def _collect(cls, value: dict[str, Any]) -> dict[str, Any]:
        return Resources._flags(value)

    @field_validator("stages")
    @classmethod
    def _stages(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for kind, changes in value.items():
            if unknown := sorted(set(changes) - set(Resources.model_fields)):
                raise ValueError(f"{kind}: unknown {unknown[0]}; {did_you_mean(unknown[0], Resources.model_fields)}")
        return value

    def resources(self, kind: str) -> Resources:
        """The resources of a stage of this kind.

        Raises:
            HarnessError: an invalid value.
        """
        own = {name: getattr(self, name) for name in Resources.model_fields}
        changes = dict(self.stages.get(kind, {}))  # type: ignore[call-overload]
        sbatch = {**own["sbatch"], **changes.pop("sbatch", {})}
        return validated(Resources, {**own, **changes, "sbatch": sbatch}, f"stages.{kind}")

    def signal_s(self, limit_min: int) -> int:
        """Seconds before the limit at which a job is signalled: at most a third of a short limit."""
        return max(5, min(self.signal_delay_s, limit_min * 20))


def _printable(text: str) -> str:
    """Refuse control characters: a line break in a batch script would start a new command."""
    if any(ord(letter) < 32 for letter in text):
        raise ValueError(f"{text!r} contains a line break or another control character")
    return text


def make_config(changes: Mapping[str, Any], file: Path | None = None) -> SlurmConfig:
    """The site's file with a user's changes.

    Args:
        changes: setting -> value, without those that are None; `teacher.time` changes one kind of stage; `sbatch` is
            merged with the file's.

    Raises:
        HarnessError: an unknown setting, or an invalid value.
    """
    values, source = read_site(NAME, file)
    stages = {kind: dict(own) for kind, own in (values.get("stages") or {}).items()}
    for name, value in changes.items():
        if value is None:
            continue
        kind, dot, setting = name.partition(".")
        if dot and kind in KINDS:
            stages.setdefault(kind, {})[setting] = value
        elif name == "sbatch":
            values["sbatch"] = {**(values.get("sbatch") or {}), **value}
        else:
            # A value on the command line applies to every kind and overrides the file's value for one kind.
            values[name] = value
            for own in stages.values():
                own.pop(name, None)
    if gone := {"runs_per_job", "concurrent"} & set(values):
        what = f"there is no setting {min(gone)} any more: students that share a job are trained in lock-step"
        raise HarnessError(what, "give their number by --cohort N, or use --cohort auto")
    config = validated(SlurmConfig, {**values, "stages": stages}, source or "SLURM settings")
    for kind in KINDS:
        config.resources(kind)
    return config


_ALIASES = {
    "gpus_per_run": "gpus",
    "nodes_per_run": "nodes",
    "cpus_per_run": "cpus",
    "memory": "mem",
}


def settings_config(settings: Mapping[str, Any]) -> SlurmConfig:
    """The site's file with the user's settings: `-o time=4:00:00 -o teacher.mem=64G -o sbatch.nice=100`.

    Raises:
        HarnessError: an unknown setting, or an invalid value.
    """
    changes: dict[str, Any] = {}
    file: Path | None = None
    for name, value in settings.items():
        head, dot, rest = name.partition(".")
        head = _ALIASES.get(head.replace("-", "_"), head.replace("-", "_"))
        if head in (CONFIG, "slurm_config"):
            file = Path(str(value))
        elif head == "sbatch" and dot:
            changes.setdefault("sbatch", {})[rest] = value
        elif head in ("setup", "srun") and isinstance(value, str):
            changes[head] = [value] if head == "setup" else shlex.split(value)
        else:
            rest = rest.replace("-", "_")
            changes[f"{head}.{_ALIASES.get(rest, rest)}" if dot else head] = value
    return make_config({n: str(v) if n.endswith("time") else v for n, v in changes.items()}, file)
