"""Distances between pairwise-similarity matrices, exactly, at a cost linear in the number of positions.

A (B, C, m) map with unit columns s_i has the similarity matrix A_s = SᵀS, m×m. Methods compare A_s of the student with
A_t = TᵀT of the teacher. With D = S − T,

    A_s − A_t = SᵀD + DᵀT = PᵀU,      P = [S; D],  U = [D; T]      (both 2C × m)

so row i has the squared norm ‖Pᵀu_i‖² = u_iᵀ(PPᵀ)u_i, and the sum over rows is ⟨PPᵀ, UUᵀ⟩. Only 2C×2C and 2C×m
matrices are made. Every product holds a factor D, so nothing cancels when the student comes near the teacher: a form in
SᵀS and TᵀT would subtract numbers of order m to get one of order ‖D‖².

Where m ≤ 2C the m×m matrix is no larger than P, and is used directly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts import full_precision, precise, safe_sqrt, unit


def unit_columns(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, h·w), each position's feature vector divided by its length; zero vectors stay zero."""
    return unit(x.flatten(2), dim=1)


def row_norms(student: Tensor, teacher: Tensor) -> Tensor:
    """‖(A_s − A_t)_i‖₂ for every row i: (B, C, m) and (B, C', m) unit columns -> (B, m).

    Channels may differ, since only similarities are compared. The gradient where a row is zero is zero.

    Raises:
        ValueError: batch or number of positions differ.
    """
    left, right = _factors(student, teacher)
    with full_precision(left):
        if _direct(left):
            return safe_sqrt((left.mT @ right).square().sum(dim=-1))
        gram = left @ left.mT
        return safe_sqrt((right * (gram @ right)).sum(dim=1))


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """‖A_s − A_t‖²_F: (B, C, m) and (B, C', m) unit columns -> (B,).

    Raises:
        ValueError: batch or number of positions differ.
    """
    left, right = _factors(student, teacher)
    with full_precision(left):
        if _direct(left):
            return (left.mT @ right).square().sum(dim=(-2, -1))
        return ((left @ left.mT) * (right @ right.mT)).sum(dim=(-2, -1))


def _direct(left: Tensor) -> bool:
    """Whether the m×m matrix is no larger than the factors."""
    return left.shape[2] <= left.shape[1]


def _factors(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """P = [S; D] and U = [D; T], each (B, 2C, m). The narrower map is padded with zeros: no similarity changes."""
    if student.shape[0] != teacher.shape[0] or student.shape[2] != teacher.shape[2]:
        raise ValueError(
            f"affinities of {tuple(student.shape)} and {tuple(teacher.shape)} cannot be compared: "
            "(B, C, m) maps need equal batch and positions"
        )
    with full_precision(student):
        wide = max(student.shape[1], teacher.shape[1])
        s, t = _widen(precise(student), wide), _widen(precise(teacher), wide)
        difference = s - t
        return torch.cat((s, difference), dim=1), torch.cat((difference, t), dim=1)


def _widen(x: Tensor, wide: int) -> Tensor:
    missing = wide - x.shape[1]
    return torch.cat((x, x.new_zeros(x.shape[0], missing, x.shape[2])), dim=1) if missing else x
