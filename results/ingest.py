"""Collecting: from the records in a workspace to the rows of a database. The only writer there is.

Collecting twice changes nothing; collecting after a while looks only at what is new or changed. Deleting the database
and collecting again gives the same rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from results import columns
from results import store as schema
from results.board import digest, family_of, mark_stale, row_of
from results.flags import uncounted
from results.invalid import first_invalid
from results.metrics import COUNT_METRICS, MetricInfo, mean_of_ratios
from results.protocol import protocol_words
from results.record import SCHEMA_VERSION, Metrics, MetricValue, Record, codes_behind, schema_version
from results.refresh import PATIENCE_S, refresh
from results.statistics import class_counts, mean_iou, predicted_absent
from results.store import Store, insert_all

CONFUSION, STATES = "confusion.npz", "metrics.npz"
"""Files beside a record: confusion matrices of every image, and what other metrics add up over images."""
BATCH = 500
"""Records read before they are written in one transaction: no lock is held while files are read."""
MANY = 3000
"""Records from which on several processes read: fewer are read sooner than those have started."""
FAST = 1
"""zlib's level: half the time of its default for a tenth more bytes."""


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
        pending: rows of the leaderboard whose tiers and intervals over images there was no time to draw.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    invalid: list[Problem] = field(default_factory=list)
    pending: int = 0

    def __str__(self) -> str:
        counts = {"added": self.added, "updated": self.updated, "unchanged": self.unchanged, "removed": self.removed}
        words = [f"{len(keys)} {name}" for name, keys in counts.items() if keys or name in ("added", "unchanged")]
        return ", ".join([*words, f"{len(self.invalid)} invalid"] if self.invalid else words)


@dataclass(frozen=True)
class _Row:
    """What one record becomes: rows of the tables."""

    run: dict[str, Any]
    children: dict[str, list[dict[str, Any]]]


class _Known(NamedTuple):
    """What the database holds of a run, as far as deciding whether to read it again needs it."""

    stamp: str
    confusion_stamp: str
    workspace: str
    problem: str


def collect(workspace: Path, store: Store, patience_s: float = PATIENCE_S, processes: int = 1) -> Summary:
    """Bring the database up to date with `WORKSPACE/stages/*/record.json`.

    A record that is gone, or no longer valid, loses its row if it was collected from this workspace; a file that
    cannot be read just now (a network file system that stutters) does not.

    Args:
        patience_s: so long the leaderboard's tiers and intervals over images are drawn.
        processes: that read records, where these are very many; more than one only where a script guards its
            `__main__`, as `multiprocessing` wants it.

    Raises:
        ValueError: the workspace has no stages folder, or the store is read-only.
    """
    stages = workspace / "stages"
    if not stages.is_dir():
        raise ValueError(f"{workspace} is not a workspace: it holds no stages folder")
    origin, summary, known = str(workspace.resolve()), Summary(), _known(store)
    for some in _batched(_read_changed(stages, origin, known, summary, processes), BATCH):
        with store.write() as connection:
            _write_all(connection, some, stages, known, summary)
    _remove_gone(store, stages, origin, known, summary)
    summary.pending = refresh(store, patience_s)
    return summary


def _known(store: Store) -> dict[str, _Known]:
    r = schema.runs.c
    with store.read() as connection:
        rows = connection.execute(select(r.key, r.stamp, r.confusion_stamp, r.workspace, r.problem))
        return {row[0]: _Known._make(row[1:]) for row in rows}


def _read_changed(
    stages: Path, origin: str, known: dict[str, _Known], summary: Summary, processes: int
) -> Iterator[_Row]:
    """The rows of records that are new or changed; the others, and what is invalid, are noted in the summary."""
    with os.scandir(stages) as entries:
        folders = {entry.name: entry.path for entry in entries}
    changed = []
    for name in sorted(folders):
        stamps = _stamps(folders[name])
        before = known.get(name)
        if before and before[:3] == (*stamps, origin):
            summary.unchanged.append(name)
            if before.problem:
                summary.invalid.append(_problem(stages / name, before.problem))
        elif stamps[0]:
            changed.append((stages / name, stamps))
    for (folder, _), row in zip(changed, _read_all(changed, origin, processes)):
        if isinstance(row, str):
            summary.invalid.append(Problem(folder / "record.json", row))
            continue
        if row.run["problem"]:
            summary.invalid.append(_problem(folder, row.run["problem"]))
        yield row


