"""MGD."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.builders.expression import resolve
from harness.conformance.terms import compute_terms
from methods.mgd import MGD, random_mask, squared_error
from methods.parts.adapters import identity_adapters
from tests.methods import formulae
from tests.methods.golden import ARRAYS
from tests.methods.pairs import Pair, array, build, networks, values

ALPHA = 2e-5
"""The reference's weight, which its published value contains."""


def test_golden_values() -> None:
    """Without mask and with the identity for a generator; the cwd term is CWD's own golden value."""
    terms = compute_terms("mgd", {"mask_ratio": 0}, ARRAYS, identity_adapters=True)
    assert ALPHA * terms["generate"] == pytest.approx(0.02038436545, rel=1e-6)
    assert terms["cwd"] == pytest.approx(1.930799548, rel=1e-6)
    assert resolve("mgd")[0].parts[0].weights == {"generate": ALPHA, "cwd": 3.0}


@pytest.mark.parametrize("same", [True, False])
def test_agrees_with_the_formula(same: bool) -> None:
    """Alignment, generator and error, with and without channels that differ, on one grid."""
    given = networks(1, same=True) if same else _wider()
    method = build(MGD, given, mask_ratio=0)
    weights = {name: array(x) for name, x in method.named_parameters()}
    assert ("adapter.layers.0.weight" in weights) != same
    x = array(given.step.student.features[-1])
    if not same:
        x = formulae.convolve(x, weights["adapter.layers.0.weight"], weights["adapter.layers.0.bias"])
    x = formulae.convolve(x, weights["generator.layers.0.weight"], weights["generator.layers.0.bias"])
    x = formulae.convolve(x.clip(0), weights["generator.layers.2.weight"], weights["generator.layers.2.bias"])
    found = values(method, given)
    expected = formulae.summed_square(x, array(given.step.teacher_maps.features[-1]))
    assert float(found["generate"].detach()) == pytest.approx(expected, rel=1e-10)
    expected = formulae.channel_divergence(array(given.step.student.logits), array(given.step.teacher_maps.logits), 4.0)
    assert float(found["cwd"]) == pytest.approx(expected, rel=1e-9)


def _wider() -> Pair:
    """A student whose deepest map has fewer channels than the teacher's, on the same grid."""
    given = networks(2, same=True)
    narrow = replace(given.step.student, features=(*given.step.student.features[:-1], torch.randn(2, 6, 4, 6).double()))  # type: ignore[type-var]
    sizes = replace(given.student, features=(*given.student.features[:-1], 6))
    return replace(given, step=replace(given.step, student=narrow), student=sizes)


def test_mask() -> None:
    """Whole positions, masked with the given probability, by torch's own generator; alike in every channel."""
    like = torch.zeros(4, 7, 50, 50)
    torch.manual_seed(0)
    first = random_mask(like, 0.75)
    assert first.shape == (4, 1, 50, 50) and set(first.unique().tolist()) == {0.0, 1.0}
    assert float(first.mean()) == pytest.approx(0.25, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(first, random_mask(like, 0.75))
    assert not torch.equal(first, random_mask(like, 0.75))
    assert float(random_mask(like, 0.0).min()) == 1 and float(random_mask(like, 1.0).max()) == 0


def test_a_masked_position_is_not_seen() -> None:
    """With everything masked the student's features say nothing."""
    given = networks(3).tracked()
    values(build(MGD, given, "generate", mask_ratio=1), given)["generate"].backward()
    assert all(torch.equal(g, torch.zeros_like(g)) for g in given.student_gradients())


def test_reduction_and_source() -> None:
    given = networks(4)
    per_image = float(values(build(MGD, given, "generate"), given)["generate"].detach())
    per_element = float(values(build(MGD, given, "generate", divide_by="element"), given)["generate"].detach())
    assert per_image == pytest.approx(per_element * given.step.teacher_maps.features[-1][0].numel(), rel=1e-12)
    method = build(MGD, given, source="last")
    assert [m.out_channels for m in method.modules() if isinstance(m, nn.Conv2d)] == [8, 8, 8]
    with pytest.raises(ValueError, match="shapes"):
        squared_error(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3))


def test_nothing_is_built_for_what_is_off() -> None:
    given = networks()
    assert not list(build(MGD, given, "cwd").parameters())
    assert set(values(build(MGD, given, "cwd"), given)) == {"cwd"}


def test_every_learned_map_can_be_replaced() -> None:
    given = networks()
    method = build(MGD, given)
    assert identity_adapters(method) == 2 and not list(method.parameters())
