"""Train a finished run again from its record, in a separate workspace, and compare the results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Exit, HarnessError
from harness.launch.launchers import find_launcher, make_options
from harness.workspace.files import file_digest, read_json
from harness.workspace.folders import StageFolder, Workspace

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.stage.surroundings import Changes
    from results.record import Record

RERUNS = "reruns"
"""Folder in a workspace for the workspaces of reruns; no command collects from it."""
TAKEN = ("record.json", "spec.json", "weights.safetensors")
"""Files of its parents that a stage needs."""


@dataclass(frozen=True)
class Rerun:
    """The comparison of a run and its rerun.

    Attributes:
        then, now: the original and the new record.
        folder: the stage's folder in the separate workspace.
        weights_same: whether the weights are equal bit for bit.
        images, differing: number of evaluated images, and image -> number of pixels with another prediction.
        environment: differences in code, libraries and device.
        numerics: differences in precision, layout and gradients.
    """

    then: Record
    now: Record
    folder: Path
    weights_same: bool
    images: int
    differing: dict[str, int]
    environment: Changes
    numerics: Changes

    @property
    def miou(self) -> tuple[float, float] | None:
        """The original and the new mIoU, as fractions; None for a translator."""
        if self.then.metrics is None or self.now.metrics is None:
            return None
        return self.then.metrics.miou, self.now.metrics.miou

    @property
    def same(self) -> bool:
        """Whether weights and confusion matrices are equal."""
        return self.weights_same and not self.differing


def rerun(
    folder: StageFolder,
    into: Path | None = None,
    device: str = "auto",
    data_root: Path | None = None,
    plugins: Sequence[Path] = (),
    quiet: bool = False,
) -> Rerun:
    """Train a finished stage again from its record, with the same parents; the original is not changed.

    Args:
        into: the workspace of the rerun; by default `WORKSPACE/reruns/KEY-N`. An interrupted rerun resumes.
        device: "auto" for the kind of device that the record names.
        data_root: folder of the data set; by default the original one.
        plugins: plugin files that it needs, unchanged.

    Raises:
        HarnessError: the stage is not finished, weights of a parent are missing or changed, data or a plugin changed,
            or the rerun failed or was interrupted.
    """
    from harness.stage.surroundings import data_root_of, device_word, same_data
    from harness.workspace.status import save_sweep

    then = folder.record()
    target = Workspace(into or _own_place(folder))
    if target.root.resolve() == folder.path.resolve().parents[1]:
        raise HarnessError("a rerun cannot use the workspace of the original run", "name another one with --into")
    chosen = device_word(then, device)
    root = data_root_of(folder, data_root)
    options = make_options(
        target.root, None, list(plugins), "local", data_root=root, device=chosen, workers=1, quiet=quiet,
        threads=then.environment.threads if chosen == "cpu" else 0,
    )  # fmt: skip
    plan = _plan(folder, then)
    if target.stage(folder.key).done():
        raise HarnessError(f"{target.root} contains this run already", "name another folder with --into")
    same_data(plan.nodes[folder.key].spec, root)
    take_parents(folder, target)
    save_sweep(target, plan, f"harness rerun {folder.key}")
    launched = find_launcher("local").launch(plan, [folder.key], options)
    if launched.interrupted:
        error = HarnessError(f"interrupted; {target.root} resumes from its checkpoint", "run the same command again")
        error.exit_code = Exit.INTERRUPTED
        raise error
    if reason := launched.failed.get(folder.key):
        raise HarnessError(f"{then.name} could not be trained again: {reason}", f"its log: {target.root}/stages")
    return compared(folder, target.stage(folder.key))


def compared(folder: StageFolder, again: StageFolder) -> Rerun:
    """Compare two records of one stage and their confusion matrices."""
    from harness.evaluation.evaluate import load_confusion
    from harness.stage.stored import WEIGHTS
    from harness.stage.surroundings import changed_environment
    from harness.stage.verify import CONFUSION, differing_images

    then, now = folder.record(), again.record()
    differing, images = {}, 0
    if (folder.path / CONFUSION).is_file() and (again.path / CONFUSION).is_file():
        new = load_confusion(again.path / CONFUSION)
        differing, images = differing_images(load_confusion(folder.path / CONFUSION), new), len(new.names)
    return Rerun(
        then,
        now,
        again.path,
        then.artefacts.get(WEIGHTS) == now.artefacts.get(WEIGHTS),
        images,
        differing,
        changed_environment(then.environment, now.environment),
        _changed_numerics(then, now),
    )


def _changed_numerics(then: Record, now: Record) -> Changes:
    names = ("precision", "channels_last", "numerics", "kernels")
    pairs = {name: (str(getattr(then.training, name)), str(getattr(now.training, name))) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _own_place(folder: StageFolder) -> Path:
    """The first `reruns/KEY-N` of the workspace in which the stage is not done."""
    root, number = folder.path.parents[1] / RERUNS, 1
    while Workspace(root / f"{folder.key[:10]}-{number}").stage(folder.key).done():
        number += 1
    return root / f"{folder.key[:10]}-{number}"


def _ancestors(folder: StageFolder) -> list[StageFolder]:
    """All ancestors of a stage, parents first.

    Raises:
        HarnessError: one of them is not finished here.
    """
    workspace, found = Workspace(folder.path.parents[1]), dict[str, StageFolder]()

    def add(key: str) -> None:
        if key in found:
            return
        parent = workspace.stage(key)
        for grandparent in parent.record().parents.values():
            add(grandparent)
        found[key] = parent

    for key in folder.record().parents.values():
        add(key)
    return list(found.values())


def _plan(folder: StageFolder, record: Record) -> Plan:
    """A plan of the stage and its ancestors, read from their records."""
    from harness.planning.plan import Node, Plan
    from harness.specs.spec import SweepSpec
    from harness.stage.surroundings import recorded_spec

    nodes = {}
    for each in [*_ancestors(folder), folder]:
        found = each.record()
        nodes[each.key] = Node(each.key, recorded_spec(found), found.name, found.cell, found.reproduce)
    job = read_json(folder.job_file)
    weights = job.get("weights") if isinstance(job, dict) else None
    return Plan(SweepSpec(), nodes, (), 1, weights if isinstance(weights, dict) else {})


def take_parents(folder: StageFolder, target: Workspace) -> None:
    """Copy the required files of a stage's parents into another workspace, by hard links if possible.

    Raises:
        HarnessError: weights of a parent are missing or changed.
    """
    record = folder.record()
    expected = {record.parents[role]: digest for role, digest in record.parent_weights.items()}
    for parent in _ancestors(folder):
        promised = expected.get(parent.key) or parent.record().artefacts.get("weights.safetensors")
        if not parent.weights_file.is_file() or file_digest(parent.weights_file) != promised:
            raise HarnessError(
                f"parent {parent.record().name} ({parent.key}): its weights are missing or have changed",
                "train the parent again: harness rerun, or the sweep in another --workspace",
            )
        place = target.stage(parent.key).path
        place.mkdir(parents=True, exist_ok=True)
        for name in TAKEN:
            if (parent.path / name).is_file() and not (place / name).exists():
                _link(parent.path / name, place / name)


def _link(source: Path, target: Path) -> None:
    """Hard-link or copy a file. Links are safe because files of finished stages are only replaced as a whole."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
