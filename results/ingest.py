"""Collecting: from the records in a workspace to the rows of a database. The only writer there is.

Collecting twice changes nothing; collecting after a while looks only at what is new or changed. Deleting the database
and collecting again gives the same rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError

from results import columns
from results import store as schema
from results.flags import uncounted
from results.invalid import first_invalid
from results.metrics import COUNT_METRICS, mean_of_ratios
from results.protocol import protocol_words
from results.record import Metrics, Record
from results.statistics import class_counts, mean_iou, predicted_absent
from results.store import Store

CONFUSION, STATES = "confusion.npz", "metrics.npz"
"""Files beside a record: confusion matrices of every image, and what other metrics add up over images."""
BATCH = 64
"""Records read before they are written in one transaction: no lock is held while files are read."""


class Problem(NamedTuple):
    """A file that is not as it should be, and why. It never stops the others."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass
class Summary:
    """What collecting did.

    Attributes:
        added, updated, unchanged, removed: keys.
        invalid: files that could not be used; also those known from earlier.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    invalid: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        counts = {"added": self.added, "updated": self.updated, "unchanged": self.unchanged, "removed": self.removed}
        words = [f"{len(keys)} {name}" for name, keys in counts.items() if keys or name in ("added", "unchanged")]
        return ", ".join([*words, f"{len(self.invalid)} invalid"] if self.invalid else words)


@dataclass(frozen=True)
class _Row:
    """What one record becomes: rows of the tables."""

    run: dict[str, Any]
    children: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class _Known:
    """What the database holds of a run, as far as deciding whether to read it again needs it."""

    stamps: tuple[str, str]
    workspace: str
    problem: str


def collect(workspace: Path, store: Store) -> Summary:
    """Bring the database up to date with `WORKSPACE/stages/*/record.json`.

    A record that is gone, or no longer valid, loses its row if it was collected from this workspace; a file that
    cannot be read just now (a network file system that stutters) does not.

    Raises:
        ValueError: the workspace has no stages folder, or the store is read-only.
    """
    stages = workspace / "stages"
    if not stages.is_dir():
        raise ValueError(f"{workspace} is not a workspace: it holds no stages folder")
    origin, summary, known = str(workspace.resolve()), Summary(), _known(store)
    folders = sorted(p.parent for p in stages.glob("*/record.json"))
    for some in _batched(_read_changed(folders, origin, known, summary), BATCH):
        with store.write() as connection:
            for row in some:
                _write_one(connection, row, stages, known, summary)
    _remove_gone(store, stages, origin, known, summary)
    return summary


def _known(store: Store) -> dict[str, _Known]:
    r = schema.runs.c
    with store.read() as connection:
        rows = connection.execute(select(r.key, r.stamp, r.confusion_stamp, r.workspace, r.problem))
        return {row.key: _Known((row.stamp, row.confusion_stamp), row.workspace, row.problem) for row in rows}


def _read_changed(folders: Iterable[Path], origin: str, known: dict[str, _Known], summary: Summary) -> Iterator[_Row]:
    """The rows of records that are new or changed; the others, and what is invalid, are noted in the summary."""
    for folder in folders:
        before = known.get(folder.name)
        stamps = _stamp(folder / "record.json"), f"{_stamp(folder / CONFUSION)}|{_stamp(folder / STATES)}".rstrip("|")
        if before and before.stamps == stamps and before.workspace == origin:
            summary.unchanged.append(folder.name)
            if before.problem:
                summary.invalid.append(_problem(folder, before.problem))
            continue
        try:
            row = _row(folder, origin, stamps)
        except (OSError, ValueError) as error:
            summary.invalid.append(Problem(folder / "record.json", _why(error)))
            continue
        if row.run["problem"]:
            summary.invalid.append(_problem(folder, row.run["problem"]))
        yield row


def _problem(folder: Path, text: str) -> Problem:
    """What is wrong with a file beside a record, as the column `problem` says it: `FILE: why`, or of the matrices."""
    name, colon, why = text.partition(": ")
    return Problem(folder / name, why) if colon and name == STATES else Problem(folder / CONFUSION, text)


def _batched(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _stamp(path: Path) -> str:
    """What a file looks like from outside; empty when it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_mtime_ns}:{found.st_size}"