_Changed = tuple[Path, tuple[str, str]]
"""A stage's folder, and the stamps of its files."""


def _read_all(changed: Sequence[_Changed], origin: str, processes: int) -> Iterator[_Row | str]:
    """The row of each stage in turn, or why there is none."""
    parts = [changed[start : start + BATCH] for start in range(0, len(changed), BATCH)]
    if processes < 2 or len(changed) < MANY:
        for part in parts:
            for one in part:
                yield from _read_some([one], origin)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting: deque[Future[list[_Row | str]]] = deque()
        for part in parts:
            waiting.append(pool.submit(_read_some, part, origin))
            if len(waiting) > 2 * processes:  # no more in memory than are soon written
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _read_some(changed: Sequence[_Changed], origin: str) -> list[_Row | str]:
    found: list[_Row | str] = []
    for folder, stamps in changed:
        try:
            found.append(_row(folder, origin, stamps))
        except Exception as error:  # whatever is odd about one record, the others are collected
            found.append(_why(error))
    return found


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


def _stamps(folder: str) -> tuple[str, str]:
    """What a record, and the files beside it, look like from outside; empty for what is not there."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: _stamp(entry) for entry in entries if entry.name in ("record.json", CONFUSION, STATES)}
    except OSError:
        return "", ""
    return found.get("record.json", ""), f"{found.get(CONFUSION, '')}|{found.get(STATES, '')}".rstrip("|")


def _stamp(file: os.DirEntry[str]) -> str:
    try:
        seen = file.stat()
    except FileNotFoundError:
        return ""
    return f"{seen.st_mtime_ns}:{seen.st_size}"


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
    text = (folder / "record.json").read_bytes()
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        if (version := schema_version(text)) > SCHEMA_VERSION:
            what = (
                f"it was written by a newer version of the harness (schema {version}, this one knows {SCHEMA_VERSION})"
            )
            raise ValueError(f"{what}: update this one") from error
        raise
    if record.key != folder.name:
        raise ValueError(f"the record is of key {record.key}, its folder is {folder.name}")
    images, problem = _images(folder, record)
    total = None if images.counts is None else images.counts.sum(0)
    run = _clean(_run(record) | _classes(record, total))
    run |= {"workspace": origin, "stamp": stamps[0], "confusion_stamp": stamps[1], "problem": problem}
    run |= {"row": row_of(run), "family": family_of(run)}
    children = {"records": [{"record": zlib.compress(text, FAST)}]} | _children(record, total) | images.rows()
    return _Row(run, {name: [_clean(child) for child in rows] for name, rows in children.items()})


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """The row in what every database can hold: NaN is NULL, and texts (a traceback's, say) have no NUL character."""
    for name, value in row.items():
        if value.__class__ is float and value != value:
            row[name] = None
        elif value.__class__ is str and "\x00" in value:
            row[name] = value.replace("\x00", "\ufffd")
    return row


def _run(record: Record) -> dict[str, Any]:
    """The row of `runs`, all but where it came from."""
    row: dict[str, Any] = {}
    for place, names, read in _SOURCES:
        found: Any = record
        for name in place:
            found = getattr(found, name, None)
        row |= dict(zip(names, read(found) if found is not None else repeat(None)))
    parents = ",".join(sorted(set(record.parents.values())))
    counted: dict[str, Any] = {"manifest": _manifest(record), "variant": _variant(record), "parents": parents}
    counted |= {"uncounted": uncounted(record.cost.uncounted) if record.cost else ""}
    counted |= {"samples_planned": _planned(record), "other_code": len(codes_behind(record.attempts)) > 1}
    return row | counted | {"evaluation": protocol_words(record.spec) if record.metrics else ""}


_Source = tuple[tuple[str, ...], list[str], Callable[[Any], Iterable[Any]]]
"""The way to a part of a record, the columns whose values stand in it, and what reads these."""


def _sources() -> list[_Source]:
    """Every part of a record that columns stand in."""
    parts: dict[tuple[str, ...], dict[str, str]] = {}
    for column in columns.STORED:
        if column.source:
            *place, last = column.source.split(".")
            parts.setdefault(tuple(place), {})[column.name] = last
    return [(place, list(there), _reader(list(there.values()))) for place, there in parts.items()]


def _reader(names: Sequence[str]) -> Callable[[Any], Iterable[Any]]:
    """What reads these attributes, or items, of a part of a record."""
    read: Callable[[Any], Any] = itemgetter(*map(int, names)) if names[0].isdigit() else attrgetter(*names)
    return read if len(names) > 1 else lambda part: (read(part),)


_SOURCES = _sources()


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
    """Over which classes the means of a run are, and how much was called another.

    Args:
        counts: (3, K), of the whole split.
    """
    metrics = record.metrics
    if metrics is None or (counts is None and not metrics.classes):
        return {"classes": None, "absent": None, "absent_share": None}
    declared, there, share = list(metrics.per_class_iou), set(metrics.classes), sum(metrics.predicted_absent.values())
    if counts is not None:
        there = {name for name, labelled in zip(declared, counts[1]) if labelled > 0}
        share = float(predicted_absent(counts).sum())
    absent = [name for name in declared if name not in there]
    return {"classes": f"{len(there)} of {len(declared)}", "absent": ", ".join(absent), "absent_share": share}


def _children(record: Record, counts: NDArray[np.int64] | None) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables that hang on `runs`.

    Args:
        counts: (3, K), of the whole split.
    """
    per_class = dict(record.metrics.per_class_iou) if record.metrics else {}
    if counts is not None:  # older records have 0 for classes that were only predicted
        per_class = {name: iou if there else None for (name, iou), there in zip(per_class.items(), counts[1])}
    taught_by = set(record.parents.values()) if record.kind == "student" else ()
    return {
        "parents": [{"parent": parent} for parent in sorted(taught_by)],
        "class_iou": [{"position": i, "class": n, "iou": v} for i, (n, v) in enumerate(per_class.items())],
        "terms": [{"term": name, **log.model_dump()} for name, log in record.training.terms.items()],
        "attempts": [attempt.model_dump() for attempt in record.attempts],
        "metrics": _metrics(record, counts),
    }


def _metrics(record: Record, counts: NDArray[np.int64] | None) -> list[dict[str, Any]]:
    """The rows of `metrics`: what the record says, and what its class counts say of metrics that it does not know.

    Each holds its declaration, `MetricInfo`, which is a row of another table.
    """
    if record.metrics is None:
        return []
    found = {name: (value.value, _declared(name, value)) for name, value in record.metrics.values.items()}
    for name, metric in COUNT_METRICS.items():
        value = found[name][0] if name in found else None
        if counts is not None and not (name in found and record.metrics.classes):
            value = float(metric(counts))  # older records' mIoU is also over classes that were only predicted
        elif name in Metrics.model_fields:
            value = getattr(record.metrics, name)
        elif name not in found:
            continue
        found[name] = value, metric.info
    return [{"name": name, "value": value, "declaration": info} for name, (value, info) in found.items()]


def _declared(name: str, value: MetricValue) -> MetricInfo:
    texts = (text.replace("\x00", "\ufffd") for text in (value.heading, value.unit, value.summary))
    heading, unit, summary = texts
    return MetricInfo(name, heading, unit, value.direction, value.digits, summary)


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
    return zlib.compress(np.ascontiguousarray(array, dtype=dtype).tobytes(), FAST)


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
    with zipfile.ZipFile(io.BytesIO(content)) as arrays:
        return {name.removesuffix(".npy"): _array(arrays.read(name)) for name in arrays.namelist()}


_NPY = b"\x93NUMPY\x01\x00"
"""What a file of an array begins with, in the version of the format that NumPy writes."""


def _array(content: bytes) -> NDArray[Any]:
    """The array in a file: `np.load` without reading equal headers again, which takes it longest.

    Raises:
        ValueError: it is no array, or one of Python's objects.
    """
    if not content.startswith(_NPY):
        return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
    start = len(_NPY) + 2 + int.from_bytes(content[len(_NPY) : len(_NPY) + 2], "little")
    shape, by_columns, dtype = _header(content[len(_NPY) : start])
    values = np.frombuffer(content, dtype, math.prod(shape), start)
    return values.reshape(shape, order="F" if by_columns else "C")


@lru_cache(maxsize=256)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the array that follows."""
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(content))
    if dtype.hasobject:
        raise ValueError("Python's objects are not read")
    return shape, by_columns, dtype


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


