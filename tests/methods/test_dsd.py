"""DSD."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.conformance.cases import RandomMaps
from harness.conformance.terms import compute_terms
from methods.dsd import DSD, attention, class_similarity, pixel_similarity
from tests.methods import formulae
from tests.methods.golden import FILES
from tests.methods.pairs import array, build, networks, values


def test_golden_values() -> None:
    """Layers F, F² and the logits L, all on one grid."""
    terms = compute_terms("dsd", {}, FILES["layers"])
    assert terms["psd"] == pytest.approx(0.01471096751, rel=1e-6)
    assert terms["csd"] == pytest.approx(6.239867974e-06, rel=1e-6)


def test_psd_agrees_with_the_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    student = [torch.randn(2, c, 3, 5, dtype=torch.float64, generator=draw) for c in (2, 3, 4, 5)]
    teacher = [torch.randn(2, c, 3, 5, dtype=torch.float64, generator=draw) for c in (6, 3, 7, 5)]
    expected = formulae.psd([array(x) for x in student], [array(x) for x in teacher])
    assert float(pixel_similarity(student, teacher, student[0])) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("tau", "pool"), [(4.0, 2), (1.0, 3), (2.0, 1)])
def test_csd_agrees_with_the_formula(tau: float, pool: int) -> None:
    """Also where windows at the border are smaller."""
    student, teacher = (torch.randn(2, 4, 5, 7, dtype=torch.float64) for _ in range(2))
    expected = formulae.csd(array(student), array(teacher), tau, pool)
    assert float(class_similarity(student, teacher, tau, pool)) == pytest.approx(expected, rel=1e-9)


def test_layers_are_matched_from_the_deep_end() -> None:
    """The student has three maps, the teacher four: `taps=9` reads three of each, the shallowest teacher map never."""
    given = networks()
    teacher = given.step.teacher
    assert isinstance(teacher, RandomMaps)

    def psd(taps: int, changed: int | None = None) -> float:
        maps = [x * (1 + torch.rand_like(x)) if i == changed else x for i, x in enumerate(teacher.features)]
        step = replace(given.step, teacher=replace(teacher, features=tuple(maps)))
        return float(values(build(DSD, given, "psd", taps=taps), replace(given, step=step))["psd"])

    torch.manual_seed(0)
    assert psd(9) == psd(3) != psd(2) != psd(1)
    assert psd(9, changed=0) == psd(9)
    assert psd(9, changed=1) != psd(9)
    assert psd(2, changed=1) == psd(2)
    assert psd(2, changed=2) != psd(2)


def test_attention_is_a_unit_vector_on_the_grid_asked_for() -> None:
    found = attention(torch.randn(2, 3, 4, 6), torch.zeros(2, 1, 8, 3))
    assert found.shape == (2, 24)
    assert torch.allclose(found.norm(dim=1), torch.ones(2))


def test_layers_with_equal_attention_have_a_gradient() -> None:
    """Where two layers attend alike their residual is zero: no NaN, no infinity."""
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = pixel_similarity([x, 2 * x], [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)], x)
    loss.backward()
    assert torch.isfinite(loss) and x.grad is not None and torch.isfinite(x.grad).all()


def test_what_cannot_be_compared_is_refused() -> None:
    x = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="two or more"):
        pixel_similarity([x], [x], x)
    with pytest.raises(ValueError, match="2 and 3 layers"):
        pixel_similarity([x, x], [x, x, x], x)
    with pytest.raises(ValueError, match="shapes"):
        class_similarity(x, torch.zeros(1, 3, 4, 4))
