"""What would be found only after training was paid for is found before anything is launched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli.app import run
from harness.errors import HarnessError
from harness.launch.preflight import prepare
from harness.launch.rehearsal import rehearse
from results.store import open_store, schema_version
from tests.end_to_end.tiny import DATASET, STUDENT, TEACHER, tiny_flags
from tests.processes import may_mount, python


def _planned(root: Path, **changes: Any) -> harness.launch.run_sweep.PlannedSweep:  # type: ignore[name-defined]
    small = {"students": STUDENT, "teachers": TEACHER, "dataset": DATASET, "recipe": "quick", "device": "cpu"}
    return harness.plan(**{"methods": "none", "workspace": root, "progress": False, **small, **changes})


def _prepare(root: Path, **changes: Any) -> None:
    planned = _planned(root, **changes)
    prepare(planned.plan, planned.missing, planned.options)


def _nothing_ran(root: Path) -> bool:
    return not (root / "stages").exists() and not (root / "sweeps").exists()


@pytest.mark.parametrize("size", [50, 70])
def test_images_that_an_encoder_cannot_take(size: int, tmp_path: Path, picky: str) -> None:
    """Found after training before, when the first image was evaluated."""
    with pytest.raises(HarnessError, match=rf"cannot be evaluated on images of {size}x{size}.*eval_size=\[\d+,\d+\]"):
        _prepare(
            tmp_path,
            students=picky,
            strides=32,
            dataset=f"shapes[size={size},train=12,val=3,test=4]",
            set={"crop": [64, 64]},
        )


def test_one_of_many_sizes_that_an_encoder_cannot_take(tmp_path: Path, picky: str) -> None:
    planned = _planned(tmp_path, students=picky, strides=32, set={"crop": [64, 64]})
    specs = [node.spec for node in planned.plan.nodes.values()]
    dataset = harness.builders.datasets.open_dataset(specs[0].dataset)  # type: ignore[attr-defined]
    rehearse(specs, dataset, tmp_path, [(64, 64), (96, 64)])
    with pytest.raises(HarnessError, match=r"cannot be evaluated on images of 70x70"):
        rehearse(specs, dataset, tmp_path, [(64, 64), (70, 70)])


def test_a_crop_that_an_encoder_cannot_take(tmp_path: Path, picky: str) -> None:
    with pytest.raises(HarnessError, match="cannot train on 50x50"):
        _prepare(tmp_path, students=picky, strides=32, set={"crop": [50, 50], "eval_size": [64, 64]})


def test_a_file_that_holds_no_weights_of_the_encoder(tmp_path: Path) -> None:
    """Was: found by the run; on a cluster after the queue."""
    file = tmp_path / "random.safetensors"
    file.write_bytes(b"not weights")
    with pytest.raises(HarnessError, match=rf"{file} cannot be read"):
        _prepare(tmp_path, weights=str(file))
    assert _nothing_ran(tmp_path)


@pytest.mark.parametrize("head", ["aspp", "deeplabv3plus"])
def test_a_batch_of_one_under_a_batch_norm_with_a_map_of_one_pixel(head: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot train on 32x32 x 1.*--set batch_size=2"):
        _prepare(tmp_path, students=f"timm:test_resnet/{head}@32", strides=32, set={"crop": [32, 32], "batch_size": 1})


def test_parts_of_one_image_are_refused_as_a_batch_of_one_is(tmp_path: Path) -> None:
    changes = {"crop": [32, 32], "batch_size": 4, "accumulate": 4}
    with pytest.raises(HarnessError, match=r"cannot train on 32x32 x 1.*--set accumulate=1"):
        _prepare(tmp_path, students="timm:test_resnet/aspp@32", strides=32, set=changes)


def test_what_went_well_is_remembered_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = _planned(tmp_path, methods="none,kd", seeds=[0, 1], set={"crop": [32, 32]})
    specs = [node.spec for node in planned.plan.nodes.values()]
    dataset = harness.builders.datasets.open_dataset(specs[0].dataset)  # type: ignore[attr-defined]
    shown: list[str] = []
    from harness.launch import rehearsal

    real = rehearsal._rehearse
    monkeypatch.setattr(rehearsal, "_rehearse", lambda spec, size: (shown.append(spec.model.word), real(spec, size)))
    rehearse(specs, dataset, tmp_path)
    assert sorted(shown) == ["timm:test_efficientnet/linear@16", "timm:test_resnet/linear@8"]
    rehearse(specs, dataset, tmp_path)
    assert len(shown) == 2
    other = _planned(tmp_path, set={"crop": [32, 32], "batch_size": 3})
    rehearse([node.spec for node in other.plan.nodes.values()], dataset, tmp_path)
    assert len(shown) == 3


@pytest.mark.skipif(not may_mount(), reason="no mount of one's own allowed here")
@pytest.mark.parametrize(
    ("mount", "said"),
    [("size=1m", "1 MB are free for"), ("size=1m,ro", "cannot write to"), ("size=64m", "")],
    ids=["full", "read-only", "roomy"],
)
def test_a_workspace_on_a_disk_that_is_full_or_read_only(mount: str, said: str, tmp_path: Path) -> None:
    """A real one of that size; `prepare` is what is asked before anything is launched."""
    script = """
