"""Metrics: each against its definition written out, and what a one-file plugin must and must not be."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.data.base import IGNORE
from harness.errors import HarnessError, StageFailed
from harness.evaluation import outlines
from harness.evaluation.confusion import confusion
from harness.evaluation.metrics.base import ConfusionMetric, Metric
from harness.evaluation.metrics.boundary_iou import BoundaryIoU
from harness.evaluation.metrics.interior_iou import InteriorIoU
from harness.evaluation.outlines import border
from harness.plugins.metric_calls import MetricValues
from harness.plugins.registries import METRICS
from harness.plugins.registry import Entry
from harness.plugins.validation import check_metric
from results.metrics import mean_of_ratios, score_of
from results.statistics import class_counts, iou, miou, pixel_accuracy

CLASSES = 4
BUILT_IN = ("boundary_iou", "fw_iou", "interior_iou", "mean_class_accuracy", "miou", "pixel_accuracy")


def images(seed: int, count: int = 3, size: tuple[int, int] = (17, 23)) -> list[tuple[Tensor, Tensor]]:
    """Predictions and labels in blobs, a tenth of the labels void, class 3 never labelled."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = rng.integers(0, CLASSES - 1, (4, 5))
        label = np.kron(coarse, np.ones((5, 5), int))[: size[0], : size[1]]
        prediction = np.where(rng.random(label.shape) < 0.15, rng.integers(0, CLASSES, label.shape), label)
        label = np.where(rng.random(label.shape) < 0.1, IGNORE, label)
        found.append((torch.from_numpy(prediction), torch.from_numpy(label)))
    return found


def values_of(metric: Metric, pairs: list[tuple[Tensor, Tensor]]) -> float:
    for prediction, label in pairs:
        metric.update(prediction, label)
    return metric.value()


def test_the_built_in_ones() -> None:
    assert tuple(METRICS.names()) == BUILT_IN
    for entry in METRICS:
        assert entry.cls.summary and entry.cls.unit == "%" and entry.cls.info().heading


def test_against_their_definitions() -> None:
    pairs = images(0)
    matrix = sum(confusion(p[None], t[None], CLASSES)[0].numpy() for p, t in pairs)
    hits, labelled = np.diag(matrix), matrix.sum(1)
    ious = iou(matrix)
    expected = {
        "miou": miou(matrix),
        "pixel_accuracy": hits.sum() / matrix.sum(),
        "mean_class_accuracy": np.mean([h / n for h, n in zip(hits, labelled) if n]),
        "fw_iou": sum(n * v for n, v in zip(labelled, ious) if n) / labelled.sum(),
    }
    for name, value in expected.items():
        metric = METRICS.get(name)(CLASSES)
        assert values_of(metric, pairs) == pytest.approx(value), name
        of_counts = score_of(name)(class_counts(matrix))  # what the board makes of the counts that it keeps
        assert of_counts == pytest.approx(value), name
        assert isinstance(metric, ConfusionMetric)
        again = METRICS.get(name)(CLASSES)
        again.add_confusion(np.stack([confusion(p[None], t[None], CLASSES)[0].numpy() for p, t in pairs]))
        assert again.value() == metric.value()
    assert pixel_accuracy(matrix) == pytest.approx(expected["pixel_accuracy"])


def eroded(mask: np.ndarray, distance: int) -> np.ndarray:
    """The mask eroded `distance` times by a 3 x 3 square, nothing beyond the picture's edge: the authors' way."""
    height, width = mask.shape
    for _ in range(distance):
        padded = np.pad(mask, 1)
        mask = np.logical_and.reduce([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])
    return mask


def boundary_iou_written_out(pairs: list[tuple[Tensor, Tensor]], distance: int) -> float:
    both, union, labelled = np.zeros(CLASSES), np.zeros(CLASSES), np.zeros(CLASSES)
    for prediction, label in pairs:
        void = label.numpy() == IGNORE
        for k in range(CLASSES):
            g, p = label.numpy() == k, (prediction.numpy() == k) & ~void
            g_d, p_d = g & ~eroded(g, distance), p & ~eroded(p, distance)
            both[k] += (g_d & p_d).sum()
            union[k] += (g_d | p_d).sum()
            labelled[k] += g.sum()
    return float(np.mean((both / np.maximum(union, 1))[labelled > 0]))


