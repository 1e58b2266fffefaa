"""Losses against their definitions, pixel by pixel, and their gradients against finite differences."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.builders.losses import build_loss, with_losses
from harness.errors import HarnessError
from harness.losses.base import Loss, inverse_frequencies
from harness.planning.plan import make_plan
from harness.plugins.load import load_plugins
from harness.plugins.registries import LOSSES
from harness.specs.recipes import RecipeFile, load_recipe
from harness.specs.spec import LossSpec
from harness.training.objective import resized
from methods.base import IGNORE
from tests.end_to_end.tiny import CHANGES, tiny_sweep

K = 4
WEIGHTS = [0.5, 2.0, 1.0, 0.25]


def loss_of(name: str = "cross_entropy", frequencies: Sequence[int] = (), **params: Any) -> Loss:
    return build_loss(LossSpec(name=name, params=params), lambda: frequencies)


def batch(seed: int = 0, size: tuple[int, int] = (5, 6)) -> tuple[Tensor, Tensor]:
    """Logits (2, K, H, W) in float64 and labels with void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, K, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, K, (2, *size), generator=generator)
    labels[0, :2] = IGNORE
    return logits, labels


def pixels(logits: Tensor, labels: Tensor, weights: Sequence[float], smoothing: float) -> list[tuple[float, ...]]:
    """(loss, weight of its class, probability of its class) of every labelled pixel."""
    found = []
    for b, y, x in np.ndindex(*labels.shape):
        k = int(labels[b, y, x])
        if k == IGNORE:
            continue
        scores = [math.exp(v) for v in logits[b, :, y, x].tolist()]
        p = [v / sum(scores) for v in scores]
        target = [smoothing / K + (1 - smoothing) * (c == k) for c in range(K)]
        found.append((-sum(w * t * math.log(v) for w, t, v in zip(weights, target, p)), weights[k], p[k]))
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_its_definition(weights: list[float] | None, smoothing: float) -> None:
    logits, labels = batch()
    loss = loss_of(class_weights=weights, label_smoothing=smoothing).double()
    found = pixels(logits, labels, weights or [1.0] * K, smoothing)
    expected = sum(value for value, *_ in found) / sum(weight for _, weight, _ in found)
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-6)
    assert float(loss.amount(labels)) == pytest.approx(sum(weight for _, weight, _ in found))


