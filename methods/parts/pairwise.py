"""Exact distances between pairwise-similarity matrices, at a cost linear in the number of positions.

A (B, C, m) map with unit columns s_i has the similarity matrix A_s = SᵀS, m×m. Methods compare A_s of the student with
A_t = TᵀT of the teacher. With D = S − T and M = (S + T)/2,

    Δ = A_s − A_t = MᵀD + DᵀM      so     ‖row_i‖² = m_iᵀ(DDᵀ)m_i + 2 m_iᵀ(DMᵀ)d_i + d_iᵀ(MMᵀ)d_i,

so only C×C and C×m matrices are formed. Every product has a factor D, so there is no cancellation when the student
approaches the teacher: a form in SᵀS and TᵀT would subtract numbers of order m to get one of order ‖D‖². D itself is
computed without cancellation too. Gradients are explicit, in the same products: with row weights W = diag(w),

    ∇_S Σ_i w_i ‖row_i‖² = 2 (S W Δ + S Δ W),      S W Δ = (S W Mᵀ) D + (S W Dᵀ) M,

and ∇_T is the same in T with the other sign.

Similarities are invariant under a common rotation of all vectors, so S may match T with D far from zero. Then MᵀD is
nearly antisymmetric, the middle term cancels the outer two, and float32 cannot resolve the rest. This is detected by
comparing the sum with its terms (`CANCELS`), and such maps are computed in float64.

Where m ≤ 2C, the m×m matrix is no larger than the maps and is formed directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from methods.parts.precision import full_precision, precise, safe_sqrt

EPS = 1e-6
"""Feature vectors shorter than this are divided by it instead of by their length, so that they fade to zero."""

CANCELS = 2.0**-6
"""Below this ratio of a squared norm to its positive terms (about 1 without cancellation), float64 is needed."""


class _UnitColumns(torch.autograd.Function):
    """(B, C, m) -> its vectors divided by max(length, `EPS`)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, length: Tensor) -> Tensor:
        unit = x / length.clamp_min(EPS)
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        unit, length = ctx.saved_tensors
        along = (unit * gradient).sum(dim=1, keepdim=True) * (length > EPS)
        return torch.addcmul(gradient, unit, along, value=-1).div_(length.clamp_min(EPS)), None


def unit_columns(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Feature vectors of unit length, and their differences.

    With n the lengths, s − t = (x − y)/n_y − x (n_x² − n_y²)/(n_x n_y (n_x + n_y)) and n_x² − n_y² = ⟨x − y, x + y⟩,
    so that the differences keep their relative precision however close the two maps are.

    Args:
        student, teacher: x and y, (B, C, h, w) each; C may differ.

    Returns:
        S, T and S − T, each (B, C, h·w); where C differs, the narrower map is padded with zeros, which changes no
        similarity. Zero vectors stay zero. S − T carries no gradient: the distances below give S and T all of it.

    Raises:
        ValueError: batch or grid differ.
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"affinities of {tuple(student.shape)} and {tuple(teacher.shape)} cannot be compared: "
            "(B, C, h, w) maps need equal batch and grid"
        )
    with full_precision(student):
        wide = max(student.shape[1], teacher.shape[1])
        x, y = (_widen(precise(maps).flatten(2), wide) for maps in (student, teacher))
        with torch.no_grad():
            long_x, long_y = (torch.linalg.vector_norm(maps, dim=1, keepdim=True) for maps in (x, y))
            n_x, n_y = long_x.clamp_min(EPS), long_y.clamp_min(EPS)
            gap = x - y
            exact = (gap * (x + y)).sum(dim=1, keepdim=True) / (n_x + n_y)
            longer = torch.where((long_x > EPS) & (long_y > EPS), exact, n_x - n_y)
            difference = gap.div_(n_y).addcmul_(x, longer / (n_x * n_y), value=-1)
        return _UnitColumns.apply(x, long_x), _UnitColumns.apply(y, long_y), difference  # type: ignore[no-untyped-call]


