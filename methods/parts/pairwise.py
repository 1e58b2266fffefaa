"""Distances between pairwise-similarity matrices, exactly, at a cost linear in the number of positions.

A (B, C, m) map with unit columns s_i has the similarity matrix A_s = SᵀS, m×m. Methods compare A_s of the student with
A_t = TᵀT of the teacher. With D = S − T,

    A_s − A_t = SᵀD + DᵀT = PᵀU,      P = [S; D],  U = [D; T]      (both 2C × m)

so row i has the squared norm ‖Pᵀu_i‖² = u_iᵀ(PPᵀ)u_i, and the sum over rows is ⟨PPᵀ, UUᵀ⟩. Only 2C×2C and 2C×m
matrices are made. Every product holds a factor D, so nothing cancels when the student comes near the teacher: a form in
SᵀS and TᵀT would subtract numbers of order m to get one of order ‖D‖². D itself is found without cancellation too.

Similarities do not change when all vectors are rotated alike, so S may match T with D far from zero; u_iᵀ(PPᵀ)u_i then
does cancel, before a square root. These products are therefore taken in float64, whatever the maps come in.

Where m ≤ 2C the m×m matrix is no larger than P, and is used directly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.precision import full_precision, precise, safe_sqrt

EPS = 1e-6
"""Feature vectors shorter than this are not brought to unit length: they fade to zero."""


def unit_columns(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Feature vectors of unit length, and their differences.

    With n the lengths, s − t = (x − y)/n_y − x (n_x² − n_y²)/(n_x n_y (n_x + n_y)) and n_x² − n_y² = ⟨x − y, x + y⟩,
    so that the differences keep their relative precision however near the two maps come.

    Args:
        student, teacher: x and y, (B, C, h, w) each; C may differ.

    Returns:
        S, T and S − T, each (B, C, h·w); where C differs, the narrower map is padded with zeros, which changes no
        similarity. Zero vectors stay zero.

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
        long_x, long_y = (safe_sqrt(maps.square().sum(dim=1, keepdim=True)) for maps in (x, y))
        n_x, n_y = long_x.clamp_min(EPS), long_y.clamp_min(EPS)
        gap = x - y
        exact = (gap * (x + y)).sum(dim=1, keepdim=True) / (n_x + n_y)
        longer = torch.where((long_x > EPS) & (long_y > EPS), exact, n_x - n_y)
        return x / n_x, y / n_y, gap / n_y - x * longer / (n_x * n_y)


def row_norms(student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
    """‖(A_s − A_t)_i‖₂ for every row i: S, T and S − T, (B, C, m) each -> (B, m). Zero rows give no gradient."""
    with full_precision(student):
        p, u = _factors(student, teacher, difference)
        squares = (p.mT @ u).square().sum(dim=-1) if _direct(p) else (u * ((p @ p.mT) @ u)).sum(dim=1)
        return safe_sqrt(squares).to(precise(student).dtype)


def squared_distance(student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
    """‖A_s − A_t‖²_F: S, T and S − T, (B, C, m) each -> (B,)."""
    with full_precision(student):
        p, u = _factors(student, teacher, difference)
        squares = (p.mT @ u).square() if _direct(p) else (p @ p.mT) * (u @ u.mT)
        return squares.sum(dim=(-2, -1)).to(precise(student).dtype)


def _factors(student: Tensor, teacher: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
    """P = [S; D] and U = [D; T], each (B, 2C, m), in float64."""
    s, t, d = student.double(), teacher.double(), difference.double()
    return torch.cat((s, d), dim=1), torch.cat((d, t), dim=1)


def _direct(factor: Tensor) -> bool:
    """Whether the m×m matrix is no larger than a factor, 2C × m."""
    return factor.shape[2] <= factor.shape[1]


def _widen(x: Tensor, wide: int) -> Tensor:
    missing = wide - x.shape[1]
    return torch.cat((x, x.new_zeros(x.shape[0], missing, x.shape[2])), dim=1) if missing else x
