"""Merge workspaces: copy finished stages by key, check every file, overwrite nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.workspace.files import file_digest, write_atomic
from harness.workspace.folders import StageFolder, Workspace
from harness.workspace.hidden import hidden_runs, take_over
from harness.workspace.job import read_job
from harness.workspace.tags import read_tags
from harness.workspace.tags import take_over as take_tags
from results.record import Record

WEIGHTS = "weights.safetensors"
OF_AN_ATTEMPT = ("attempt.json", "outcome.json", "events.jsonl", "log")
"""Files of an attempt that are copied."""


@dataclass
class Merged:
    """The result of a merge.

    Attributes:
        added, same: keys of the copied stages, and of stages that exist in the target with equal results.
        conflicts: key -> why a finished stage was not copied.
        damaged: folder -> why its finished stage is incomplete.
        unfinished: the number of stages without a record.
        size: copied bytes.
    """

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    unfinished: int = 0
    size: int = 0


def merge(
    sources: Sequence[Path],
    target: Workspace,
    weights: bool = True,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Copy the finished stages and the saved plans of other workspaces that a workspace does not have.

    A stage is copied under a temporary name and renamed. Hidden stages stay hidden, tagged ones tagged.
    Links in a source are not followed.

    Args:
        weights: copy weights too; without them a stage can be shown and compared, but neither verified nor used as a
            teacher.
        progress: called with (stages read, total).

    Raises:
        HarnessError: a source is not a workspace, or is the target itself.
    """
    for source in sources:
        if not (source / "stages").is_dir():
            raise HarnessError(
                f"{source} is not a workspace: it holds no stages folder", "name the folder above stages/"
            )
        if source.resolve() == target.root.resolve():
            raise HarnessError(f"{source} cannot be merged into itself", "name another --workspace")
    folders = [folder for source in sources for folder in sorted((source / "stages").iterdir())]
    merged = Merged()
    for place, folder in enumerate(folders):
        if folder.is_dir() and not folder.is_symlink() and folder.name.isalnum() and folder.name.isascii():
            _take(StageFolder(folder), target, merged, weights, dry_run)
        progress(place + 1, len(folders))
    if not dry_run:
        for source in sources:
            _take_plans(Workspace(source), target)
            hidden = hidden_runs(Workspace(source))
            take_over(target, {key: why for key, why in hidden.items() if key in merged.added})
            take_tags(target, read_tags(Workspace(source)), merged.added)
    return merged


def _take(folder: StageFolder, target: Workspace, merged: Merged, weights: bool, dry_run: bool) -> None:
    """Copy one stage, or note why not."""
    if not folder.record_file.is_file():
        merged.unfinished += 1
        return
    try:
        record = folder.record()
    except HarnessError as error:
        merged.damaged[str(folder.path)] = error.message
        return
    key, there = record.key, target.stage(record.key)
    if key in merged.added and dry_run:
        return
    if there.path.exists():
        if why := _conflict(record, there):
            merged.conflicts[key] = why
        elif key not in merged.added:
            merged.same.append(key)
        return
    files, why = _files(folder, record, weights)
    if why:
        merged.damaged[str(folder.path)] = why
        return
    merged.size += sum((folder.path / name).stat().st_size for name in files)
    if not dry_run:
        _copy(folder, files, target)
    merged.added.append(key)


def _conflict(record: Record, there: StageFolder) -> str:
    """Why a stage of the same key in the target differs; "" if it does not."""
    try:
        other = there.record()
    except HarnessError as error:
        unfinished = not there.record_file.is_file()
        return f"it is unfinished in {there.path}" if unfinished else error.message
    names = [name for name in (WEIGHTS, "confusion.npz") if record.artefacts.get(name) != other.artefacts.get(name)]
    if not names:
        return ""
    scores = [f"{100 * r.metrics.miou:.2f}" if r.metrics else "no" for r in (other, record)]
    code = [r.environment.revision[:10] for r in (other, record)]
    return f"other {' and '.join(names)} here: mIoU {scores[0]}, code {code[0]}; there {scores[1]}, code {code[1]}"


def _files(folder: StageFolder, record: Record, weights: bool) -> tuple[list[str], str]:
    """The files of a stage to copy, by their names in its folder; or why it is incomplete."""
    names = ["record.json", "spec.json"]
    for name, digest in record.artefacts.items():
        if name == WEIGHTS and not weights:
            continue
        if not _is_plain(folder.path, name):
            if name == WEIGHTS and not (folder.path / name).exists():
                continue  # pruned; the record is still complete
            return [], f"{name} is missing"
        if file_digest(folder.path / name) != digest:
            return [], f"{name} is not the one of its record"
        names.append(name)
    attempts = [f"attempts/{a.number}/{name}" for a in folder.attempts() for name in OF_AN_ATTEMPT]
    return [name for name in [*names, *attempts] if _is_plain(folder.path, name)], ""


def _is_plain(folder: Path, name: str) -> bool:
    """Whether a name is a regular file inside a folder, without links on its path."""
    path = folder / name
    links = any(part.is_symlink() for part in [path, *path.parents] if part.is_relative_to(folder))
    return not links and ".." not in Path(name).parts and not Path(name).is_absolute() and path.is_file()


def _copy(folder: StageFolder, files: Sequence[str], target: Workspace) -> None:
    place = target.stage(folder.key).path
    temporary = place.with_name(f".{folder.key}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name in files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.path / name, temporary / name)
        _copy_job(folder, temporary, target)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy_job(folder: StageFolder, place: Path, target: Workspace) -> None:
    """Copy the stage's job, with the new workspace in it."""
    if not _is_plain(folder.path, folder.job_file.name):
        return
    try:
        job = read_job(folder.job_file)
    except HarnessError:
        return  # of an older version; a finished stage does not need it
    job = job.model_copy(update={"workspace": str(target.root.resolve())})
    write_atomic(place / folder.job_file.name, job.model_dump_json(indent=1), durable=False)


def _take_plans(source: Workspace, target: Workspace) -> None:
    """Copy missing saved plans, so that `harness status` knows the stages."""
    for file in sorted(source.sweeps.glob("*.json")) if source.sweeps.is_dir() else ():
        if not file.is_symlink() and not (target.sweeps / file.name).exists():
            write_atomic(target.sweeps / file.name, file.read_bytes())