def row_norms(student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
    """‖(A_s − A_t)_i‖₂ for every row i: S, T and S − T, (B, C, m) each -> (B, m). Zero rows give no gradient.

    On a GPU this synchronises once, to see whether the result needs float64.
    """
    with full_precision(student):
        return _RowNorms.apply(student, teacher, difference)  # type: ignore[no-untyped-call,no-any-return]


def squared_distance(student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
    """‖A_s − A_t‖²_F: S, T and S − T, (B, C, m) each -> (B,). Synchronises with a GPU as `row_norms` does."""
    with full_precision(student):
        return _SquaredDistance.apply(student, teacher, difference)  # type: ignore[no-untyped-call,no-any-return]


class _RowNorms(torch.autograd.Function):
    """S, T, D -> norms of the rows of Δ, (B, m)."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
        d, m, squares, products = _accurate(_row_squares, teacher, difference)
        norms = safe_sqrt(squares)
        ctx.save_for_backward(d, m, norms, *products)
        return norms.to(student.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d, m, norms, *products = ctx.saved_tensors
        # d‖row_i‖/d‖row_i‖² = 1 / (2 ‖row_i‖), and the 2 of the gradient of squares.
        weights = torch.where(norms > 0, gradient / norms, 0).unsqueeze(1)
        with full_precision(d):
            found = [
                _weighted_gradient(d, m, weights, products, sign).to(gradient.dtype) if needed else None
                for needed, sign in zip(ctx.needs_input_grad, (1, -1))
            ]
        return found[0], found[1], None


def _row_squares(d: Tensor, m: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Squared norms of the rows of Δ, their positive terms, (B, m) each; for the gradient, [Δ] or [DΔ, MΔ]."""
    if _direct(d):
        half = m.mT @ d
        outer = half.square()
        outer = outer.sum(dim=2) + outer.sum(dim=1)
        delta = half + half.mT
        return delta.square().sum(dim=2), outer, [delta]
    dm = d @ m.mT
    d_delta, m_delta = (d @ d.mT) @ m, (m @ m.mT) @ d
    outer = _dot(m, d_delta) + _dot(d, m_delta)
    d_delta.baddbmm_(dm, d)
    m_delta.baddbmm_(dm.mT, m)
    return _dot(m, d_delta) + _dot(d, m_delta), outer, [d_delta, m_delta]


def _weighted_gradient(d: Tensor, m: Tensor, weights: Tensor, products: list[Tensor], sign: int) -> Tensor:
    """±(X W Δ + X Δ W) with X = S (sign 1) or T (sign -1), that is M ± D/2, and W = diag(weights): (B, C, m)."""
    x = torch.add(m, d, alpha=sign / 2)
    if len(products) == 1:
        (delta,) = products
        return sign * (x @ (delta * weights + delta * weights.mT))
    d_delta, m_delta = products
    x_delta = torch.add(m_delta, d_delta, alpha=sign / 2).mul_(weights)
    x.mul_(weights)
    x_delta.baddbmm_(x @ m.mT, d).baddbmm_(x @ d.mT, m)
    return x_delta if sign == 1 else x_delta.neg_()


class _SquaredDistance(torch.autograd.Function):
    """S, T, D -> ‖Δ‖²_F, (B,): 2⟨DDᵀ, MMᵀ⟩ + 2⟨DMᵀ, MDᵀ⟩, with the gradient ±4 X Δ."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
        d, m, squares, products = _accurate(_squares, teacher, difference)
        ctx.save_for_backward(d, m, *products)
        return squares.to(student.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        d, m, *products = ctx.saved_tensors
        scale = 4 * gradient.view(-1, 1, 1)
        with full_precision(d):
            found = [
                _gradient(d, m, products, sign).mul_(sign * scale).to(gradient.dtype) if needed else None
                for needed, sign in zip(ctx.needs_input_grad, (1, -1))
            ]
        return found[0], found[1], None


def _squares(d: Tensor, m: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """‖Δ‖²_F, its positive terms (B, each), and what the gradient needs: [Δ] or [DDᵀ, DMᵀ, MMᵀ]."""
    if _direct(d):
        half = m.mT @ d
        delta = half + half.mT
        return delta.square().sum(dim=(1, 2)), 2 * half.square().sum(dim=(1, 2)), [delta]
    dd, dm, mm = d @ d.mT, d @ m.mT, m @ m.mT
    outer = 2 * (dd * mm).sum(dim=(1, 2))
    return outer + 2 * (dm * dm.mT).sum(dim=(1, 2)), outer, [dd, dm, mm]


def _gradient(d: Tensor, m: Tensor, products: list[Tensor], sign: int) -> Tensor:
    """X Δ with X = M ± D/2: (B, C, m)."""
    if len(products) == 1:
        return torch.add(m, d, alpha=sign / 2) @ products[0]
    dd, dm, mm = products
    return (torch.add(mm, dm, alpha=sign / 2) @ d).baddbmm_(torch.add(dm.mT, dd, alpha=sign / 2), m)


def _accurate(
    compute: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, list[Tensor]]], teacher: Tensor, difference: Tensor
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """D, M, and the squares and products that `compute` derives from them; in float64 where float32 cancels."""
    d, m = difference, torch.add(teacher, difference, alpha=0.5)
    squares, outer, products = compute(d, m)
    if _cancels(squares, outer):
        d, m = d.double(), m.double()
        squares, _, products = compute(d, m)
    return d, m, squares, products


def _cancels(squares: Tensor, outer: Tensor) -> bool:
    """Whether any of these sums is too small relative to its terms for its precision."""
    return squares.dtype != torch.float64 and bool((squares < CANCELS * outer).any())


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """⟨x_i, y_i⟩ for every position: (B, C, m), (B, C, m) -> (B, m)."""
    return (x * y).sum(dim=1)


def _direct(x: Tensor) -> bool:
    """Whether the m×m matrix is no larger than two maps, 2C × m."""
    return x.shape[2] <= 2 * x.shape[1]


def _widen(x: Tensor, wide: int) -> Tensor:
    missing = wide - x.shape[1]
    return torch.cat((x, x.new_zeros(x.shape[0], missing, x.shape[2])), dim=1) if missing else x
