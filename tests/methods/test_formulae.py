"""The methods against plain NumPy evaluations of their formulae; their grids, gradients, precision, declarations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.adapters import identity_adapters
from tests.methods import formulae
from tests.methods.pairs import build, maps, pair, terms_of, tracked


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays with an odd grid, equal channels for student and teacher."""
    rng = np.random.default_rng(seed)
    return {
        "student_logits": rng.normal(size=(2, 5, 7, 9)),
        "teacher_logits": 2 * rng.normal(size=(2, 5, 7, 9)),
        "student_features": rng.normal(size=(2, 6, 7, 9)),
        "teacher_features": rng.normal(size=(2, 6, 7, 9)),
        "labels": rng.integers(-1, 5, size=(2, 56, 72)),
    }


def pooled(window: tuple[int, int]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda s, t: formulae.pairwise(formulae.max_pool(s, window), formulae.max_pool(t, window))


LOGITS: list[tuple[str, dict[str, Any], str, Callable[[np.ndarray, np.ndarray], float]]] = [
    ("kd", {}, "kd", lambda s, t: formulae.kd(s, t, 1)),
    ("kd", {"tau": 6}, "kd", lambda s, t: formulae.kd(s, t, 6)),
    ("kd", {"reduction": "elements", "tau": 2}, "kd", lambda s, t: formulae.kd(s, t, 2) / 5),
    ("kd", {"reduction": "batch"}, "kd", lambda s, t: formulae.kd(s, t, 1) * 7 * 9),
    ("pixel_kd", {}, "pixel", formulae.pixel_cross_entropy),
    ("pixel_kd", {"divide_batch": True}, "pixel", lambda s, t: formulae.pixel_cross_entropy(s, t) / 2),
    ("skd", {"variant": "original"}, "pixel", formulae.pixel_cross_entropy),
    ("skd", {"kd_tau": 3}, "kd", lambda s, t: formulae.kd(s, t, 3)),
    ("cwd", {"tau": 3}, "logits", lambda s, t: formulae.channel_divergence(s, t, 3)),
    ("ka_torchdistill", {}, "adapt", lambda s, t: formulae.map_adaptation(s, t, 1, 2)),
    ("ka_torchdistill", {"p": 3, "q": 1}, "adapt", lambda s, t: formulae.map_adaptation(s, t, 3, 1)),
    ("ka_torchdistill", {}, "affinity", formulae.channel_affinity),
]
FEATURES: list[tuple[str, dict[str, Any], str, Callable[[np.ndarray, np.ndarray], float]]] = [
    ("fitnet", {}, "hint", formulae.hint),
    ("at", {}, "attention", formulae.attention),
    ("skd", {}, "pairwise", pooled((2, 2))),
    ("skd", {"variant": "original"}, "pairwise", pooled((3, 4))),
    ("skd", {"pool": 1}, "pairwise", formulae.pairwise),
    ("cwd", {"feature_tau": 2}, "feature", lambda s, t: formulae.channel_divergence(s, t, 2)),
    ("ka", {}, "adapt", lambda s, t: formulae.adaptation(s, t, 2, 1)),
    ("ka", {"p": 1, "q": 2}, "adapt", lambda s, t: formulae.adaptation(s, t, 1, 2)),
    ("ka", {"q": 2}, "adapt", lambda s, t: formulae.adaptation(s, t, 2, 2)),
    ("ka", {"p": 3, "q": 1}, "adapt", lambda s, t: formulae.adaptation(s, t, 3, 1)),
    ("ka", {}, "affinity", lambda s, t: formulae.affinity_rows(s, t) / 63),
    ("ka", {"normalise": "none"}, "affinity", formulae.affinity_rows),
    ("ka", {"form": "squared"}, "affinity", formulae.pairwise),
    ("ka", {"form": "squared", "normalise": "none"}, "affinity", lambda s, t: formulae.pairwise(s, t) * 63**2),
]


@pytest.mark.parametrize(("method", "params", "term", "formula"), LOGITS, ids=[f"{c[0]} {c[1]} {c[2]}" for c in LOGITS])
def test_formula_on_logits(method: str, params: dict[str, Any], term: str, formula: Callable[..., float]) -> None:
    given = arrays()
    found = terms_of(method, params, given)[term]
    assert found == pytest.approx(formula(given["student_logits"], given["teacher_logits"]), rel=1e-10)


@pytest.mark.parametrize(
    ("method", "params", "term", "formula"), FEATURES, ids=[f"{c[0]} {c[1]} {c[2]}" for c in FEATURES]
)
def test_formula_on_features(method: str, params: dict[str, Any], term: str, formula: Callable[..., float]) -> None:
    given = arrays()
    found = terms_of(method, params, given)[term]
    assert found == pytest.approx(formula(given["student_features"], given["teacher_features"]), rel=1e-10)


def test_kd_leaves_ignored_pixels_out_when_asked() -> None:
    given = arrays()
    s, t = given["student_logits"], given["teacher_logits"]
    # Nearest resizing by 8 takes every eighth label.
    valid = given["labels"][:, ::8, ::8] != -1
    assert not valid.all()
    masked = terms_of("kd", {"mask_ignored": True}, given)["kd"]
    assert masked == pytest.approx(formulae.kd(s, t, 1, valid), rel=1e-10)
    term = terms_of("fitnet", {"kd_mask_ignored": True}, given)["kd"]
    assert term == pytest.approx(masked, rel=1e-12)


def test_all_ignored_gives_zero_and_not_nan() -> None:
    given = arrays() | {"labels": np.full((2, 56, 72), 255)}
    assert terms_of("kd", {"mask_ignored": True}, given)["kd"] == 0
    assert terms_of("pixel_kd", {"mask_ignored": True}, given)["pixel"] == 0


@pytest.mark.parametrize("name", ["fitnet", "at", "skd", "cwd"])
def test_the_added_kd_is_the_method_kd(name: str) -> None:
    given = arrays()
    params = {"kd_tau": 2, "kd_reduction": "elements"}
    expected = terms_of("kd", {"tau": 2, "reduction": "elements"}, given)["kd"]
    assert terms_of(name, params, given)["kd"] == expected


# Grids ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", ["teacher", "student"])
def test_logits_of_different_strides_meet_on_the_chosen_grid(grid: str) -> None:
    student, teacher = maps(1, grid=(4, 5)), maps(2, grid=(8, 10))
    given = pair(student, teacher, 16)
    found = build("kd", given, align=grid)(given.step)["kd"]
    if grid == "teacher":
        s = F.interpolate(student.logits, size=(8, 10), mode="bilinear", align_corners=False)
        expected = formulae.kd(s.numpy(), teacher.logits.numpy(), 1)
    else:
        blocks = teacher.logits.numpy().reshape(2, 5, 4, 2, 5, 2).mean(axis=(3, 5))
        expected = formulae.kd(student.logits.numpy(), blocks, 1)
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["kd", "pixel_kd", "fitnet", "at", "skd", "cwd", "ka", "ka_torchdistill"])
@pytest.mark.parametrize("grid", [(2, 3), (5, 7), (17, 13)], ids=str)
def test_finite_terms_and_gradients_whatever_the_grids(name: str, grid: tuple[int, int]) -> None:
    student = tracked(maps(1, channels=4, grid=grid))
    given = pair(student, maps(2, channels=7, grid=(9, 11)))
    method = build(name, given)
    terms = method(given.step)
    assert set(terms) == set(method.active)
    sum(terms.values()).backward()
    gradients = [x.grad for x in (student.logits, student.last) if x.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    assert any(float(g.abs().sum()) > 0 for g in gradients)


@pytest.mark.parametrize("source", ["last", "deep"])
@pytest.mark.parametrize("name", ["fitnet", "at", "skd", "cwd"])
def test_the_source_of_features_is_a_choice(name: str, source: str) -> None:
    student = tracked(maps(1))
    given = pair(student, maps(2, channels=7))
    sum(build(name, given, source=source)(given.step).values()).backward()
    read = student.last if source == "last" else student.features[-1]
    other = student.features[-1] if source == "last" else student.last
    assert read.grad is not None and other.grad is None


# Gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "term", "which", "params"),
    [
        ("kd", "kd", "logits", {"tau": 2, "mask_ignored": True}),
        ("pixel_kd", "pixel", "logits", {}),
        ("fitnet", "hint", "last", {}),
        ("at", "attention", "last", {}),
        ("skd", "pairwise", "last", {}),
        ("cwd", "logits", "logits", {}),
        ("cwd", "feature", "last", {}),
        ("ka", "adapt", "last", {"p": 1}),
        ("ka", "adapt", "last", {"p": 2}),
        ("ka", "adapt", "last", {"p": 3, "q": 1.5}),
        ("ka", "affinity", "last", {}),
        ("ka_torchdistill", "adapt", "logits", {}),
        ("ka_torchdistill", "affinity", "logits", {}),
    ],
)
def test_gradient_agrees_with_finite_differences(name: str, term: str, which: str, params: dict[str, Any]) -> None:
    given = pair(maps(1, channels=3, grid=(3, 4)), maps(2, channels=3, grid=(3, 4)))
    method = build(name, given, term, **params)
    identity_adapters(method)
    if method.translator is not None:
        identity_adapters(method.translator)

    def loss(value: Tensor) -> Tensor:
        return method(replace(given.step, student=replace(given.step.student, **{which: value})))[term]

    assert torch.autograd.gradcheck(loss, getattr(given.step.student, which).clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("name", ["kd", "pixel_kd", "fitnet", "at", "skd", "cwd", "ka", "ka_torchdistill"])
def test_equal_maps_give_finite_gradients(name: str) -> None:
    """At the minimum norms are zero: their gradient must not be infinite."""
    teacher = maps(2)
    student = tracked(teacher)
    given = pair(student, teacher)
    method = build(name, given)
    identity_adapters(method)
    if method.translator is not None:
        identity_adapters(method.translator)
    sum(method(given.step).values()).backward()
    for leaf in (student.logits, student.last):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("name", ["kd", "pixel_kd", "fitnet", "at", "skd", "cwd", "ka", "ka_torchdistill"])
def test_under_autocast_losses_are_computed_in_full_precision(name: str) -> None:
    """Adapters run in bf16; all that comes after them is as good as outside autocast."""
    given = pair(maps(1, dtype=torch.float32), maps(2, channels=7, dtype=torch.float32))
    method = build(name, given)
    outside = method(given.step)
    with torch.autocast("cpu", torch.bfloat16):
        inside = method(given.step)
    for term, value in inside.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, outside[term], rtol=3e-2, atol=1e-4)