@pytest.mark.parametrize(("ratio", "distance"), [(0.02, 1), (0.08, 2), (0.3, 9)])
def test_boundary_iou_is_that_of_the_paper(ratio: float, distance: int) -> None:
    pairs = images(1)
    metric = BoundaryIoU(CLASSES)
    metric.ratio = ratio  # type: ignore[misc]
    assert values_of(metric, pairs) == pytest.approx(boundary_iou_written_out(pairs, distance))


def test_boundary_iou_is_over_the_classes_in_the_labels() -> None:
    label = torch.zeros(12, 12, dtype=torch.int64)
    label[:, 6:] = 1
    prediction = label.clone()
    assert values_of(BoundaryIoU(CLASSES), [(prediction, label)]) == 1.0
    prediction[0, 0] = 2  # a class of no label: one border pixel of class 0 is lost, and no class is added
    assert 0.9 < values_of(BoundaryIoU(CLASSES), [(prediction, label)]) < 1.0
    assert values_of(BoundaryIoU(CLASSES), [(prediction, label), (label * 0 + 2, label * 0 + 2)]) > 0.9


def test_boundary_iou_sees_what_miou_hardly_does() -> None:
    """Outlines one pixel off at 2 % of the diagonal: a large object hardly loses IoU, its border much."""
    label = torch.zeros(120, 160, dtype=torch.int64)
    label[20:100, 30:130] = 1
    moved = torch.zeros_like(label)
    moved[22:102, 32:132] = 1
    assert values_of(BoundaryIoU(2), [(label, label)]) == 1.0
    assert values_of(METRICS.get("miou")(2), [(moved, label)]) > 0.9
    assert values_of(BoundaryIoU(2), [(moved, label)]) < 0.7