import pathlib, sys
from harness.launch.preflight import _try_writing
from harness.workspace.folders import Workspace
from tests.processes import mount
mount(sys.argv[2], sys.argv[1])
_try_writing(Workspace(pathlib.Path(sys.argv[1]) / "runs"))
"""
    done = python("-c", script, str(tmp_path), mount)
    assert (done.returncode == 0) == (not said), done.stderr
    assert said in done.stderr


def test_validation_without_a_split_to_validate_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.data.sets.shapes import Shapes

    monkeypatch.setattr(Shapes, "splits", ("train", "test"))
    with pytest.raises(HarnessError, match=r"validates every 4 iterations.*has no split val.*validate_every=0"):
        _planned(tmp_path, set={"validate_every": 4})
    with pytest.raises(HarnessError, match="has no split val"):
        _planned(tmp_path, set={"teacher": {"validate_every": 4}})
    _planned(tmp_path, set={"validate_every": 0})


@pytest.mark.parametrize("word", ["tpu", "gpu", "cuda:", "cuda:x", "meta", "CPU"])
def test_a_word_that_is_no_device(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", *tiny_flags(tmp_path / "runs"), "--device", word, "--dry-run"]) == 2
    assert f"'{word}' is not a device" in capsys.readouterr().err


@pytest.mark.parametrize("database", ["random bytes", "a folder", "another program's"])
def test_a_database_that_cannot_be_opened(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.db"
    if database == "a folder":
        file.mkdir()
    elif database == "random bytes":
        file.write_bytes(bytes(range(256)) * 64)
    else:
        import sqlite3

        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE runs (x)")
    assert run(["sweep", *tiny_flags(tmp_path / "runs", methods="none"), "--db", str(file)]) == 2
    said = capsys.readouterr().err
    assert str(file) in said and "name another" in said and "bug of the harness" not in said
    assert _nothing_ran(tmp_path / "runs")


def test_a_server_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg")
    words = tiny_flags(tmp_path / "runs", methods="none")
    assert run(["sweep", *words, "--db", "postgresql://me:SECRET@127.0.0.1:9/board"]) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1" in said and "PGPASSWORD" in said and "SECRET" not in said
    assert _nothing_ran(tmp_path / "runs")


def test_seeds_that_no_database_can_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--seeds", "--teacher-seed"):
        assert run(["sweep", *tiny_flags(tmp_path), flag, str(2**63), "--dry-run"]) == 2
        assert f"less than or equal to {2**63 - 1}" in capsys.readouterr().err
    assert run(["sweep", *tiny_flags(tmp_path, seeds=str(2**63 - 1)), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 2


def test_a_seed_that_is_named_twice_is_one_seed(tmp_path: Path) -> None:
    planned = _planned(tmp_path, seeds=[0, 0, 1, 0])
    assert planned.plan.cells == 2 and [n.cells for n in planned.plan.nodes.values()] == [1, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "itertions=3"], "there is no field 'itertions'\nhint:  did you mean iterations"),
        (["--strides", "0"], "strides.0: Input should be greater than 0"),
        (["--weights-dir", "NOWHERE"], "NOWHERE is not a folder"),
    ],
)
def test_words_that_name_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", *tiny_flags(tmp_path), *words, "--dry-run"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("version", "accepted"), [(1, True), (99, False)])
def test_a_database_of_another_version(version: int, accepted: bool, tmp_path: Path) -> None:
    """Collecting makes one of an older version anew; one of a newer version is left alone."""
    database = tmp_path / "board.db"
    with open_store(database) as store, store.write() as connection:
        connection.execute(schema_version.update().values(version=version))
    if accepted:
        _prepare(tmp_path / "runs", db=str(database))
    else:
        with pytest.raises(HarnessError, match=r"of schema version 99.*update this one, or name another database"):
            _prepare(tmp_path / "runs", db=str(database))
