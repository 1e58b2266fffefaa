"""Checks before a launch, so that no job fails later for a cause that could be found at once."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, surroundings
from harness.launch.base import Options
from harness.launch.rehearsal import rehearse
from harness.system.guard import guard_process
from harness.workspace.folders import Workspace

if TYPE_CHECKING:
    from harness.data.base import Dataset
    from harness.planning.plan import Plan
    from harness.specs.spec import DatasetSpec


def prepare(plan: Plan, keys: Sequence[str], options: Options) -> list[tuple[int, int]]:
    """Test workspace and database, check the data set, download initial weights, rehearse the shapes.

    Returns:
        Sizes (height, width) of the evaluated images, smallest first.

    Raises:
        HarnessError: workspace or database are not writable, the data set has errors, weights are not available, or a
            network does not accept its images.
    """
    _try_writing(options.workspace)
    check_database(options.database)
    if not keys:
        return []
    from harness.builders.datasets import open_dataset
    from harness.builders.models import build_model

    spec = next(iter(plan.nodes.values())).spec
    dataset = open_dataset(spec.dataset, options.data_root)
    with guard_process():
        problems: Sequence[object] = dataset.check(full=False)
    _refuse(spec.dataset, problems)
    images = _survey(dataset, spec.dataset, options) or [dataset.eval_size]
    fetched = set()
    for key in keys:
        model = plan.nodes[key].spec.model
        place = (model.family, model.encoder, model.weights.sha256)
        if model.weights.source != "random" and place not in fetched:
            fetched.add(place)
            file = plan.weights.get(model.weights.sha256)
            build_model(model, len(dataset.classes), Path(file) if file else None)
    rehearse([plan.nodes[key].spec for key in keys], dataset, options.workspace.root / "checks", images)
    return images


def _survey(dataset: Dataset, spec: DatasetSpec, options: Options) -> list[tuple[int, int]]:
    """Refuse data sets with errors, print warnings (`harness data check`); results are cached by content.

    Returns:
        Sizes (height, width) of the evaluated images, smallest first.

    The harness's generated data sets have no files and are not checked.
    """
    if not dataset.needs_root and not spec.source:
        return []
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
    evaluated = [report.splits[name] for name in {"val", dataset.splits[-1]} & report.splits.keys()]
    sizes = {tuple(map(int, size.split("x")))[::-1] for split in evaluated for size in split.sizes}
    return sorted(((height, width) for height, width in sizes), key=lambda size: size[0] * size[1])


def _refuse(spec: DatasetSpec, problems: Sequence[object]) -> None:
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise HarnessError(f"data set {spec.label}: {problems[0]}{more}", "run harness data check")


def check_database(database: str) -> None:
    """Check that the database is writable, before training; collecting replaces one of an older version.

    Raises:
        HarnessError: it is not.
    """
    from results.store import OtherVersion, open_store

    try:
        open_store(database).close()
    except OtherVersion as error:
        if error.newer:
            raise HarnessError(str(error)) from error
    except ValueError as error:
        raise HarnessError(str(error), _DATABASE_URL if "://" in database else _DATABASE_FILE) from error
    except Exception as error:
        around = surroundings(error)
        if around is None:
            raise
        raise HarnessError(f"the database {database}: {around.message}", _DATABASE_FILE) from error


_DATABASE_FILE = "name another database with --db: it is an index of records, nothing is lost"
_DATABASE_URL = "or omit --db: a database is an index of records, and can be filled at any time"


def check_device_word(word: str) -> None:
    """Check that a word is a valid device name, whether or not this machine has the device.

    Raises:
        HarnessError: it is not.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", word):
        raise HarnessError(f"'{word}' is not a device that stages can run on", "use auto, cpu, cuda, cuda:1 or mps")


def _try_writing(workspace: Workspace) -> None:
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        probe = workspace.root / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another sweep that begins may have removed it
        free = shutil.disk_usage(workspace.root).free
    except OSError as error:
        raise HarnessError(f"cannot write to {workspace.root}: {error.strerror}", "name another --workspace") from error
    if free < _LEAST_FREE:
        raise HarnessError(
            f"{free / 2**20:.0f} MB are free for {workspace.root}, too few for weights and checkpoints",
            "free some space, or name another --workspace",
        )


_LEAST_FREE = 32 << 20
"""Bytes: the weights of the smallest students, and a checkpoint three times as large."""
