"""What is looked at once, before anything is launched, so that no job of a sweep fails for it later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.launch.base import Options
from harness.workspace.folders import Workspace

if TYPE_CHECKING:
    from harness.data.base import Dataset
    from harness.planning.plan import Plan
    from harness.specs.spec import DatasetSpec


def prepare(plan: Plan, keys: Sequence[str], options: Options) -> None:
    """Check the data set and fetch first weights that come from a hub.

    Raises:
        HarnessError: `harness data check` would call something in the data set an error; weights cannot be had.
    """
    if not keys:
        return
    from harness.builders.datasets import open_dataset
    from harness.builders.models import build_model

    spec = next(iter(plan.nodes.values())).spec
    dataset = open_dataset(spec.dataset, options.data_root)
    problems: Sequence[object] = dataset.check(full=False)
    _refuse(spec.dataset, problems)
    _survey(dataset, spec.dataset, options)
    fetched = set()
    for key in keys:
        model = plan.nodes[key].spec.model
        place = (model.family, model.encoder, model.weights.sha256)
        if model.weights.source in ("imagenet", "network") and place not in fetched:
            fetched.add(place)
            file = plan.weights.get(model.weights.sha256)
            build_model(model, len(dataset.classes), Path(file) if file else None)
    _try_writing(options.workspace)


def _survey(dataset: Dataset, spec: DatasetSpec, options: Options) -> None:
    """Refuse what `harness data check` calls an error; say what it warns of. Remembered by content.

    Generated data sets of the harness itself hold no files that could be wrong, and are not looked at.
    """
    if not dataset.needs_root and not spec.source:
        return
    from harness.data.survey import Memory, survey
    from harness.launch.progress import counting
    from results import sinks

    with counting("checking data", options.quiet) as progress:
        report = survey(dataset, spec, Memory(options.workspace.root / "checks"), progress)
    _refuse(spec, report.of("error"))
    warnings = report.of("warning")
    if warnings and not options.quiet:
        more = f" (and {len(warnings) - 1} more: harness data check)" if len(warnings) > 1 else ""
        print(sinks.terminal(f"data set {spec.label}: {warnings[0]}{more}"), file=sys.stderr)


def _refuse(spec: DatasetSpec, problems: Sequence[object]) -> None:
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise HarnessError(f"data set {spec.label}: {problems[0]}{more}", "run harness data check")


def _try_writing(workspace: Workspace) -> None:
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        probe = workspace.root / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HarnessError(f"cannot write to {workspace.root}: {error.strerror}", "name another --workspace") from error