def interior_written_out(pairs: list[tuple[Tensor, Tensor]], distance: int) -> np.ndarray:
    """(3, K): per class |I ∩ G ∩ P|, |I ∩ (G ∪ P)| and |I ∩ G|, pixel by pixel."""
    found = np.zeros((3, CLASSES))
    for prediction, label in pairs:
        height, width = label.shape
        for y in range(height):
            for x in range(width):
                window = label[max(y - distance, 0) : y + distance + 1, max(x - distance, 0) : x + distance + 1]
                whole = y >= distance <= height - 1 - y and x >= distance <= width - 1 - x
                g, p = int(label[y, x]), int(prediction[y, x])
                if whole and bool((window == g).all()) and g != IGNORE:
                    found[0, g] += g == p
                    found[2, g] += 1
                    for k in {g, p}:
                        found[1, k] += 1
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.02, 0.15, 0.4]),
    st.integers(1, 4),
    st.integers(0, 2**20),
)
def test_interior_iou_is_that_of_the_pixels_far_from_outlines(
    height: int, width: int, ratio: float, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, IGNORE], (2, -(-height // block), -(-width // block)), p=[0.4, 0.3, 0.2, 0.1])
    labels = np.kron(coarse, np.ones((1, block, block), int))[:, :height, :width]
    predictions = np.where(rng.random(labels.shape) < 0.3, 3, np.where(labels == IGNORE, 1, labels))
    pairs = [(torch.from_numpy(p), torch.from_numpy(t)) for p, t in zip(predictions, labels)]
    metric = InteriorIoU(CLASSES)
    metric.ratio = ratio  # type: ignore[misc]
    value = values_of(metric, pairs)
    both, union, labelled = interior_written_out(pairs, max(1, round(ratio * math.hypot(height, width))))
    states = metric.states()
    assert states is not None
    np.testing.assert_array_equal(states.sum(0), [both, union, [2] * CLASSES, labelled])
    expected = np.mean((both / np.maximum(union, 1))[labelled > 0]) if labelled.any() else math.nan
    assert value == pytest.approx(expected, nan_ok=True)


def test_boundary_and_interior_partition_the_masks_of_the_labels() -> None:
    for prediction, label in images(7, size=(19, 25)):
        boundary, interior = (c(CLASSES).image_state(prediction, label).numpy() for c in (BoundaryIoU, InteriorIoU))
        labelled = [int((label == k).sum()) for k in range(CLASSES)]
        assert (boundary[3] + interior[3]).tolist() == labelled
        # What is hit and united inside is a part of what mIoU counts; the rest is the band around the outlines.
        counts = class_counts(confusion(prediction[None], label[None], CLASSES)[0].numpy())
        band = torch.where(border(label, 1), label, IGNORE)
        near = class_counts(confusion(prediction[None], band[None], CLASSES)[0].numpy())
        np.testing.assert_array_equal(interior[0] + near[0], counts[0])
        np.testing.assert_array_equal(interior[1] + near[1] + near[2] - near[0], counts[1] + counts[2] - counts[0])


def test_an_error_counts_where_it_is() -> None:
    """An outline that is off costs boundary IoU alone; a hole far from every outline costs interior IoU."""
    label = torch.zeros(120, 160, dtype=torch.int64)
    label[20:100, 30:130] = 1
    moved = torch.zeros_like(label)
    moved[22:102, 32:132] = 1
    assert values_of(InteriorIoU(2), [(moved, label)]) == 1.0
    assert values_of(BoundaryIoU(2), [(moved, label)]) < 0.7
    hole = label.clone()
    hole[50:70, 70:90] = 0
    inside = (80 - 8) * (100 - 8)  # within 4 pixels of the outline is its border
    outside = float((~border(label, 4) & (label == 0)).sum())
    expected = ((inside - 400) / inside + outside / (outside + 400)) / 2
    assert values_of(InteriorIoU(2), [(hole, label)]) == pytest.approx(expected)


def test_a_class_without_interior_is_left_out() -> None:
    label = torch.zeros(40, 40, dtype=torch.int64)
    label[20] = 1  # a line has an outline only
    prediction = torch.full_like(label, 2)
    assert values_of(InteriorIoU(CLASSES), [(label, label)]) == 1.0
    assert values_of(InteriorIoU(CLASSES), [(prediction, label)]) == 0.0
    small = torch.zeros(2, 2, dtype=torch.int64)  # smaller than the window: all is border
    assert math.isnan(values_of(InteriorIoU(CLASSES), [(small, small)]))


def test_the_border_of_a_label_is_computed_once_for_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def counted(classes: Tensor, distance: int) -> Tensor:
        seen.append(classes)
        return border(classes, distance)

    monkeypatch.setattr(outlines, "border", counted)
    pairs = images(8)
    values = MetricValues(METRICS, CLASSES)
    for prediction, label in pairs:
        values.update(prediction, label)
    assert len(seen) == len(pairs) and all(a is b for a, (_, b) in zip(seen, pairs))
    changed = pairs[0][1]
    before = InteriorIoU(CLASSES).image_state(*pairs[0])
    changed[:] = IGNORE  # outside of an evaluation nothing is remembered
    assert before.any() and not InteriorIoU(CLASSES).image_state(pairs[0][0], changed)[3].any()


def test_a_perfect_prediction_beside_void_is_perfect() -> None:
    label = images(2)[0][1]
    assert values_of(BoundaryIoU(CLASSES), [(torch.where(label == IGNORE, 2, label), label)]) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 6), st.integers(0, 2**20))
def test_border_is_what_erosion_takes_away(height: int, width: int, distance: int, seed: int) -> None:
    classes = np.random.default_rng(seed).integers(0, 2, (height, width)) * (seed % 3 > 0)
    found = border(torch.from_numpy(classes), distance).numpy()
    for k in (0, 1):
        mask = classes == k
        np.testing.assert_array_equal(found & mask, mask & ~eroded(mask, distance))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BUILT_IN), st.integers(0, 1000))
def test_states_add_up_over_images(name: str, seed: int) -> None:
    metric, alone = METRICS.get(name)(CLASSES), []
    for pair in images(seed, count=4):
        metric.update(*pair)
        single = METRICS.get(name)(CLASSES)
        single.update(*pair)
        alone.append(single.states())
    states = metric.states()
    assert states is not None and len(states) == 4
    np.testing.assert_array_equal(states, np.concatenate(alone))
    assert metric.value() == pytest.approx(float(score_of(name)(states.sum(0))))


def test_nothing_but_void_has_no_value() -> None:
    nothing = torch.full((9, 9), IGNORE)
    for entry in METRICS:
        assert math.isnan(values_of(entry.cls(CLASSES), [(torch.zeros_like(nothing), nothing)])), entry.name


# ------------------------------------------------------------------------------------------------ metrics of others