def _write_all(
    connection: Connection, rows: list[_Row], stages: Path, known: dict[str, _Known], summary: Summary
) -> None:
    """Write many runs at once; one at a time where the database would not have one of them.

    The others of the transaction stand, and the summary says why it would not.
    """
    driver = connection.dialect.loaded_dbapi.Error
    try:
        with connection.begin_nested():
            _write(connection, rows)
    except (driver, DBAPIError, OverflowError, UnicodeError):
        if len(rows) > 1:
            for row in rows:
                _write_all(connection, [row], stages, known, summary)
            return
        error = sys.exception()
        reason = getattr(error, "orig", None) or error
        dbapi = connection.dialect.loaded_dbapi
        refused = (dbapi.IntegrityError, dbapi.DataError, dbapi.InterfaceError, OverflowError, UnicodeError)
        if not isinstance(reason, refused):
            raise
        summary.invalid.append(Problem(stages / rows[0].run["key"] / "record.json", _why(reason)))
        return
    for row in rows:
        (summary.updated if row.run["key"] in known else summary.added).append(row.run["key"])


def _write(connection: Connection, rows: list[_Row]) -> None:
    """Insert or replace runs with all that hangs on them."""
    keys = [row.run["key"] for row in rows]
    mark_stale(connection, keys)  # what they were
    connection.execute(delete(schema.runs).where(schema.runs.c.key.in_(keys)))
    insert_all(connection, schema.runs, [row.run for row in rows])
    declared = declare(connection, {metric["declaration"] for row in rows for metric in row.children["metrics"]})
    for table in schema.CHILDREN:
        found = [{"key": row.run["key"], **child} for row in rows for child in row.children[table.name]]
        if table is schema.metrics:
            found = [{**metric, "declaration": declared[metric["declaration"]]} for metric in found]
        insert_all(connection, table, found)
    mark_stale(connection, keys)  # what they are


