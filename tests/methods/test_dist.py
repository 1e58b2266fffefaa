"""DIST."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.terms import compute_terms
from methods.base import IGNORE
from methods.dist import DIST, pearson
from tests.methods import formulae
from tests.methods.golden import ARRAYS
from tests.methods.pairs import array, build, networks, values


def test_golden_value() -> None:
    """The reference adds both terms with weight 1."""
    terms = compute_terms("dist", {}, ARRAYS, identity_adapters=True)
    assert terms["inter"] + terms["intra"] == pytest.approx(1.995794557, rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_agrees_with_the_formula(tau: float) -> None:
    given = networks(1, same=True)
    found = values(build(DIST, given, tau=tau), given)
    inter, intra = formulae.dist(array(given.step.student.logits), array(given.step.teacher_maps.logits), tau)
    assert float(found["inter"]) == pytest.approx(inter, rel=1e-7)
    assert float(found["intra"]) == pytest.approx(intra, rel=1e-7)


def test_equal_and_opposite_predictions() -> None:
    """0 where the student says what the teacher says; a constant student is uncorrelated, and has no NaN."""
    a, b = torch.randn(4, 6, dtype=torch.float64), torch.ones(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(pearson(a, 3 * a + 1, 1), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(pearson(a, -a, 1), -torch.ones(4, dtype=torch.float64))
    correlation = pearson(b, a, 1)
    assert torch.equal(correlation, torch.zeros(4, dtype=torch.float64))
    correlation.sum().backward()
    assert b.grad is not None and torch.isfinite(b.grad).all()


def test_masking_leaves_ignored_pixels_out() -> None:
    """What stands in ignored pixels changes nothing when they are masked, and something when they are not."""
    given = networks(2, same=True)
    labels = torch.zeros(2, 32, 48, dtype=torch.int64)
    labels[:, :, 24:] = IGNORE
    given = given.with_labels(labels)
    before = {mask: values(build(DIST, given, mask_ignored=mask), given) for mask in (True, False)}
    given.step.student.logits[:, :, :, 3:] += torch.randn(2, 5, 4, 3, dtype=torch.float64)
    after = {mask: values(build(DIST, given, mask_ignored=mask), given) for mask in (True, False)}
    assert all(torch.equal(before[True][name], after[True][name]) for name in before[True])
    assert all(not torch.equal(before[False][name], after[False][name]) for name in before[False])


def test_masking_everything_gives_zero() -> None:
    given = networks().with_labels(torch.full((2, 32, 48), IGNORE)).tracked()
    found = values(build(DIST, given, mask_ignored=True), given)
    assert all(torch.equal(value, torch.zeros_like(value)) for value in found.values())
    (found["inter"] + found["intra"]).backward()
    assert all(torch.equal(x, torch.zeros_like(x)) for x in given.student_gradients())


def test_only_active_terms_are_computed() -> None:
    given = networks()
    assert set(values(build(DIST, given, "intra"), given)) == {"intra"}
    method = DIST(DIST.Params(), frozenset(), given.student, given.teacher)
    assert values(method, given) == {}