class _Counted(Metric):
    name = "counted"
    unit = "px"
    summary = "wrong pixels of an image, on average"
    direction = "lower"

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        wrong = ((prediction != label) & (label != IGNORE)).sum()
        return torch.stack([wrong, torch.ones_like(wrong)])[:, None]


def made(**changes: Any) -> type[Metric]:
    return type("_Odd", (_Counted,), changes)


def test_a_good_declaration_is_taken() -> None:
    check_metric(_Counted)
    assert values_of(_Counted(CLASSES), images(3)) > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "miou_low"}, "name of a column"),
        ({"name": "seeds"}, "name of a column"),
        ({"name": "Wrong"}, "lower-case letters"),
        ({"direction": "up"}, "direction"),
        ({"digits": -1}, "digits"),
        ({"unit": None}, "unit"),
        ({"summary": None}, "summary"),
        ({"image_state": Metric.image_state}, "defines no computation"),
    ],
)
def test_a_bad_declaration_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        check_metric(made(**changes))


def leaving(*_: Any) -> float:
    raise GeneratorExit


def raising(*_: Any) -> Tensor:
    raise IndexError("on purpose")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_state": raising}, "failed in update.*IndexError: on purpose"),
        ({"value": lambda self: math.inf}, r"value\(\) returns inf"),
        ({"value": lambda self: "much"}, "returns 'much'"),
        ({"unit": "%"}, "for a percentage"),
        ({"states": lambda self: np.zeros((1, 2, 2))}, "states have shape"),
        ({"__init__": raising}, "constructor"),
        ({"image_state": lambda *_: os._exit(0)}, r"failed in update.*it called os._exit\(0\)"),
        ({"value": leaving}, "failed in value.*it raised GeneratorExit"),
    ],
)
def test_what_a_metric_does_wrongly_names_it(changes: dict[str, Any], said: str) -> None:
    pairs = images(4)
    matrices = np.stack([confusion(p[None], t[None], CLASSES)[0].numpy() for p, t in pairs])
    with pytest.raises(StageFailed, match=f"metric 'counted' .*{said}"):
        values = MetricValues([Entry("counted", made(**changes), "plugin.py", "0")], CLASSES)
        for pair in pairs:
            values.update(*pair)
        values.finish(matrices)


def test_out_of_memory_in_a_metric_is_not_its_fault() -> None:
    def image_state(*_: Any) -> Tensor:
        return torch.empty(10**15)

    values = MetricValues([Entry("counted", made(image_state=image_state), "plugin.py", "0")], CLASSES)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        values.update(torch.zeros(2, 2).long(), torch.zeros(2, 2).long())


def test_values_and_states_of_all_metrics(tmp_path: Path) -> None:
    pairs = images(5)
    matrices = np.stack([confusion(p[None], t[None], CLASSES)[0].numpy() for p, t in pairs])
    values = MetricValues([*METRICS, Entry("counted", _Counted, "plugin.py", "0")], CLASSES)
    for pair in pairs:
        values.update(*pair)
    found = values.finish(matrices)
    assert set(found) == {*BUILT_IN, "counted"} and found["miou"].value == pytest.approx(miou(matrices))
    assert (found["counted"].unit, found["counted"].direction) == ("px", "lower")
    values.save(tmp_path / "metrics.npz", ["a", "b", "c"])
    with np.load(tmp_path / "metrics.npz") as arrays:
        # The others follow from the matrices.
        assert set(arrays.files) == {"names", "boundary_iou", "interior_iou", "counted"}
        assert float(mean_of_ratios(arrays["counted"].sum(0))) == pytest.approx(found["counted"].value)


class _Whole(_Counted):
    """A metric that does not add up over images: it has a value and no states."""

    def update(self, prediction: Tensor, label: Tensor) -> None:
        self.seen = getattr(self, "seen", 0) + 1

    def value(self) -> float:
        return float(self.seen)


def test_a_metric_need_not_add_up(tmp_path: Path) -> None:
    check_metric(_Whole)
    pairs = images(6)
    values = MetricValues([Entry("counted", _Whole, "plugin.py", "0")], CLASSES)
    for pair in pairs:
        values.update(*pair)
    assert values.finish(np.zeros((3, CLASSES, CLASSES)))["counted"].value == 3
    (tmp_path / "metrics.npz").write_bytes(b"of an attempt before")
    values.save(tmp_path / "metrics.npz", ["a", "b", "c"])
    assert not (tmp_path / "metrics.npz").exists()
