"""Knowledge Adaptation: its translator, the latent on the student's grid, adapters, health."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.conformance.cases import RandomMaps
from methods.base import Sizes
from methods.ka import KATranslator, KnowledgeAdaptation, encoder_strides
from methods.parts.grids import regrid
from tests.methods.pairs import build, maps, pair, sizes, tracked

KA = KnowledgeAdaptation


@pytest.mark.parametrize(
    ("teacher", "latent", "expected"),
    [(8, 8, (1, 1, 1)), (8, 16, (2, 1, 1)), (8, 32, (2, 2, 1)), (4, 32, (2, 2, 2)), (2, 32, (4, 2, 2)),
     (16, 8, (1, 1, 1))],
)  # fmt: skip
def test_strides_bring_the_teacher_to_the_latent(teacher: int, latent: int, expected: tuple[int, ...]) -> None:
    assert encoder_strides(teacher, latent) == expected


def test_no_stride_reaches_what_is_no_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        encoder_strides(8, 24)
    small = sizes(maps(1))
    assert "power of two" in str(KA.skip(KA.Params(latent_stride=24), small, small))
    assert KA.skip(KA.Params(), small, small) is None


def key(student_stride: int, **params: object) -> dict[str, object] | None:
    teacher = sizes(maps(2))
    student = replace(sizes(maps(1)), last_stride=student_stride)
    return KA.translator_key(KA.Params.model_validate(params), frozenset(KA.terms), student, teacher)


def test_students_of_all_strides_share_one_translator_by_default() -> None:
    assert key(8) == key(16) == key(32)
    assert key(16) == key(16, p=1, q=1, form="squared", normalise="none", affinity_adapter="none")
    assert key(16) != key(16, channels=64)
    assert key(8, latent="student") != key(32, latent="student")
    assert key(16, latent="student") == key(16)


def test_no_translator_without_terms() -> None:
    both = sizes(maps(1))
    assert KA.translator_key(KA.Params(), frozenset(), both, both) is None


@pytest.mark.parametrize("grid", [(8, 8), (9, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (4, 2, 2)], ids=str)
def test_the_decoder_mirrors_the_encoder_on_any_grid(grid: tuple[int, int], strides: tuple[int, ...]) -> None:
    teacher = maps(2, channels=7, grid=grid, dtype=torch.float32)
    translator = KATranslator(7, 4, strides)
    total = strides[0] * strides[1] * strides[2]
    latent = translator.latent(teacher)
    assert latent.shape == (2, 4, -(-grid[0] // total), -(-grid[1] // total))
    assert set(translator(teacher)) == set(translator.terms)


def test_translator_terms_are_the_formula() -> None:
    teacher = maps(2, channels=7, dtype=torch.float32)
    translator = KATranslator(7, 4, (1, 1, 1), standardise=False)
    phi, latent = teacher.last, translator.latent(teacher)
    found = translator(teacher)
    restored = translator.decoder(translator.encoder(phi))
    torch.testing.assert_close(found["reconstruction"], (phi - restored).pow(2).sum(1).mean())
    torch.testing.assert_close(found["sparsity"], latent.abs().sum(1).mean())


def teacher_of(seed: int, scale: float) -> RandomMaps:
    """Smooth maps of few factors, rectified like a head's: what an auto-encoder can learn."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)) * scale
    factors = F.interpolate(torch.randn(8, 6, 3, 3, generator=generator), size=(8, 8), mode="bilinear")
    last = F.relu(torch.einsum("ck,bkhw->bchw", mixing, factors))
    return RandomMaps(last, last, (last,))


def trained(scale: float, iterations: int = 40) -> KATranslator:
    """A translator after a short training with its own recipe."""
    torch.manual_seed(0)
    translator = KATranslator(24, 32, (2, 1, 1))
    recipe = dict(translator.recipe["optimizer"])
    assert recipe.pop("name") == "sgd"
    optimizer = torch.optim.SGD(translator.parameters(), **recipe)
    for seed in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = recipe["lr"] * (1 - seed / iterations) ** 0.9
        terms = translator(teacher_of(seed, scale))
        optimizer.zero_grad()
        sum(translator.terms[name].weight * value for name, value in terms.items()).backward()
        nn.utils.clip_grad_norm_(translator.parameters(), translator.recipe["clip_grad"])
        optimizer.step()
    return translator.eval()