# Declarations ---------------------------------------------------------------------------------------------------------


def test_none_has_no_terms_and_needs_no_teacher() -> None:
    given = pair(maps(1), maps(2))
    method = build("none", given)
    assert method(given.step) == {}
    assert not method.needs_teacher and not list(method.parameters())


@pytest.mark.parametrize("name", ["fitnet", "skd", "cwd", "ka", "ka_torchdistill"])
def test_nothing_is_built_for_terms_that_are_not_active(name: str) -> None:
    given = pair(maps(1), maps(2, channels=7))
    method = build(name, given, active=())
    assert not list(method.parameters()) and method.get_discriminator() is None
    assert method(given.step) == {}


def test_variants_bring_their_weights_and_parameters() -> None:
    given = pair(maps(1), maps(2))
    skd = build("skd", given, variant="original")
    assert skd.weights(skd.params) == {"pairwise": 0.5, "holistic": 0.1, "kd": 0.0, "pixel": 10.0}
    assert (skd.params.pool, skd.params.adv_loss) == (0.5, "wgan-gp")
    assert build("skd", given, variant="original", pool=2).params.pool == 2
    cwd = build("cwd", given, variant="original")
    assert cwd.active == {"logits"}


def test_cwd_learns_an_adapter_only_where_channels_differ() -> None:
    same = build("cwd", pair(maps(1), maps(2)), "feature")
    other = build("cwd", pair(maps(1), maps(2, channels=7)), "feature")
    assert [p.shape for p in other.parameters()] == [(7, 6, 1, 1)]
    assert not list(same.parameters())
