"""Collecting, on both backends: idempotent, incremental, never stopped by a bad record, whole after a rebuild."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from results import ingest, queries
from results import store as schema
from results.ingest import collect
from results.leaderboard import leaderboard
from results.record import Attempt, codes_behind
from results.store import Store, open_store
from tests.processes import Command
from tests.results.factory import Fake, sweep, write_all

FAKES = sweep(("none", "ka"), (16,), (0, 1), images=4)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return write_all(tmp_path / "runs", FAKES)


def rows(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the database."""
    with store.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
            for table in schema.metadata.sorted_tables
        }


def count(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(schema.runs)).scalar_one())


def edit(folder: Path, **changes: Any) -> None:
    """Change fields of a record in place."""
    path = folder / "record.json"
    data = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        part = data
        for parent in parents:
            part = part[parent]
        part[last] = value
    path.write_text(json.dumps(data))


def attempts_of(*told: tuple[int, str]) -> list[Attempt]:
    """Attempts that began at some iterations, under some code."""
    return [Attempt(number=n, started="", resumed_at=at, code=code) for n, (at, code) in enumerate(told, 1)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(0, "a")], ["a"]),
        ([(0, "a"), (80, "b")], ["a", "b"]),
        ([(0, "a"), (0, "b")], ["b"]),  # begun anew
        ([(0, "a"), (80, "b"), (80, "a")], ["a"]),  # the second one left nothing
        ([(0, "a"), (80, "b"), (90, "a"), (95, "c")], ["a", "b", "c"]),
        ([(0, ""), (80, "a")], ["a"]),  # an older record does not tell
    ],
)
def test_code_behind_a_result(told: list[tuple[int, str]], expected: list[str]) -> None:
    assert codes_behind(attempts_of(*told)) == expected


def test_a_run_that_was_resumed_under_other_code_is_flagged(store: Store, tmp_path: Path) -> None:
    fakes = [Fake("none", seed=0, images=3), Fake("none", seed=1, images=3), Fake("ka", images=3)]
    write_all(tmp_path, fakes)
    record = fakes[1].record().model_copy(update={"attempts": attempts_of((0, "a" * 64), (80, "b" * 64))})
    (tmp_path / "stages" / fakes[1].key / "record.json").write_text(record.model_dump_json())
    collect(tmp_path, store)
    flags = leaderboard(store).set_index("method")["flags"]
    assert "resumed under other code" in flags["none"] and "other code" not in flags["ka"]


def test_rows_say_what_the_records_say(store: Store, workspace: Path) -> None:
    summary = collect(workspace, store)
    assert sorted(summary.added) == sorted(fake.key for fake in FAKES)
    assert (summary.updated, summary.unchanged, summary.removed, summary.invalid) == ([], [], [], [])
    fake = FAKES[-1]
    record, row = fake.record(), queries.run(store, fake.key).row
    assert record.metrics and record.cell and record.cost
    for name, value in record.cell.model_dump().items():
        assert row[name] == value
    assert row["miou"] == record.metrics.miou and row["macs"] == record.cost.macs
    assert row["reproduce"] == record.reproduce and row["problem"] == ""
    assert queries.run(store, fake.key).record.model_copy(update={"artefacts": {}}) == record
    names, counts = queries.image_class_counts(store, [fake.key])[fake.key]
    assert names == tuple(f"image{n:03d}" for n in range(4))
    assert (counts == schema_tally(fake)).all()


def schema_tally(fake: Fake) -> Any:
    from results.statistics import class_counts

    return class_counts(fake.matrices())


def test_twice_changes_nothing(store: Store, workspace: Path) -> None:
    collect(workspace, store)
    before = rows(store)
    summary = collect(workspace, store)
    assert len(summary.unchanged) == len(FAKES) and not summary.added and not summary.updated
    assert rows(store) == before


def test_a_deleted_database_comes_back_row_for_row(store: Store, url: str, workspace: Path) -> None:
    # A history: some collected early, one changed, one bad, one removed.
    collect(workspace, store)
    Fake("kd", 8, 3).write(workspace)
    gone = Fake("kd", 8, 4).write(workspace)
    collect(workspace, store)
    edit(workspace / "stages" / FAKES[1].key, environment__host="node2")
    for file in ("record.json", "confusion.npz"):
        (gone / file).unlink()
    bad = Fake("kd", 8, 5).write(workspace)
    (bad / "record.json").write_text("{")
    collect(workspace, store)
    history = rows(store)
    schema.metadata.drop_all(store.engine)  # the database deleted, whatever the backend
    with open_store(url) as again:
        collect(workspace, again)
        assert rows(again) == history
        assert count(again) == len(FAKES) + 1