def _why(error: BaseException) -> str:
    """One line on what is wrong."""
    if isinstance(error, ValidationError):
        return str(first_invalid(error))
    return str(error).splitlines()[0] if str(error) else type(error).__name__


# ------------------------------------------------------------------------------------------ record -> rows


def _row(folder: Path, origin: str, stamps: tuple[str, str]) -> _Row:
    """All rows of one stage.

    Raises:
        OSError: the record cannot be read.
        ValueError: it is not a valid record of this folder.
    """
    text = (folder / "record.json").read_text(encoding="utf-8")
    record = Record.model_validate_json(text)
    if record.key != folder.name:
        raise ValueError(f"the record is of key {record.key}, its folder is {folder.name}")
    images, problem = _images(folder, record)
    run = (
        _run(record)
        | _classes(record, images.counts)
        | {
            "workspace": origin,
            "stamp": stamps[0],
            "confusion_stamp": stamps[1],
            "problem": problem,
            "record": text,
        }
    )
    children = _children(record, images.counts) | {"metrics": _metrics(record, images.counts)} | images.rows()
    return _Row(_clean(run), {name: [_clean(child) for child in rows] for name, rows in children.items()})


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """The row in what every database can hold: NaN is NULL, and texts (a traceback's, say) have no NUL character."""

    def clean(value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            return None
        return value.replace("\x00", "\ufffd") if isinstance(value, str) else value

    return {name: clean(value) for name, value in row.items()}


def _run(record: Record) -> dict[str, Any]:
    """The row of `runs`, all but where it came from."""
    data = record.model_dump(exclude={"spec", "artefacts", "parents"})
    row = {column.name: _at(data, column.source) for column in columns.STORED if column.source}
    parents = ",".join(sorted(set(record.parents.values())))
    counted: dict[str, Any] = {"manifest": _manifest(record), "variant": _variant(record), "parents": parents}
    counted |= {"uncounted": uncounted(record.cost.uncounted) if record.cost else ""}
    counted |= {"samples_planned": _planned(record)}
    return row | counted | {"evaluation": protocol_words(record.spec) if record.metrics else ""}


def _at(data: Any, path: str) -> Any:
    """What stands at a dotted path; None where the way ends early."""
    for name in path.split("."):
        if data is None:
            return None
        data = data[int(name)] if name.isdigit() else data.get(name)
    return data


def _manifest(record: Record) -> str:
    """Digest of the data that it was trained and scored on."""
    dataset = record.spec.get("dataset")
    return str(dataset.get("manifest", "")) if isinstance(dataset, dict) else ""


def _planned(record: Record) -> int | None:
    """Samples that the recipe asks for; None where it does not say."""
    recipe = record.spec.get("recipe")
    said = [recipe.get(name) for name in ("iterations", "batch_size")] if isinstance(recipe, dict) else []
    numbers = [value for value in said if isinstance(value, int)]
    return math.prod(numbers) if len(numbers) == 2 else None


def _variant(record: Record) -> str:
    """A short digest of what a cell's words leave out: the data's content, methods' versions, and which teacher it was.

    Runs of equal cells but unlike variants are never averaged: a method may have been mended in between, or the
    teacher trained from another seed.
    """
    method = record.spec.get("method")
    parts = method.get("parts", ()) if isinstance(method, dict) else ()
    meant = [{k: v for k, v in part.items() if k != "summary"} for part in parts if isinstance(part, dict)]
    teacher = record.parents.get("teacher", "")
    text = json.dumps([meant, teacher, _manifest(record)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _classes(record: Record, counts: NDArray[np.int64] | None) -> dict[str, Any]:
    """Over which classes the means of a run are, and how much was called another."""
    metrics = record.metrics
    if metrics is None or (counts is None and not metrics.classes):
        return {"classes": None, "absent": None, "absent_share": None}
    declared, there, share = list(metrics.per_class_iou), set(metrics.classes), sum(metrics.predicted_absent.values())
    if counts is not None:
        there = {name for name, labelled in zip(declared, counts.sum(0)[1]) if labelled > 0}
        share = float(predicted_absent(counts.sum(0)).sum())
    absent = [name for name in declared if name not in there]
    return {"classes": f"{len(there)} of {len(declared)}", "absent": ", ".join(absent), "absent_share": share}


def _children(record: Record, counts: NDArray[np.int64] | None) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables that hang on `runs`."""
    per_class = dict(record.metrics.per_class_iou) if record.metrics else {}
    if counts is not None:  # older records have 0 for classes that were only predicted
        labelled = counts.sum(0)[1]
        per_class = {name: iou if there else None for (name, iou), there in zip(per_class.items(), labelled)}
    return {
        "class_iou": [{"position": i, "class": n, "iou": v} for i, (n, v) in enumerate(per_class.items())],
        "terms": [{"term": name, **log.model_dump()} for name, log in record.training.terms.items()],
        "attempts": [attempt.model_dump() for attempt in record.attempts],
    }


def _metrics(record: Record, counts: NDArray[np.int64] | None) -> list[dict[str, Any]]:
    """The rows of `metrics`: what the record says, and what its class counts say of metrics that it does not know."""
    if record.metrics is None:
        return []
    declared = {name: value.model_dump() for name, value in record.metrics.values.items()}
    for name, metric in COUNT_METRICS.items():
        value = declared.get(name, {}).get("value")
        if counts is not None and not (name in declared and record.metrics.classes):
            value = float(metric(counts.sum(0)))  # older records' mIoU is also over classes that were only predicted
        elif name in Metrics.model_fields:
            value = getattr(record.metrics, name)
        elif name not in declared:
            continue
        declared[name] = {**{n: v for n, v in asdict(metric.info).items() if n != "name"}, "value": value}
    return [{"name": name, **declaration} for name, declaration in declared.items()]


@dataclass(frozen=True)
class _Images:
    """What is kept of every image.

    Attributes:
        counts: (N, 3, K) class counts.
        states: metric -> (N, 2 to 4, G).
    """

    names: list[str] = field(default_factory=list)
    counts: NDArray[np.int64] | None = None
    states: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the tables that hold them."""
        if self.counts is None:
            return {"class_counts": [], "metric_states": []}
        names = json.dumps(self.names, ensure_ascii=False)
        counts = {"names": names, "classes": self.counts.shape[2], "counts": _packed(self.counts, "<u4")}
        states = [
            {"name": name, "parts": state.shape[1], "states": _packed(state, "<f8")}
            for name, state in self.states.items()
        ]
        return {"class_counts": [counts], "metric_states": states}


def _packed(array: NDArray[Any], dtype: str) -> bytes:
    return zlib.compress(np.ascontiguousarray(array, dtype=dtype).tobytes())


_UNREADABLE = (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError)


def _images(folder: Path, record: Record) -> tuple[_Images, str]:
    """What is kept of every image, and what is wrong with it, if anything."""
    if record.metrics is None or not (folder / CONFUSION).is_file():
        return _Images(), ""
    try:
        names, counts = _read_confusion(folder / CONFUSION, record)
    except _UNREADABLE as error:
        return _Images(), _why(error)
    if not (folder / STATES).is_file():
        return _Images(names, counts), ""
    try:
        return _Images(names, counts, _read_states(folder / STATES, record, names)), ""
    except _UNREADABLE as error:
        return _Images(names, counts), f"{STATES}: {_why(error)}"


def _arrays(path: Path, record: Record) -> dict[str, NDArray[Any]]:
    """The arrays in a file beside a record.

    Raises:
        ValueError: the file is not the one that the record was written beside.
    """
    content = path.read_bytes()
    promised = record.artefacts.get(path.name)
    if promised and hashlib.sha256(content).hexdigest() != promised:
        raise ValueError("its sha256 is not the one in the record")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_confusion(path: Path, record: Record) -> tuple[list[str], NDArray[np.int64]]:
    """Image names and (N, 3, K) class counts; checked against what the record says of them.

    Raises:
        ValueError: the file is not what the record was written beside.
    """
    arrays = _arrays(path, record)
    confusion, names = arrays["confusion"], [str(name) for name in arrays["names"]]
    if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2] or len(confusion) != len(names):
        raise ValueError(f"arrays of shapes {confusion.shape} and ({len(names)},) instead of (N, K, K) and (N,)")
    counts = class_counts(confusion)
    if record.metrics and record.metrics.classes:
        _refuse_other_value("its matrices give mIoU", float(mean_iou(counts.sum(0))), record.metrics.miou)
    elif record.metrics:
        _refuse_other_value(
            "its matrices give mIoU", _mean_of_labelled_or_predicted(counts.sum(0)), record.metrics.miou
        )
    return names, counts


def _read_states(path: Path, record: Record, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Metric -> (N, 2 to 4, G), for the metrics in the record that do not follow from class counts.

    Raises:
        ValueError: the file is not what the record was written beside.
    """
    arrays = _arrays(path, record)
    if [str(name) for name in arrays["names"]] != names:
        raise ValueError(f"its images are not those of {CONFUSION}")
    found = {}
    for name, value in (record.metrics.values if record.metrics else {}).items():
        if name in COUNT_METRICS or name not in arrays:
            continue
        state = np.asarray(arrays[name], dtype=np.float64)
        if state.ndim != 3 or state.shape[1] not in (2, 3, 4) or len(state) != len(names):
            raise ValueError(f"{name} has shape {state.shape} instead of (N, 2 to 4, G)")
        asked = math.nan if value.value is None else value.value
        _refuse_other_value(f"its {name} is", float(mean_of_ratios(state.sum(0))), asked)
        found[name] = state
    return found


def _mean_of_labelled_or_predicted(counts: NDArray[np.int64]) -> float:
    """mIoU as records had it before it was over the classes in the labels: over those in labels or predictions."""
    hits, union = counts[0].astype(np.float64), counts[1] + counts[2] - counts[0]
    return float(np.mean(hits[union > 0] / union[union > 0])) if (union > 0).any() else math.nan


def _refuse_other_value(what: str, found: float, promised: float) -> None:
    same = math.isclose(found, promised, abs_tol=1e-6, rel_tol=1e-6) or (math.isnan(found) and math.isnan(promised))
    if not same:
        raise ValueError(f"{what} {found:.6f}, the record says {promised:.6f}")


# ------------------------------------------------------------------------------------------------- writing


def _write_one(connection: Connection, row: _Row, stages: Path, known: dict[str, _Known], summary: Summary) -> None:
    """Write one run, or note why the database would not have it; the others of the transaction stand."""
    key = row.run["key"]
    try:
        with connection.begin_nested():
            _write(connection, row)
    except (OverflowError, UnicodeError, IntegrityError, DataError, InterfaceError) as error:
        why = _why(getattr(error, "orig", None) or error)
        summary.invalid.append(Problem(stages / key / "record.json", why))
        return
    (summary.updated if key in known else summary.added).append(key)


def _write(connection: Connection, row: _Row) -> None:
    """Insert or replace one run with all that hangs on it."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    key = row.run["key"]
    statement = insert(schema.runs).values(row.run)
    values = {name: value for name, value in row.run.items() if name != "key"}
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))
    for table in schema.CHILDREN:
        connection.execute(delete(table).where(table.c.key == key))
        if rows := row.children[table.name]:
            connection.execute(table.insert(), [{"key": key, **child} for child in rows])


def _remove_gone(store: Store, stages: Path, origin: str, known: dict[str, _Known], summary: Summary) -> None:
    """Remove rows of this workspace whose record is not there any more, or is not valid any more.

    Only rows that were there at the beginning are looked at: another collector may be adding new ones.
    """
    seen = {*summary.added, *summary.updated, *summary.unchanged}
    candidates = [key for key, row in known.items() if row.workspace == origin and key not in seen]
    gone = sorted(key for key in candidates if _really_gone(stages / key))
    if not gone:
        return
    with store.write() as connection:
        for key in gone:
            for table in (*schema.CHILDREN, schema.runs):
                connection.execute(delete(table).where(table.c.key == key))
    summary.removed.extend(gone)


def _really_gone(folder: Path) -> bool:
    """There is no valid record, and that is not because the file cannot be read just now."""
    try:
        return Record.model_validate_json((folder / "record.json").read_bytes()).key != folder.name
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
