"""Classes that no label of the split contains: the mIoU is over the others, the same in every row, and that is said."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from results.formats import notes
from results.ingest import collect
from results.leaderboard import leaderboard
from results.metrics import FW_IOU, MEAN_CLASS_ACCURACY, MIOU
from results.queries import per_class, runs
from results.record import Metrics, Record
from results.statistics import class_counts, class_iou, iou, mean_iou, miou, pixel_accuracy, predicted_absent
from results.store import Store
from tests.results.factory import CLASSES, Fake

HONEST = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
INVENTIVE = np.array([[7, 2, 1], [1, 8, 1], [0, 0, 0]])
"""Two networks on the same labels, of which none has class 2; the second one calls some pixels so."""


def test_a_class_that_is_only_predicted_counts_for_no_mean() -> None:
    """Before, it was a class of IoU 0 in one row and no class at all in another."""
    assert miou(HONEST) == pytest.approx((8 / 11 + 9 / 12) / 2)
    assert miou(INVENTIVE) == pytest.approx((7 / 11 + 8 / 12) / 2)
    assert np.isnan(iou(INVENTIVE)[2]) and np.isnan(iou(HONEST)[2])
    assert pixel_accuracy(INVENTIVE) == pytest.approx(15 / 20)
    counts = class_counts(INVENTIVE)
    assert MIOU(counts) == mean_iou(counts) == pytest.approx(np.nanmean(class_iou(counts)))
    assert MEAN_CLASS_ACCURACY(counts) == pytest.approx((7 / 10 + 8 / 10) / 2)
    assert FW_IOU(counts) == pytest.approx((7 / 11 + 8 / 12) / 2)


def test_a_class_that_is_labelled_and_never_found_counts_as_zero() -> None:
    assert miou(np.array([[10, 0], [10, 0]])) == pytest.approx((10 / 20 + 0) / 2)


def test_which_classes_count_is_decided_over_the_whole_set_of_images() -> None:
    """Class 1 is in the second image's labels only: what the first calls so is wrong and counts."""
    first, second = np.array([[8, 2], [0, 0]]), np.array([[5, 0], [0, 5]])
    assert miou(np.stack([first, second])) == pytest.approx((13 / 15 + 5 / 7) / 2)


def test_what_was_called_an_absent_class() -> None:
    assert predicted_absent(class_counts(INVENTIVE)).tolist() == [0, 0, pytest.approx(0.1)]
    assert predicted_absent(class_counts(HONEST)).tolist() == [0, 0, 0]
    assert predicted_absent(np.zeros((3, 4))).tolist() == [0, 0, 0, 0]


def without_person(fake: Fake, called: int) -> np.ndarray:
    """The matrices of a run without labels of the last class, and `called` pixels of every image called so."""
    matrices = fake.matrices()
    matrices[:, -1, :], matrices[:, :, -1] = 0, 0
    matrices[:, 0, -1] = called
    return matrices


def write(workspace: Path, fake: Fake, called: int, old: bool) -> Record:
    """A stage folder; `old`: its record is one of before means were over the classes in the labels."""
    matrices = without_person(fake, called)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, confusion=matrices, names=np.array([f"image{n}" for n in range(len(matrices))]))
    record = fake.record({"confusion.npz": hashlib.sha256(buffer.getvalue()).hexdigest()})
    values = iou(matrices)
    per_class_iou = {name: None if np.isnan(v) else float(v) for name, v in zip(CLASSES, values, strict=True)}
    told: dict[str, object] = {"miou": miou(matrices), "per_class_iou": per_class_iou, "classes": list(CLASSES[:-1])}
    if old:
        over = 6 if called else 5
        zero = {"person": 0.0 if called else None}
        told |= {"miou": np.nansum(values) / over, "per_class_iou": {**per_class_iou, **zero}, "classes": []}
    elif called:
        share = called * len(matrices) / matrices.sum()
        told |= {"predicted_absent": {"person": float(share)}}
    accuracy = {"split": "val", "images": len(matrices), "pixel_accuracy": pixel_accuracy(matrices)}
    record = record.model_copy(update={"metrics": Metrics.model_validate(accuracy | told)})
    folder = workspace / "stages" / record.key
    folder.mkdir(parents=True)
    (folder / "confusion.npz").write_bytes(buffer.getvalue())
    (folder / "record.json").write_text(record.model_dump_json())
    return record


@pytest.mark.parametrize("old", [False, True])
def test_all_rows_of_a_board_are_over_the_same_classes(file_store: Store, tmp_path: Path, old: bool) -> None:
    made = {method: write(tmp_path, Fake(method=method), called, old) for method, called in (("none", 40), ("kd", 0))}
    summary = collect(tmp_path, file_store)
    assert summary.invalid == [] and len(summary.added) == 2
    frame = runs(file_store).set_index("method")
    for method, called in (("none", 40), ("kd", 0)):
        matrices = without_person(Fake(method=method), called)
        assert frame.loc[method, "miou"] == pytest.approx(miou(matrices))
        assert frame.loc[method, "classes"] == "5 of 6" and frame.loc[method, "absent"] == "person"
        assert frame.loc[method, "absent_share"] == pytest.approx(called * 12 / matrices.sum())
        classes = per_class(file_store, [made[method].key]).set_index("class")["iou"]
        assert np.isnan(classes["person"]) and classes.notna().sum() == 5
    board = leaderboard(file_store)
    assert set(board["classes"]) == {"5 of 6"}
    (note,) = [note for note in notes(board) if "Means over classes" in note]
    assert "5 of 6 (not person)" in note and "of the labelled pixels were called one of the others" in note


def test_a_board_of_all_classes_says_nothing_of_them(file_store: Store, tmp_path: Path) -> None:
    Fake().write(tmp_path)
    collect(tmp_path, file_store)
    board = leaderboard(file_store)
    assert board["classes"].tolist() == ["6 of 6"] and board["absent"].tolist() == [""]
    assert not [note for note in notes(board) if "Means over classes" in note]


def test_a_record_whose_matrices_are_gone_says_it_itself(file_store: Store, tmp_path: Path) -> None:
    record = write(tmp_path, Fake(), 40, old=False)
    (tmp_path / "stages" / record.key / "confusion.npz").unlink()
    collect(tmp_path, file_store)
    row = runs(file_store).iloc[0]
    assert record.metrics and row["classes"] == "5 of 6" and row["absent"] == "person"
    assert row["absent_share"] == pytest.approx(record.metrics.predicted_absent["person"])


def test_matrices_that_are_not_those_of_the_record_are_still_told(file_store: Store, tmp_path: Path) -> None:
    record = write(tmp_path, Fake(), 40, old=False)
    file = tmp_path / "stages" / record.key / "record.json"
    assert record.metrics
    wrong = record.metrics.model_copy(update={"miou": record.metrics.miou * 5 / 6})
    file.write_text(record.model_copy(update={"metrics": wrong}).model_dump_json())
    assert "its matrices give mIoU" in collect(tmp_path, file_store).invalid[0].why
