"""Find and delete unneeded files: checkpoints of finished stages, abandoned temporary files, weights of students.

Records are never deleted, nor the weights of a stage that another one depends on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.workspace.files import read_json
from harness.workspace.folders import StageFolder, Workspace
from results.record import Record

LEFT_AFTER_S = 3600.0
"""Seconds without a change after which a temporary file counts as abandoned."""
CHECKPOINT = "checkpoint of a finished stage"
TEMPORARY = "temporary file whose writer is gone"
STUDENT = "weights of a student"


@dataclass(frozen=True)
class Removable:
    """An unneeded file, or an abandoned temporary folder.

    Attributes:
        size: in bytes.
        why: its kind.
        name: the name of its stage; "" for none.
    """

    path: Path
    size: int
    why: str
    name: str = ""


def find_removable(workspace: Workspace, weights: bool = False, keep: int = 1) -> list[Removable]:
    """The files of a workspace that can be deleted, by path. Deletes nothing.

    Args:
        weights: include students' weights. The board does not need them; `harness verify` does.
        keep: the number of best runs of each data set, student and stride whose weights are kept.

    Raises:
        HarnessError: the folder is not a workspace.
    """
    stages = workspace.root / "stages"
    if not stages.is_dir():
        raise HarnessError(
            f"{workspace.root} is not a workspace: it holds no stages folder", "name another --workspace"
        )
    folders = [StageFolder(p) for p in sorted(stages.iterdir()) if p.is_dir() and not p.is_symlink()]
    found = [*_temporaries(stages), *(each for folder in folders for each in _checkpoints(folder))]
    if weights:
        found += _students(workspace, folders, keep)
    return sorted(found, key=lambda each: each.path)


def remove(found: Iterable[Removable]) -> int:
    """Delete files and folders; return their size in bytes."""
    freed = 0
    for each in found:
        if each.path.is_dir():
            shutil.rmtree(each.path, ignore_errors=True)
        else:
            each.path.unlink(missing_ok=True)
        freed += each.size
    return freed


def _temporaries(stages: Path) -> Iterator[Removable]:
    """Abandoned temporary files, and folders of merges."""
    for path in sorted({*stages.glob(".*.tmp"), *stages.glob("*/.*.tmp"), *stages.glob("*/*/.*.tmp")}):
        if not path.is_symlink() and time.time() - path.stat().st_mtime > LEFT_AFTER_S:
            yield Removable(path, _size(path), TEMPORARY)


def _size(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def _checkpoints(folder: StageFolder) -> Iterator[Removable]:
    record = _record(folder)
    if record and folder.checkpoint_file.is_file() and not _alive(folder):
        yield Removable(folder.checkpoint_file, folder.checkpoint_file.stat().st_size, CHECKPOINT, record.name)


def _alive(folder: StageFolder) -> bool:
    attempt = folder.last_attempt()
    return attempt is not None and attempt.outcome() is None and attempt.shows_life()


def _record(folder: StageFolder) -> Record | None:
    try:
        return folder.record()
    except HarnessError:
        return None


def _students(workspace: Workspace, folders: Sequence[StageFolder], keep: int) -> Iterator[Removable]:
    """The weights of finished students that nothing depends on, without those of the best."""
    needed, taken = _parents(workspace, folders), _weights_of_jobs(folders)
    settings: dict[tuple[Any, ...], list[tuple[float, StageFolder, str]]] = {}
    for folder in folders:
        record = _record(folder)
        if record is None or record.kind != "student" or not folder.weights_file.is_file() or _alive(folder):
            continue
        if record.key in needed or folder.weights_file.resolve() in taken:
            continue
        cell, metrics = record.cell, record.metrics
        setting = (cell.dataset, cell.student, cell.stride) if cell else ()
        score = metrics.miou if metrics and metrics.miou == metrics.miou else -1.0
        settings.setdefault(setting, []).append((score, folder, record.name))
    for runs in settings.values():
        runs.sort(key=lambda run: (-run[0], run[1].key))
        for _, folder, name in runs[keep:]:
            yield Removable(folder.weights_file, folder.weights_file.stat().st_size, STUDENT, name)


def _parents(workspace: Workspace, folders: Sequence[StageFolder]) -> set[str]:
    """Keys of all stages that another one depends on, finished or not; read from records, specifications and plans."""
    specs = [read_json(folder.path / name) for folder in folders for name in ("record.json", "spec.json")]
    plans = [read_json(file) for file in workspace.sweeps.glob("*.json")] if workspace.sweeps.is_dir() else []
    specs += [stage for plan in plans if isinstance(plan, dict) for stage in plan.get("stages", ())]
    found: set[str] = set()
    for spec in specs:
        parents = spec.get("parents") if isinstance(spec, dict) else None
        found.update(map(str, parents.values() if isinstance(parents, dict) else parents or ()))
    return found


def _weights_of_jobs(folders: Sequence[StageFolder]) -> set[Path]:
    """Files of initial weights of stages in the workspace."""
    jobs = [read_json(folder.job_file) for folder in folders]
    weights = [job["weights"] for job in jobs if isinstance(job, dict) and isinstance(job.get("weights"), dict)]
    return {Path(str(file)).resolve() for files in weights for file in files.values()}
