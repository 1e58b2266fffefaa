"""Plan, check, launch and collect a sweep. Used by the command line and from Python."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, did_you_mean
from harness.launch.base import Launcher, LaunchResult, Options
from harness.launch.keywords import ASKED, KEYWORDS, Names
from harness.launch.opened import OpenedWorkspace
from harness.system.importing import garbage_ignored

if TYPE_CHECKING:
    from typing import Unpack

    import pandas as pd

    from harness.launch.keywords import SweepKeywords
    from harness.planning.plan import Plan, Skip


@dataclass(frozen=True)
class PlannedSweep:
    """A planned sweep, and the options to run it.

    Attributes:
        missing: keys of the stages that are not done, parents before children.
    """

    plan: Plan
    missing: tuple[str, ...]
    options: Options
    launcher: Launcher

    @property
    def skips(self) -> Sequence[Skip]:
        """Cells that are skipped, with reasons."""
        return self.plan.skips

    def stages(self) -> pd.DataFrame:
        """One row per stage, parents before children: key, kind, name, iterations, cells, done."""
        import pandas as pd

        absent = set(self.missing)
        rows = [
            (n.key, n.spec.kind, n.name, n.spec.recipe.iterations, n.cells, n.key not in absent)
            for n in self.plan.nodes.values()
        ]
        return pd.DataFrame(rows, columns=["key", "kind", "name", "iterations", "cells", "done"])

    def run(self) -> FinishedSweep:
        """Launch the missing stages."""
        return run_sweep(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.plan.count().items()))
        return f"PlannedSweep({self.plan.id}: {self.plan.cells} cells, {counts}; {len(self.missing)} stages to do)"


class FinishedSweep(OpenedWorkspace):
    """The result of a sweep.

    Attributes:
        launched: result of the launcher; None if everything was done already.
    """

    def __init__(self, planned: PlannedSweep, launched: LaunchResult | None) -> None:
        super().__init__(planned.options.workspace, planned.options.database)
        self.plan, self.launched = planned.plan, launched

    def __repr__(self) -> str:
        state = "finished" if self.finished else "submitted"
        return f"FinishedSweep({self.plan.id}: {state}, {len(self.plan.nodes)} stages, {len(self.failed)} failed)"

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the stages of this sweep."""
        return list(self.plan.nodes)

    @property
    def finished(self) -> bool:
        """Whether the launcher waited for the end."""
        return self.launched is None or self.launched.finished

    @property
    def interrupted(self) -> bool:
        """Whether it was interrupted; the same sweep again resumes."""
        return self.launched is not None and self.launched.interrupted

    @property
    def message(self) -> str:
        """The launcher's message: ids of jobs, next steps."""
        return self.launched.message if self.launched else ""

    @property
    def failed(self) -> dict[str, str]:
        """Name of each failed stage -> reason."""
        return super().failed if not self.finished else self._named(self.launched.failed if self.launched else {})

    @property
    def blocked(self) -> dict[str, str]:
        """Name of each stage that depends on a failed one -> reason."""
        return super().blocked if not self.finished else self._named(self.launched.blocked if self.launched else {})

    def _named(self, reasons: Mapping[str, str]) -> dict[str, str]:
        return {self.plan.nodes[key].name: reason for key, reason in reasons.items()}


def plan_sweep(
    *, methods: Names | None = None, run: bool = False, place: str = "", **keywords: Unpack[SweepKeywords]
) -> PlannedSweep:
    """Plan a sweep from its keywords.

    Args:
        run: the sweep will be run after planning, so start the server process for workers meanwhile.
        place: prefix of keywords in error messages: "--" for flags.

    Raises:
        HarnessError: an unknown keyword, an invalid value, or nothing to do.
    """
    given: dict[str, Any] = {"methods": methods, **keywords}
    if unknown := [name for name in given if name not in KEYWORDS]:
        raise HarnessError(f"a sweep has no keyword '{unknown[0]}'", did_you_mean(unknown[0], KEYWORDS))
    if run and given.get("launcher", "local") == "local":
        from harness.launch.local import warm_up

        warm_up()
    with garbage_ignored():
        from harness.builders.datasets import located
        from harness.launch.launchers import find_launcher
        from harness.launch.preflight import check_device_word
        from harness.planning.parse_sweep import sweep_spec
        from harness.planning.plan import make_plan
        from harness.plugins.file_plugin import stdout_to_stderr

    check_device_word(given.get("device", "auto"))
    plugins = [Path(file) for file in given.get("plugins") or ()]
    words = {name: given.get(name) for name in ("methods", *ASKED)}
    spec = sweep_spec(words, _path(given.get("file")), plugins, place)
    options = _options(given, plugins)
    word, data_root = located(spec.dataset, options.data_root)
    spec, options = spec.model_copy(update={"dataset": word}), replace(options, data_root=data_root)
    launcher = find_launcher(given.get("launcher", "local"))
    weights_dir = _path(given.get("weights_dir") or os.environ.get("HARNESS_WEIGHTS"))
    if weights_dir is not None and not weights_dir.is_dir():
        raise HarnessError(f"the folder of weights {weights_dir} is not a folder", "give --weights-dir FOLDER")
    with stdout_to_stderr():
        plan = make_plan(spec, options.data_root, weights_dir)
    if not plan.nodes:
        reasons = "; ".join(f"{s.cell}: {s.reason}" for s in plan.skips)
        raise HarnessError("nothing to do: every cell is skipped", reasons)
    missing = tuple(key for key in plan.nodes if options.workspace.stage(key).missing())
    return PlannedSweep(plan, missing, options, launcher)