@pytest.mark.parametrize(("threshold", "least"), [(0.7, 1 / 16), (0.1, 0.5), (1.0, 0.0), (0.3, 0.0)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ohem_is_the_mean_over_hard_pixels(weights: list[float] | None, threshold: float, least: float) -> None:
    logits, labels = batch(1)
    found = sorted(pixels(logits, labels, weights or [1.0] * K, 0.0), key=lambda pixel: pixel[2])
    count = max(1, math.ceil(least * len(found)), sum(p < threshold for *_, p in found))
    hard = found[:count]
    assert 0 < len(hard) <= len(found)
    expected = sum(value for value, *_ in hard) / sum(weight for _, weight, _ in hard)
    loss = loss_of("ohem", threshold=threshold, least=least, class_weights=weights).double()
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_ohem_of_all_pixels_is_cross_entropy() -> None:
    logits, labels = batch(2)
    every = loss_of("ohem", least=1.0, label_smoothing=0.2)
    assert torch.allclose(every(logits, labels), loss_of(label_smoothing=0.2)(logits, labels))


@pytest.mark.parametrize("entry", list(LOSSES), ids=lambda entry: entry.name)
@pytest.mark.parametrize("params", [{}, {"label_smoothing": 0.1, "class_weights": WEIGHTS}])
def test_gradients_are_those_of_finite_differences(entry: Any, params: dict[str, Any]) -> None:
    logits, labels = batch(3, (3, 4))
    loss = loss_of(entry.name, **params).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("entry", list(LOSSES), ids=lambda entry: entry.name)
def test_a_batch_without_a_pixel_that_counts_moves_nothing(entry: Any) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.full((1, 8, 8), IGNORE)
    loss = loss_of(entry.name)(resized(logits, labels), labels)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_parts_of_a_batch_weighted_by_their_amounts_are_the_whole(weights: list[float] | None) -> None:
    logits, labels = batch(4)
    loss = loss_of(class_weights=weights, label_smoothing=0.1).double()
    amounts = [loss.amount(labels[i : i + 1]) for i in range(2)]
    parts = [loss(logits[i : i + 1], labels[i : i + 1]) * amounts[i] / sum(amounts) for i in range(2)]
    assert torch.allclose(sum(parts), loss(logits, labels))
    assert float(amounts[0]) != float(amounts[1])


def test_the_default_is_what_it_was_before_there_were_losses_bit_for_bit() -> None:
    logits = torch.randn(2, 5, 4, 6, requires_grad=True)
    labels = torch.randint(0, 5, (2, 16, 24))
    labels[1, :5] = IGNORE
    total = F.cross_entropy(
        F.interpolate(logits.float(), size=(16, 24), mode="bilinear", align_corners=False),
        labels,
        ignore_index=IGNORE,
        reduction="sum",
    )
    before = total / (labels != IGNORE).sum().clamp(min=1)
    found = loss_of()(resized(logits, labels), labels)
    assert torch.equal(found, before)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (found, before)]
    assert torch.equal(*gradients)


def test_inverse_frequencies_are_scikit_learns_balanced_weights() -> None:
    pixels_of = [100, 0, 300, 600]
    labels = np.repeat([0, 2, 3], [100, 300, 600])
    expected = {k: len(labels) / (3 * np.sum(labels == k)) for k in (0, 2, 3)}
    assert inverse_frequencies(pixels_of).tolist() == pytest.approx([expected[0], 1.0, expected[2], expected[3]])
    loss = loss_of(frequencies=pixels_of, class_weights="inverse")
    assert loss.class_weights is not None and loss.class_weights.tolist() == pytest.approx(
        inverse_frequencies(pixels_of).tolist()
    )
    assert "class_weights" not in loss.state_dict()  # it follows from the data: no part of a checkpoint


def changed(**changes: Any) -> RecipeFile:
    return with_losses(load_recipe("shapes").changed({f"loss.{name}": value for name, value in changes.items()}), K)


def test_a_loss_at_its_defaults_leaves_the_recipe_as_it_was() -> None:
    plain = load_recipe("shapes")
    for same in (changed(), changed(**{"params.label_smoothing": 0, "name": "cross_entropy"})):
        assert same.label() == plain.label()
        assert all(same.for_kind(k).content == plain.for_kind(k).content for k in ("teacher", "student", "translator"))
    other = changed(**{"params.label_smoothing": 0.1, "auxiliary": 0.4})
    assert other.for_kind("student").content["loss"] == {
        "name": "cross_entropy", "params": {"label_smoothing": 0.1}, "auxiliary": 0.4, "source": "",
    }  # fmt: skip
    assert other.label() != plain.label()
    assert other.for_kind("translator").content == plain.for_kind("translator").content


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "focal"}, "there is no loss 'focal'"),
        ({"params.temperature": 4}, "temperature"),
        ({"params.label_smoothing": 1}, "less than 1"),
        ({"params.class_weights": [1, 2]}, "2 class weights were given, and there are 4 classes"),
        ({"name": "ohem", "params.threshold": 0}, "threshold"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        changed(**changes)


def test_the_loss_of_the_documentation_is_a_plugin_in_one_file(tmp_path: Path) -> None:
    """It is found by its name, its file is part of the key and of the command that makes the row again."""
    text = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Loss" in block]
    file = tmp_path / "squared.py"
    file.write_text(code)
    (plugin,) = load_plugins([file])
    try:
        plan = make_plan(tiny_sweep(set={**CHANGES, "student.loss.name": "squared"}))
        (node,) = plan.nodes.values()
        assert node.spec.recipe.loss.source == plugin.sha256
        assert f"--plugin {file}" in node.reproduce
        logits, labels = batch(5)
        expected = [
            sum((p - (c == k)) ** 2 for c, p in enumerate(logits[b, :, y, x].softmax(0).tolist()))
            for b, y, x in np.ndindex(*labels.shape)
            if (k := int(labels[b, y, x])) != IGNORE
        ]
        assert float(loss_of("squared")(logits, labels)) == pytest.approx(np.mean(expected), rel=1e-6)
    finally:
        LOSSES._entries.pop("squared")
