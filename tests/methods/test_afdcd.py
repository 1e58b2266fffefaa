"""Af-DCD."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.builders.expression import resolve
from harness.conformance.terms import compute_terms
from methods.afdcd import AfDCD, Enhanced, centre_mask, channel_groups, max_pool, omni_contrast, patches
from tests.methods import formulae
from tests.methods.golden import ARRAYS, FILES
from tests.methods.pairs import array, build, networks, values


def test_golden_value() -> None:
    """The published number is the sum over the batch; the term is divided by its two images."""
    arrays = FILES["wide"]
    terms = compute_terms("afdcd", {"mask_ratio": 0}, arrays, identity_adapters=True)
    assert 2 * terms["omni"] == pytest.approx(375.3689134, rel=1e-6)
    error = (arrays["student_features"] - arrays["teacher_features"]) ** 2
    assert terms["rec"] == pytest.approx(error.sum() / 2, rel=1e-12)
    assert compute_terms("afdcd", {}, ARRAYS, identity_adapters=True)["kd"] == pytest.approx(1.386444682, rel=1e-6)


@pytest.mark.parametrize(("groups", "patch", "pool", "size"), [(4, 2, 1, (4, 6)), (2, 2, 2, (9, 8)), (8, 3, 1, (7, 3))])
def test_contrast_agrees_with_the_formula(groups: int, patch: int, pool: int, size: tuple[int, int]) -> None:
    """Also where rows and columns are left over."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 8, *size, dtype=torch.float64, generator=generator) for _ in range(2))
    found = omni_contrast(student, teacher, tau=0.5, groups=groups, patch=patch, pool=pool)
    expected = formulae.omni(array(student), array(teacher), 0.5, groups, patch, pool)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_contrast_agrees_with_finite_differences() -> None:
    """At a temperature at which the contrast is not all of one logit."""
    student, teacher = (torch.randn(2, 8, 4, 6, dtype=torch.float64) for _ in range(2))
    contrast = partial(omni_contrast, teacher=teacher, tau=2.0, groups=4, patch=2, pool=1)
    assert torch.autograd.gradcheck(contrast, student.requires_grad_(), fast_mode=True)


def test_patches_keep_positions_and_groups_together() -> None:
    x = torch.arange(2 * 6 * 4 * 6.0).reshape(2, 6, 4, 6)
    cut = patches(x, 2, 3)
    assert cut.shape == (12, 12, 2)
    # Second image, second row and third column of patches, position (1, 0) of the patch, last group.
    assert torch.equal(cut[6 + 3 + 2, 2 * 3 + 2], x[1, 4:6, 3, 4])


def test_max_pool_is_torchs() -> None:
    x = torch.randn(2, 3, 9, 13)
    assert torch.equal(max_pool(x, 4), F.max_pool2d(x, 4))
    assert max_pool(x, 1) is x


def test_small_maps_shrink_pool_and_patch() -> None:
    """A map that holds no pooled patch is pooled less; one that holds no patch has smaller patches."""
    student, teacher = (torch.randn(1, 16, 5, 9, dtype=torch.float64) for _ in range(2))
    assert torch.equal(omni_contrast(student, teacher), omni_contrast(student, teacher, pool=1, patch=4))
    tiny = student[..., :2, :3], teacher[..., :2, :3]
    assert torch.equal(omni_contrast(*tiny), omni_contrast(*tiny, pool=1, patch=2))


def test_channel_groups() -> None:
    assert [channel_groups(width, 16) for width in (256, 320, 40, 7, 17, 1)] == [16, 16, 10, 7, 1, 1]


def test_the_teachers_own_vectors_are_the_best() -> None:
    """A student that equals the teacher is nearer to it than one that does not."""
    teacher = torch.randn(1, 16, 4, 4)
    assert omni_contrast(teacher, teacher) < omni_contrast(teacher + torch.randn_like(teacher), teacher)


def test_centre_mask() -> None:
    mask = centre_mask(torch.zeros(2, 3, 9, 6))
    assert mask.shape == (1, 1, 9, 6)
    assert float(mask.sum()) == 9 * 6 - 3 * 2 and float(mask[..., 3:6, 2:4].sum()) == 0
    given = networks()
    method = build(AfDCD, given, "rec", mask="centre")
    assert torch.equal(values(method, given, 1)["rec"], values(method, given, 2)["rec"])


def test_enhanced_projector() -> None:
    """Mean of an exit after one stage and an exit after two."""
    projector = Enhanced(2).double()
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    weight = {name: array(p) for name, p in projector.named_parameters()}

    def conv(name: str, y: np.ndarray) -> np.ndarray:
        return formulae.convolve(y, weight[f"layers.{name}.weight"], weight[f"layers.{name}.bias"])

    first = conv("0.0", array(x)).clip(0)
    expected = (conv("2", first) + conv("3", conv("1.0", first).clip(0))) / 2
    np.testing.assert_allclose(array(projector(x)), expected, rtol=1e-10)
    method = build(AfDCD, networks(), projector="enhanced")
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in method.modules()) == 4


def test_variants() -> None:
    """Weights of the published recipes, and camvid's contrast without pooling; what is given wins."""
    parts = {v: resolve(f"afdcd[variant={v}]")[0].parts[0] for v in ("cityscapes", "voc", "camvid")}
    assert parts["cityscapes"].weights == {"rec": 2e-6, "omni": 0.005, "kd": 1.0}
    assert parts["voc"].weights == {"rec": 1e-6, "omni": 0.005, "kd": 1.0}
    assert parts["camvid"].weights == {"rec": 8e-6, "omni": 0.01, "kd": 1.0}
    assert [parts[v].params["pool"] for v in parts] == [4, 4, 1]
    assert resolve("afdcd[variant=camvid,pool=2]")[0].parts[0].params["pool"] == 2


def test_nothing_is_built_for_what_is_off() -> None:
    given = networks()
    assert not list(build(AfDCD, given, "kd").parameters())
    assert set(values(build(AfDCD, given, "omni"), given)) == {"omni"}