def teachers_only(planned: PlannedSweep) -> PlannedSweep:
    """The teachers of a sweep, and nothing else of it; each counts as a cell."""
    nodes = {key: node for key, node in planned.plan.nodes.items() if node.spec.kind == "teacher"}
    plan = replace(planned.plan, nodes=nodes, cells=len(nodes))
    return replace(planned, plan=plan, missing=tuple(key for key in planned.missing if key in nodes))


def run_sweep(planned: PlannedSweep, command: str = "") -> FinishedSweep:
    """Launch the missing stages of a sweep, and collect if the launcher waited for the end.

    Args:
        command: the user's command; by default an equivalent command.

    Raises:
        HarnessError: the data, the workspace or the launcher cannot be used.
    """
    from harness.curves.base import prepare_sinks
    from harness.launch.preflight import prepare
    from harness.workspace.status import save_sweep
    from results import sinks

    plan, options, missing = planned.plan, planned.options, list(planned.missing)
    if missing and planned.launcher.name == "local" and options.device not in ("auto", "cpu"):
        from harness.system.devices import pick_device

        pick_device(options.device)
    images = prepare(plan, missing, options)
    prepare_sinks(options.log, options.workspace.root)
    if missing:
        for note in planned.launcher.rehearse(plan, missing, options, images):
            print(sinks.terminal(f"note: {note}"), file=sys.stderr)
    for key in missing:
        if note := options.workspace.stage(key).set_aside_record():
            print(f"note: {note}", file=sys.stderr)
    save_sweep(options.workspace, plan, command or sweep_command(planned))
    launched = planned.launcher.launch(plan, missing, options) if missing else None
    result = FinishedSweep(planned, launched)
    if result.finished:
        result.collect()
    return result


def sweep_command(planned: PlannedSweep) -> str:
    """An equivalent command line, without default values."""
    from harness.specs.spec import SweepSpec
    from harness.specs.values import value_text

    asked, default = planned.plan.sweep.model_dump(mode="json"), SweepSpec().model_dump(mode="json")
    words = ["harness", "sweep"]
    for name, value in asked.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "set":
            words += [word for path, change in value.items() for word in (flag, f"{path}={value_text(change)}")]
        elif value != default[name]:
            words += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return shlex.join([*words, "--workspace", str(planned.options.workspace.root)])


def _loader_workers(asked: str | int) -> int | None:
    """The number of loader workers; None for "auto".

    Raises:
        HarnessError: any other text.
    """
    if asked == "auto":
        return None
    if not str(asked).isdecimal() or len(str(asked)) > 12:
        raise HarnessError(f"--loader-workers '{asked}' is not a number of processes", "give auto, 0, 1, 2, ...")
    return int(asked)


def _options(given: Mapping[str, Any], plugins: list[Path]) -> Options:
    from harness.curves.base import chosen_sinks
    from harness.launch.launchers import make_options
    from harness.planning.cohorts import largest_cohort

    cohort = str(given.get("cohort", "auto"))
    largest_cohort(cohort)
    names = (
        "device",
        "workers",
        "threads",
        "loader_timeout_s",
        "checkpoint_every",
        "gradients_every",
        "samples",
        "settings",
    )
    options = make_options(
        workspace=_path(given.get("workspace") or os.environ.get("HARNESS_WORKSPACE")) or Path("runs"),
        db=given.get("db") or os.environ.get("HARNESS_DB"),
        plugins=plugins,
        data_root=_path(given.get("data_root") or os.environ.get("HARNESS_DATA")),
        launcher=given.get("launcher", "local"),
        quiet=not given.get("progress", True),
        cohort=cohort,
        loader_workers=_loader_workers(given.get("loader_workers", "auto")),
        **{name: given[name] for name in names if name in given},
    )
    return replace(options, log=chosen_sinks(given.get("log")))  # plugins, which may define sinks, are loaded now


def _path(value: Any) -> Path | None:
    return Path(value).expanduser() if value else None
