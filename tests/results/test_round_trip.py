"""Any record that can be built is read again as it was: from its file, and from both databases."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from results import queries
from results.columns import STORED, refuse_name
from results.ingest import collect
from results.record import (
    Attempt,
    Best,
    Cell,
    Cost,
    Environment,
    Latency,
    Metrics,
    MetricValue,
    Record,
    TermLog,
    Training,
)
from results.store import Store, open_store
from tests.results.factory import Fake

TEXT = st.text(max_size=12) | st.sampled_from(["a\x00b", "\x1b[2J", "測ü", "=1+1", "' OR 1=1 --", "\U0010ffff"])
COUNT = st.integers(0, 2**63 - 1) | st.sampled_from([0, 2**31, 2**53 + 1, 2**63 - 1])
NUMBER = st.floats(allow_nan=True, allow_infinity=True)
FRACTION = st.floats(0, 1) | st.just(math.nan)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
SHA = st.text("0123456789abcdef", min_size=8, max_size=8)
METRIC = st.one_of(
    st.builds(MetricValue, value=st.none() | st.floats(0, 1), heading=TEXT, unit=st.just("%"), summary=TEXT),
    st.builds(MetricValue, value=st.none() | FINITE, heading=TEXT, unit=TEXT.filter(lambda t: t != "%")),
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not refuse_name(name))


def at(data: Any, path: str) -> Any:
    """What stands at a dotted path of a record as JSON; None where the way ends early."""
    for name in path.split("."):
        if data is None:
            return None
        data = data[int(name)] if name.isdigit() else data.get(name)
    return data


METRICS = st.builds(
    Metrics,
    split=TEXT,
    images=COUNT,
    miou=FRACTION,
    pixel_accuracy=FRACTION,
    per_class_iou=st.dictionaries(TEXT, st.none() | st.floats(0, 1), max_size=3),
    best=st.none() | st.builds(Best, split=TEXT, miou=FRACTION, iteration=COUNT),
    values=st.dictionaries(NAMES | st.sampled_from(["miou", "fw_iou", "boundary_iou"]), METRIC, max_size=3),
)
TERM = st.builds(TermLog, weight=NUMBER, first=NUMBER, last=NUMBER)
TRAINING = st.builds(
    Training,
    iterations=COUNT,
    samples_seen=COUNT,
    seconds=NUMBER,
    step_ms=NUMBER,
    loss_first=NUMBER,
    loss_last=NUMBER,
    terms=st.dictionaries(TEXT.map(lambda text: text.replace("\x00", "")), TERM, max_size=2),
    health=st.dictionaries(TEXT, NUMBER, max_size=2),
    precision_asked=TEXT,
    precision=TEXT,
    channels_last=st.booleans(),
    numerics=TEXT,
    workers_beside=COUNT,
    own_ms=st.none() | FINITE,
    paid_s=st.none() | FINITE,
    shared_by=COUNT,
)
AMOUNT = st.floats(0, allow_infinity=False)
COST = st.builds(
    Cost,
    input_size=st.tuples(COUNT, COUNT),
    macs=AMOUNT,
    macs_by_operator=st.dictionaries(TEXT, AMOUNT, max_size=2),
    uncounted=st.dictionaries(TEXT, COUNT, max_size=2),
    parameters=COUNT,
    latency=st.none()
    | st.builds(Latency, median_ms=NUMBER, p95_ms=NUMBER, runs=COUNT, device=TEXT, precision=TEXT, batch=COUNT),
    peak_memory_bytes=st.none() | COUNT,
    dilation=TEXT,
)
RECORD = st.builds(
    Record,
    key=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
    kind=st.sampled_from(["teacher", "translator", "student"]),
    name=TEXT,
    cell=st.none()
    | st.builds(
        Cell, dataset=TEXT, student=TEXT, stride=COUNT, method=TEXT, teacher=TEXT, recipe=TEXT, weights=TEXT, seed=COUNT
    ),
    spec=st.dictionaries(TEXT, JSON, max_size=2),
    parents=st.dictionaries(TEXT, SHA, max_size=2),
    metrics=st.none() | METRICS,
    training=TRAINING,
    cost=st.none() | COST,
    environment=st.builds(
        Environment,
        revision=TEXT,
        dirty=st.booleans(),
        versions=st.dictionaries(TEXT, TEXT, max_size=2),
        host=TEXT,
        device=TEXT,
        threads=COUNT,
        launcher=TEXT,
        job=TEXT,
    ),
    attempts=st.lists(
        st.builds(Attempt, number=COUNT, started=TEXT, ended=TEXT, reason=TEXT, resumed_at=COUNT),
        max_size=2,
        unique_by=lambda attempt: attempt.number,
    ),
    artefacts=st.dictionaries(TEXT, SHA, max_size=1),
    reproduce=TEXT,
    started=TEXT,
    finished=TEXT,
)


def alike(one: Record, other: Record) -> bool:
    """Equal, NaN being equal to NaN."""
    return repr(one.model_dump()) == repr(other.model_dump())


@settings(max_examples=150, deadline=None)
@given(RECORD)
def test_through_its_file(record: Record) -> None:
    text = record.model_dump_json(indent=1)
    again = Record.model_validate_json(text)
    assert alike(again, record) and again.model_dump_json(indent=1) == text


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all examples."""
    if request.param == "sqlite":
        url = str(tmp_path_factory.mktemp("round") / "results.db")
    else:
        url = str(request.getfixturevalue("postgres_server"))
    with open_store(url) as store:
        yield store
        if request.param != "sqlite":
            from results import store as schema

            schema.metadata.drop_all(store.engine)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORD)
def test_through_a_database(any_store: Store, tmp_path: Path, record: Record) -> None:
    shutil.rmtree(tmp_path / "stages", ignore_errors=True)
    folder = tmp_path / "stages" / record.key
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
    summary = collect(tmp_path, any_store)
    assert summary.invalid == [] and [*summary.added, *summary.updated] == [record.key]
    found = queries.run(any_store, f"key={record.key}")
    assert alike(found.record, record)
    data = record.model_dump()
    for column in STORED:
        if column.source:
            assert found.row[column.name] == stored(at(data, column.source)), column.name
    for name, value in (record.metrics.values if record.metrics else {}).items():
        if name not in Metrics.model_fields:
            assert found.row[name] == value.value, name
    assert record.key in set(queries.runs(any_store)["key"])


def stored(value: Any) -> Any:
    """What a database holds for it: NULL for NaN, no NUL character."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


BUILD = {
    "a seed no database can hold": {"cell": {"seed": 2**63}},
    "a stride below zero": {"cell": {"stride": -1}},
    "accuracy in per cent": {"metrics": {"miou": 52.3}},
    "a class in per cent": {"metrics": {"per_class_iou": {"road": 52.3}}},
    "endless multiply-adds": {"cost": {"macs": math.inf}},
    "a key that is a path": {"key": "../x"},
    "a metric that is a column": {"metrics": {"values": {"stride": {"value": 1, "heading": "x"}}}},
    "a metric without end": {"metrics": {"values": {"far": {"value": math.inf, "heading": "x"}}}},
}


@pytest.mark.parametrize("what", BUILD)
def test_what_could_not_be_stored_cannot_be_built(what: str) -> None:
    data: dict[str, Any] = Fake("ka").record().model_dump()
    for name, value in BUILD[what].items():
        data[name] = data[name] | value if isinstance(value, dict) else value
    with pytest.raises(ValidationError):
        Record.model_validate(data)
