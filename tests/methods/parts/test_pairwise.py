"""The affinity at linear cost against the m×m form: values, gradients, precision near equality, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from methods.ka import affinity
from methods.parts.pairwise import row_norms, squared_distance, unit_columns
from methods.skd import pairwise_similarity

FORMS = ["row", "squared"]


def naive(student: Tensor, teacher: Tensor, form: str, normalise: str = "positions") -> Tensor:
    """The m×m form, written out."""
    s, t = (x.flatten(2) / x.flatten(2).norm(dim=1, keepdim=True) for x in (student, teacher))
    difference = s.mT @ s - t.mT @ t
    m = s.shape[2] if normalise == "positions" else 1
    if form == "row":
        return (difference / m).norm(dim=2).sum(dim=1).mean()
    return (difference / m).square().sum(dim=(1, 2)).mean()


def random_maps(channels: int, grid: tuple[int, int], apart: float | None = None) -> tuple[Tensor, Tensor]:
    """Student and teacher in float64; `apart` is how far the student is from the teacher."""
    generator = torch.Generator().manual_seed(3)
    teacher = torch.randn(2, channels, *grid, generator=generator, dtype=torch.float64)
    noise = torch.randn(teacher.shape, generator=generator, dtype=torch.float64)
    return (noise if apart is None else teacher + apart * noise), teacher


def value_and_gradients(
    call: Callable[..., Tensor], student: Tensor, teacher: Tensor, *args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    value = call(student, teacher, *args)
    return value.detach(), *torch.autograd.grad(value, (student, teacher))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalise", ["positions", "none"])
@pytest.mark.parametrize("grid", [(3, 2), (9, 11)], ids=["few positions", "many positions"])
@pytest.mark.parametrize("apart", [None, 1e-2], ids=["far", "near"])
def test_equals_the_full_form_in_float64(form: str, normalise: str, grid: tuple[int, int], apart: float | None) -> None:
    student, teacher = random_maps(8, grid, apart)
    found = value_and_gradients(affinity, student, teacher, form, normalise)
    expected = value_and_gradients(naive, student, teacher, form, normalise)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).norm() <= 1e-10 * theirs.norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("apart", [None, 1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("grid", [(6, 8), (12, 14)], ids=["few positions", "many positions"])
def test_float32_is_accurate_however_near_the_maps_are(form: str, apart: float | None, grid: tuple[int, int]) -> None:
    student, teacher = (x.float() for x in random_maps(32, grid, apart))
    found = value_and_gradients(affinity, student, teacher, form)
    expected = value_and_gradients(naive, student.double(), teacher.double(), form)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("grid", [(6, 8), (12, 14)], ids=["few positions", "many positions"])
def test_float32_is_accurate_when_the_student_is_the_teacher_rotated(
    form: str, apart: float, grid: tuple[int, int]
) -> None:
    """Rotating all vectors alike changes no similarity: values are as small as for near-equal maps, S − T is not."""
    student, teacher = random_maps(32, grid, apart)
    rotation = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
    student, teacher = (rotation @ student.flatten(2)).reshape(student.shape).float(), teacher.float()
    found = value_and_gradients(affinity, student, teacher, form)
    expected = value_and_gradients(naive, student.double(), teacher.double(), form)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()


class Precisions(TorchDispatchMode):
    """Remembers in which precisions floating-point tensors were made, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {x.dtype for x in tree_leaves(result) if isinstance(x, Tensor) and x.is_floating_point()}
        return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("apart", [None, 1.0, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("grid", [(6, 8), (20, 21)], ids=["few positions", "many positions"])
def test_single_precision_suffices_where_nothing_cancels(form: str, apart: float | None, grid: tuple[int, int]) -> None:
    student, teacher = (x.float() for x in random_maps(32, grid, apart))
    with Precisions() as made:
        found = value_and_gradients(affinity, student, teacher, form)
    expected = value_and_gradients(naive, student.double(), teacher.double(), form)
    assert made.seen == {torch.float32}
    for mine, theirs, tolerance in zip(found, expected, (3e-7, 2e-6, 2e-6), strict=True):
        assert (mine - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grid", [(6, 8), (20, 21)], ids=["few positions", "many positions"])
def test_double_precision_is_used_where_single_would_cancel(form: str, grid: tuple[int, int]) -> None:
    student, teacher = random_maps(32, grid, 1e-2)
    rotated = student[:, torch.randperm(32, generator=torch.Generator().manual_seed(1))].float()
    with Precisions() as made:
        affinity(rotated, teacher.float(), form)
    assert torch.float64 in made.seen


@pytest.mark.parametrize("form", FORMS)
def test_equal_maps_give_zero_and_finite_gradients(form: str) -> None:
    _, teacher = random_maps(8, (9, 11))
    value, student_gradient, _ = value_and_gradients(affinity, teacher.float(), teacher.float(), form)
    assert value == 0
    assert torch.isfinite(student_gradient).all()


@pytest.mark.parametrize("form", FORMS)
def test_zero_vectors_stay_zero_and_finite(form: str) -> None:
    student, teacher = random_maps(8, (9, 11))
    student[:, :, :3] = 0
    value, gradient, _ = value_and_gradients(affinity, student.float(), teacher.float(), form)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()
    s, _, difference = unit_columns(student, teacher)
    assert (s[..., : 3 * 11] == 0).all()
    torch.testing.assert_close(difference, s - unit_columns(student, teacher)[1])


@pytest.mark.parametrize("form", FORMS)
def test_channels_may_differ(form: str) -> None:
    _, teacher = random_maps(8, (9, 11))
    student = torch.randn(2, 5, 9, 11, dtype=torch.float64)
    torch.testing.assert_close(affinity(student, teacher, form), naive(student, teacher, form), rtol=1e-10, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_agrees_with_finite_differences(form: str) -> None:
    student, teacher = random_maps(3, (3, 4))
    assert torch.autograd.gradcheck(lambda x: affinity(x, teacher, form), student.requires_grad_(), fast_mode=True)


def test_grids_must_be_equal() -> None:
    with pytest.raises(ValueError, match="equal batch and grid"):
        affinity(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 4, 3))


@pytest.mark.parametrize(
    "call",
    [lambda s, t: affinity(s, t), lambda s, t: affinity(s, t, "squared"), lambda s, t: pairwise_similarity(s, t, 1)],
    ids=["row", "squared", "skd"],
)
def test_stays_in_float32_under_bf16_autocast(call: Callable[[Tensor, Tensor], Tensor]) -> None:
    student, teacher = (x.float() for x in random_maps(8, (9, 11), 1e-2))
    with torch.autocast("cpu", torch.bfloat16):
        inside = call(student, teacher)
        halves = call(student.bfloat16(), teacher.bfloat16())
    torch.testing.assert_close(inside, call(student, teacher), rtol=0, atol=0)
    expected = call(student.bfloat16().float(), teacher.bfloat16().float())
    torch.testing.assert_close(halves, expected, rtol=0, atol=0)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operator gave, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def largest_tensor(call: Callable[[Tensor, Tensor], Tensor], channels: int, side: int) -> int:
    student, teacher = random_maps(channels, (side, side))
    student.requires_grad_()
    with Largest() as seen:
        call(student, teacher).backward()
    return seen.elements


@pytest.mark.parametrize(
    "call",
    [lambda s, t: affinity(s, t), lambda s, t: affinity(s, t, "squared"), lambda s, t: pairwise_similarity(s, t, 1)],
    ids=["row", "squared", "skd"],
)
def test_memory_grows_with_the_positions_and_not_with_their_square(call: Callable[[Tensor, Tensor], Tensor]) -> None:
    batch, channels = 2, 4
    for side in (8, 16, 32):
        positions = side * side
        assert largest_tensor(call, channels, side) <= batch * 2 * channels * positions
    assert largest_tensor(lambda s, t: naive(s, t, "row"), channels, 16) == batch * 256**2, "the check itself sees"


def test_factors_of_any_two_maps() -> None:
    """The low-level functions need no unit length: they compare SᵀS with TᵀT."""
    s, t = (torch.randn(2, 3, 20, dtype=torch.float64) for _ in range(2))
    full = s.mT @ s - t.mT @ t
    torch.testing.assert_close(row_norms(s, t, s - t), full.norm(dim=2))
    torch.testing.assert_close(squared_distance(s, t, s - t), full.square().sum(dim=(1, 2)))
