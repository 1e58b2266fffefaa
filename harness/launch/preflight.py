"""What is looked at once, before anything is launched, so that no job of a sweep fails for it later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.launch.base import Options
from harness.workspace.folders import Workspace

if TYPE_CHECKING:
    from harness.planning.plan import Plan


def prepare(plan: Plan, keys: Sequence[str], options: Options) -> None:
    """Check the data set and fetch first weights that come from a hub.

    Raises:
        HarnessError: a file of the data set is missing or unpaired; weights cannot be had.
    """
    if not keys:
        return
    from harness.builders.datasets import open_dataset
    from harness.builders.models import build_model

    spec = next(iter(plan.nodes.values())).spec
    dataset = open_dataset(spec.dataset, options.data_root)
    problems = dataset.check(full=False)
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise HarnessError(f"data set {spec.dataset.label}: {problems[0]}{more}", "run harness data check")
    fetched = set()
    for key in keys:
        model = plan.nodes[key].spec.model
        place = (model.family, model.encoder)
        if model.weights.source == "imagenet" and place not in fetched:
            fetched.add(place)
            file = plan.weights.get(model.weights.sha256)
            build_model(model, len(dataset.classes), Path(file) if file else None)
    _try_writing(options.workspace)


def _try_writing(workspace: Workspace) -> None:
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        probe = workspace.root / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HarnessError(f"cannot write to {workspace.root}: {error.strerror}", "name another --workspace") from error