def declare(connection: Connection, infos: Iterable[MetricInfo]) -> dict[MetricInfo, str]:
    """Write down what metrics declare, where that is not there yet; the id of each declaration."""
    ids = {info: digest(*asdict(info).values()) for info in sorted(infos, key=str)}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for info, id_ in ids.items():
        row = {"id": id_, **asdict(info)}
        connection.execute(insert(schema.declarations).values(row).on_conflict_do_nothing())
    return ids


def _remove_gone(store: Store, stages: Path, origin: str, known: dict[str, _Known], summary: Summary) -> None:
    """Remove rows of this workspace whose record is not there any more, or is not valid any more.

    Only rows that were there at the beginning are looked at: another collector may be adding new ones.
    """
    seen = {*summary.added, *summary.updated, *summary.unchanged}
    candidates = [key for key, row in known.items() if row.workspace == origin and key not in seen]
    gone = sorted(key for key in candidates if _really_gone(stages / key))
    if not gone:
        return
    for start in range(0, len(gone), BATCH):
        some = gone[start : start + BATCH]
        with store.write() as connection:
            mark_stale(connection, some)
            connection.execute(delete(schema.runs).where(schema.runs.c.key.in_(some)))
    summary.removed.extend(gone)


def _really_gone(folder: Path) -> bool:
    """There is no valid record, and that is not because the file cannot be read just now."""
    try:
        return Record.model_validate_json((folder / "record.json").read_bytes()).key != folder.name
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