def test_several_processes_read_the_same(
    file_store: Store, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Fake("kd", 8, 5).write(workspace)
    (bad / "record.json").write_text("{")
    alone = collect(workspace, file_store)
    monkeypatch.setattr(ingest, "MANY", 2)
    monkeypatch.setattr(ingest, "BATCH", 2)
    with open_store(tmp_path / "other.db") as other:
        together = collect(workspace, other, processes=2)
        assert together == alone and len(together.invalid) == 1
        assert rows(other) == rows(file_store)


def test_only_what_changed_is_read_again(store: Store, workspace: Path) -> None:
    collect(workspace, store)
    new = Fake("kd", 16, 0, images=4)
    new.write(workspace)
    edit(workspace / "stages" / FAKES[1].key, environment__host="node2")
    summary = collect(workspace, store)
    assert summary.added == [new.key] and summary.updated == [FAKES[1].key]
    assert queries.run(store, FAKES[1].key).row["host"] == "node2"


def test_a_changed_record_leaves_no_old_children(store: Store, workspace: Path) -> None:
    fake = FAKES[-1]
    collect(workspace, store)
    edit(workspace / "stages" / fake.key, training__terms={}, metrics__per_class_iou={"road": 0.5})
    collect(workspace, store)
    assert len(queries.per_class(store, [fake.key])) == 1
    assert not [row for row in rows(store)["terms"] if row[0] == fake.key]


def changed(text: str, **fields: Any) -> str:
    """A record's text with other values in it."""
    data = json.loads(text)
    for name, value in fields.items():
        data[name] = data[name] | value if isinstance(value, dict) else value
    return json.dumps(data)


BAD: dict[str, Any] = {
    "half written": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no JSON": lambda text: "\x00\x01",
    "another schema": lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
    "an unknown field": lambda text: text.replace('"kind"', '"new": 1, "kind"', 1),
    "of another key": lambda text: text.replace('"key": "', '"key": "f', 1),
    "accuracy in per cent": lambda text: text.replace('"pixel_accuracy": 0.', '"pixel_accuracy": 7', 1),
    "accuracy below zero": lambda text: changed(text, metrics={"miou": -0.25}),
    "no count": lambda text: changed(text, cost={"macs": float("nan")}),
    "a seed no database can hold": lambda text: changed(text, cell={"seed": 2**63}),
    "a metric with the name of a column": lambda text: changed(
        text, metrics={"values": {"seeds": {"value": 0.5, "heading": "seeds"}}}
    ),
    "a metric that is no fraction": lambda text: changed(
        text, metrics={"values": {"hits": {"value": 50.0, "heading": "hits", "unit": "%"}}}
    ),
    "a spec whose method is none": lambda text: changed(text, spec={"method": {"parts": 5}}),
    "a recipe that no database can hold": lambda text: changed(
        text, spec={"recipe": {"iterations": 2**62, "batch_size": 16}}
    ),
    "nested too deeply": lambda text: "[" * 100_000 + "]" * 100_000,
    "the same attempt twice": lambda text: changed(text, attempts=2 * json.loads(text)["attempts"]),
}


def test_bad_records_are_told_and_stop_nobody(store: Store, workspace: Path) -> None:
    bad = {}
    for seed, (name, spoil) in enumerate(BAD.items(), start=100):
        folder = Fake("kd", 16, seed, images=4).write(workspace)
        file = folder / "record.json"
        text = file.read_text()
        file.write_text(spoil(text))
        assert file.read_text() != text, name
        bad[file] = name
    summary = collect(workspace, store)
    assert len(summary.added) == len(FAKES) == count(store)
    assert {bad[path] for path, _ in summary.invalid} == set(BAD)
    assert all(why and "\n" not in why for _, why in summary.invalid)
    assert len(collect(workspace, store).invalid) == len(BAD)  # and told again the next time


def test_a_newer_record_is_not_called_broken(store: Store, workspace: Path) -> None:
    file = workspace / "stages" / FAKES[0].key / "record.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 7, "novel": {}', 1))
    ((path, why),) = collect(workspace, store).invalid
    assert path == file and "written by a newer version of the harness (schema 7" in why and "update" in why


def test_a_record_that_went_bad_loses_its_row(store: Store, workspace: Path) -> None:
    collect(workspace, store)
    (workspace / "stages" / FAKES[2].key / "record.json").write_text("{")
    summary = collect(workspace, store)
    assert summary.removed == [FAKES[2].key] and len(summary.invalid) == 1
    assert count(store) == len(FAKES) - 1


def test_a_removed_stage_loses_its_row_and_others_keep_theirs(store: Store, workspace: Path, tmp_path: Path) -> None:
    other = write_all(tmp_path / "others", [Fake("kd", 32, 9, images=4)])
    collect(other, store)
    collect(workspace, store)
    (workspace / "stages" / FAKES[0].key / "record.json").unlink()
    summary = collect(workspace, store)
    assert summary.removed == [FAKES[0].key]
    assert count(store) == len(FAKES)  # one gone, one of the other workspace
    assert not [
        row for name in ("class_iou", "class_counts", "metrics") for row in rows(store)[name] if row[0] == FAKES[0].key
    ]


def test_a_stutter_of_the_file_system_keeps_the_row(
    file_store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(workspace, file_store)
    file = workspace / "stages" / FAKES[0].key / "record.json"
    os.utime(file, (0, 0))
    text, data = Path.read_text, Path.read_bytes

    def stutter(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == file:
            raise OSError(116, "Stale file handle")
        return (text if kwargs or args else data)(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", stutter)
    monkeypatch.setattr(Path, "read_bytes", stutter)
    summary = collect(workspace, file_store)
    assert not summary.removed and "Stale" in summary.invalid[0].why and count(file_store) == len(FAKES)


def spoiled(folder: Path, content: bytes | None, keep_digest: bool = True) -> None:
    """Put other per-image matrices beside a record."""
    if content is not None:
        (folder / "confusion.npz").write_bytes(content)
    if not keep_digest:
        edit(folder, artefacts={})


@pytest.mark.parametrize("kind", ["truncated", "another run's", "no archive"])
def test_wrong_matrices_are_told_and_the_row_stays(file_store: Store, workspace: Path, kind: str) -> None:
    folder = workspace / "stages" / FAKES[1].key
    other = (workspace / "stages" / FAKES[2].key / "confusion.npz").read_bytes()
    content = {"truncated": other[:100], "another run's": other, "no archive": b"matrices"}[kind]
    spoiled(folder, content, keep_digest=False)
    for _ in range(2):  # told every time
        summary = collect(workspace, file_store)
        assert [path.name for path, _ in summary.invalid] == ["confusion.npz"]
    if kind == "another run's":
        assert "the record says" in summary.invalid[0].why
    assert queries.run(file_store, FAKES[1].key).row["problem"]
    assert FAKES[1].key not in queries.image_class_counts(file_store, [FAKES[1].key])
    (folder / "confusion.npz").unlink()
    assert not collect(workspace, file_store).invalid


def test_matrices_that_are_not_those_of_the_record(file_store: Store, workspace: Path) -> None:
    folder = workspace / "stages" / FAKES[1].key
    spoiled(folder, (folder / "confusion.npz").read_bytes() + b"\0")
    assert "sha256" in collect(workspace, file_store).invalid[0].why


def test_odd_values_fit_both_backends(store: Store, workspace: Path) -> None:
    folder = workspace / "stages" / FAKES[3].key
    edit(
        folder,
        training__loss_last=float("nan"),
        training__seconds=float("inf"),
        cell__seed=20_261_107_123,
        attempts=[{"number": 1, "started": "", "outcome": "failed", "reason": "bytes \x00 of a crash, ü, 測"}],
    )
    summary = collect(workspace, store)
    assert not summary.invalid
    run = queries.run(store, FAKES[3].key)
    assert run.row["loss_last"] is None and run.row["seed"] == 20_261_107_123
    assert run.record.attempts[0].reason == "bytes \x00 of a crash, ü, 測"


def test_translators_have_no_cell(file_store: Store, workspace: Path) -> None:
    fake = replace(FAKES[1], seed=77)
    folder = fake.write(workspace)
    edit(folder, kind="translator", cell=None, metrics=None, cost=None)
    summary = collect(workspace, file_store)
    assert fake.key in summary.added and not summary.invalid
    assert fake.key not in ",".join(leaderboard(file_store)["keys"])
    assert fake.key in set(queries.runs(file_store)["key"])


def test_no_workspace(file_store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stages folder"):
        collect(tmp_path / "nowhere", file_store)


COLLECT = """
import sys
from pathlib import Path
from results.ingest import collect
from results.store import open_store
with open_store(sys.argv[1]) as store:
    for workspace in sys.argv[2:]:
        collect(Path(workspace), store)
"""


def test_many_collectors_at_once_lose_nothing(url: str, tmp_path: Path) -> None:
    """Four processes on a new database: each a workspace of its own, and one that all share."""
    shared = write_all(tmp_path / "shared", sweep(("none", "kd"), (8, 16), (0, 1), images=2))
    alone = [sweep(("ka",), (8,), range(10 * n, 10 * n + 4), images=2)[1:] for n in range(4)]
    own = [write_all(tmp_path / f"own{n}", fakes) for n, fakes in enumerate(alone)]
    processes = [Command(["-c", COLLECT, url, str(shared), str(mine), str(shared)]) for mine in own]
    for process in processes:
        assert process.communicate()[1] == "" and process.returncode == 0
    with open_store(url) as store:
        together = rows(store)
        assert count(store) == 9 + 4 * 4
        for workspace in [*own, shared]:
            assert not collect(workspace, store).added
        assert rows(store) == together
