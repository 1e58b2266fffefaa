"""Bring student and teacher maps of different strides to one grid.

`regrid` interpolates bilinearly where the target is finer and averages areas where it is coarser. The parameter `align`
selects the grid; the default is the teacher's, so that no teacher output is lost. `teacher-corners` and
`student-corners` are the same grids with bilinear resizing and aligned corners in both directions, as in most published
code.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal, TypeVar

from torch import Tensor
from torch.nn import functional as F

from methods.base import Maps, Sizes, memo

T = TypeVar("T")
Grid = Literal["teacher", "student", "teacher-corners", "student-corners"]
"""The grid on which student and teacher are compared, and how the other map is resized to it."""
Source = Literal["last", "deep"]
"""Which map a feature method reads: what the classifier reads, or the backbone's deepest map."""


def regrid(x: Tensor, like: Tensor) -> Tensor:
    """Bring (B, C, h, w) to the grid of `like`: area averages where that is coarser, bilinear where it is finer.

    Bilinear does not align corners. The same tensor comes back when the grids are equal.
    """
    (h, w), (height, width) = x.shape[-2:], like.shape[-2:]
    if (h, w) == (height, width):
        return x
    if height > h or width > w:
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    if h % height == 0 and w % width == 0:
        # Equal to the pooling below, and its backward pass is deterministic on a GPU.
        return F.avg_pool2d(x, (h // height, w // width))
    return F.adaptive_avg_pool2d(x, (height, width))


def align(student: Tensor, teacher: Tensor, grid: Grid = "teacher") -> tuple[Tensor, Tensor]:
    """(student, teacher) on one grid, the teacher's or the student's, by `regrid` or with aligned corners."""
    whose, _, corners = grid.partition("-")
    resized = _with_corners if corners else regrid
    if whose == "teacher":
        return resized(student, teacher), teacher
    return student, resized(teacher, student)


def from_teacher(
    teacher: Maps, what: str, aligned: Tensor, grid: Grid, compute: Callable[[Tensor], T], *others: Hashable
) -> T:
    """`compute(aligned)`, computed once per batch for all students that use this grid: see `methods.base.memo`.

    Args:
        what: a name for the map and the quantity derived from it.
        aligned: the teacher's map as returned by `align`.
        others: further values that the result depends on.
    """
    return memo(teacher, (what, grid, tuple(aligned.shape), *others), lambda: compute(aligned))


def _with_corners(x: Tensor, like: Tensor) -> Tensor:
    """Bring (B, C, h, w) to the grid of `like`, bilinearly, with corners aligned."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def pick(maps: Maps, source: Source) -> Tensor:
    """The feature map that a method reads: `last`, or the deepest backbone map."""
    return maps.last if source == "last" else maps.features[-1]


def channels(sizes: Sizes, source: Source) -> int:
    """Channels of the map that `pick` returns."""
    return sizes.last if source == "last" else sizes.features[-1]


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Check that two maps can be subtracted.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student map {tuple(student.shape)} and teacher map {tuple(teacher.shape)} cannot be compared: "
            "their shapes (B, C, h, w) must be equal"
        )
