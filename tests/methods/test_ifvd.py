"""IFVD."""

from __future__ import annotations

import pytest
import torch

from harness.builders.expression import resolve
from harness.conformance.terms import compute_terms
from methods.base import IGNORE
from methods.ifvd import IFVD, variation, variation_distance
from tests.methods import formulae
from tests.methods.golden import ARRAYS
from tests.methods.pairs import CLASSES, array, build, networks, values


def test_golden_values() -> None:
    """Both repositories have the same ifv; CIRKD divides kd by pixels, the authors by elements."""
    cirkd = compute_terms("ifvd", {}, ARRAYS)
    original = compute_terms("ifvd", {"variant": "original"}, ARRAYS)
    assert cirkd["ifv"] == pytest.approx(0.1529469956, rel=1e-6)
    assert original["ifv"] == pytest.approx(0.1529469956, rel=1e-6)
    assert cirkd["kd"] == pytest.approx(1.386444682, rel=1e-6)
    assert original["kd"] == pytest.approx(0.07297077271, rel=1e-6)


def test_variants() -> None:
    cirkd, original = resolve("ifvd")[0].parts[0], resolve("ifvd[variant=original]")[0].parts[0]
    assert cirkd.weights == {"ifv": 20.0, "adversarial": 0.001, "kd": 1.0}
    assert original.weights == {"ifv": 200.0, "adversarial": 0.001, "kd": 10.0}
    assert (cirkd.params["adv_loss"], original.params["adv_loss"]) == ("hinge", "wgan-gp")
    assert (cirkd.params["kd_reduction"], original.params["kd_reduction"]) == ("pixels", "elements")
    assert resolve("ifvd-kd")[0].parts[0].weights == {"ifv": 20.0, "adversarial": 0.001}


def test_agrees_with_the_formula() -> None:
    """With channels that differ, labels on a finer grid, and ignored pixels."""
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=generator)
    teacher = torch.randn(2, 6, 5, 7, dtype=torch.float64, generator=generator)
    labels = torch.randint(-1, 4, (2, 11, 16), generator=generator)
    labels[labels < 0] = IGNORE
    expected = formulae.ifv(array(student), array(teacher), labels.numpy(), 4)
    assert float(variation_distance(student, teacher, labels, 4)) == pytest.approx(expected, rel=1e-10)


def test_pixels_of_no_class_add_nothing() -> None:
    """Ignored pixels, and labels beyond the classes."""
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 0], labels[0, 1] = IGNORE, 9
    cosines = variation(x, labels, 2)
    assert torch.equal(cosines[0, :2], torch.ones(2, 4, dtype=torch.float64))
    assert (cosines[0, 2:] < 1).all()
    y = x.clone()
    y[..., :2, :] = 7.0
    assert torch.equal(variation(y, labels, 2), cosines)


def test_what_the_mean_counts() -> None:
    """Half of the pixels have no label: counting the labelled ones only doubles the value."""
    student, teacher = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    labels = torch.zeros(2, 4, 6, dtype=torch.int64)
    labels[..., 3:] = IGNORE
    everything = variation_distance(student, teacher, labels, 1)
    labelled = variation_distance(student, teacher, labels, 1, divide_by="labelled")
    assert float(labelled) == pytest.approx(2 * float(everything), rel=1e-12)


def test_zero_features_have_a_gradient() -> None:
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    variation(x, torch.zeros(1, 4, 4, dtype=torch.int64), 1).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_grids_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        variation_distance(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5), torch.zeros(1, 4, 4).long(), 2)


def test_discriminator_only_where_its_term_is_active() -> None:
    """It learns from its own loss, which gives nothing to the student."""
    plain = build(IFVD, networks(), "ifv", "kd")
    assert plain.get_discriminator() is None and not list(plain.parameters())
    given = networks().tracked()
    method = build(IFVD, given)
    discriminator = method.get_discriminator()
    assert discriminator is not None
    method.discriminator_loss(given.step).backward()
    assert not given.student_gradients()
    gradients = [p.grad for p in discriminator.parameters() if p.grad is not None]
    assert gradients and any(g.abs().max() > 0 for g in gradients)


def test_stride_of_the_student_may_differ() -> None:
    """Student maps are brought to the teacher's grid, or the other way round."""
    given = networks()
    teacher_grid = values(build(IFVD, given, "ifv"), given)["ifv"]
    student_grid = values(build(IFVD, given, "ifv", align="student"), given)["ifv"]
    assert given.step.student.last.shape[-2:] != given.step.teacher_maps.last.shape[-2:]
    assert not torch.equal(teacher_grid, student_grid)
    assert given.student.classes == CLASSES