def test_the_recipe_trains_whatever_the_scale_of_the_teacher() -> None:
    small, large = (trained(scale).health(teacher_of(999, scale)) for scale in (0.03, 30.0))
    for health in (small, large):
        assert health["reconstruction_error"] < 0.75
        assert health["dead_channels"] < 0.2
        assert health["latent_variance"] > 0.05
    assert small["reconstruction_error"] == pytest.approx(large["reconstruction_error"], rel=0.1)


def test_a_dead_latent_is_refused() -> None:
    translator = KATranslator(24, 8, (2, 1, 1)).eval()
    last = translator.encoder.layers[-2]
    assert isinstance(last, nn.BatchNorm2d)
    nn.init.constant_(last.bias, -100.0)
    with pytest.raises(ValueError, match="dead"):
        translator.health(teacher_of(0, 1.0))


def test_a_latent_that_does_not_vary_is_refused() -> None:
    translator = KATranslator(24, 8, (2, 1, 1)).eval()
    nn.init.zeros_(translator.encoder.layers[-2].weight)
    nn.init.ones_(translator.encoder.layers[-2].bias)
    with pytest.raises(ValueError, match="dead"):
        translator.health(teacher_of(0, 1.0))


def test_a_diverged_latent_is_refused() -> None:
    translator = KATranslator(24, 8, (2, 1, 1)).eval()
    nn.init.constant_(translator.encoder.layers[0].weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        translator.health(teacher_of(0, 1.0))


def test_part_of_the_channels_may_be_dead() -> None:
    translator = KATranslator(24, 8, (2, 1, 1)).eval()
    with torch.no_grad():
        translator.encoder.layers[-2].bias[:2] = -100.0
    assert translator.health(teacher_of(0, 1.0))["dead_channels"] == 0.25


def test_gradients_reach_student_and_adapters_only() -> None:
    student, teacher = tracked(maps(1)), tracked(maps(2, channels=7))
    given = pair(student, teacher)
    method = build("ka", given)
    sum(method(given.step).values()).backward()
    assert student.last.grad is not None and student.logits.grad is None
    assert teacher.last.grad is None and all(p.grad is None for p in method.translator.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def names(method: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, _ in method.named_parameters()}


def test_c_a_may_be_its_own_shared_or_none() -> None:
    given = pair(maps(1), maps(2, channels=7))
    assert names(build("ka", given)) == {"adapter", "affinity_adapter"}
    assert names(build("ka", given, affinity_adapter="shared")) == {"adapter"}
    assert names(build("ka", given, affinity_adapter="none")) == {"adapter"}
    for choice in ("own", "shared", "none"):
        only = build("ka", given, "affinity", affinity_adapter=choice)
        assert names(only) == {"own": {"affinity_adapter"}, "shared": {"adapter"}, "none": set()}[choice]
        assert set(only(given.step)) == {"affinity"}
    assert names(build("ka", given, "adapt")) == {"adapter"}


def test_it_says_that_it_needs_its_translator() -> None:
    small: Sizes = sizes(maps(1))
    with pytest.raises(ValueError, match="needs the translator"):
        KA(KA.Params(), frozenset(KA.terms), small, small)


def test_the_latent_comes_to_the_student_by_area_or_bilinearly() -> None:
    x = torch.arange(48, dtype=torch.float64).reshape(1, 1, 6, 8)
    down = regrid(x, torch.empty(1, 1, 3, 4))
    assert torch.equal(down, x.reshape(1, 1, 3, 2, 4, 2).mean(dim=(3, 5)))
    odd = regrid(x, torch.empty(1, 1, 4, 5))
    torch.testing.assert_close(odd, F.adaptive_avg_pool2d(x, (4, 5)))
    up = regrid(x, torch.empty(1, 1, 12, 16))
    assert torch.equal(up, F.interpolate(x, size=(12, 16), mode="bilinear", align_corners=False))
    assert regrid(x, x) is x
