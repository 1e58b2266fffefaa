"""The inputs of the golden values: k is the flat C-order index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def filled(formula: Callable[[np.ndarray], np.ndarray], *shape: int) -> np.ndarray:
    return formula(np.arange(np.prod(shape))).reshape(shape)


LS = filled(lambda k: 2 * np.sin(0.37 * k), 2, 19, 8, 16)
LT = filled(lambda k: 2 * np.cos(0.23 * k + 0.5), 2, 19, 8, 16)
FS = filled(lambda k: np.sin(0.11 * k), 2, 8, 8, 16)
FT = filled(lambda k: np.cos(0.07 * k), 2, 8, 8, 16)
Y = filled(lambda k: ((k // 97) % 20) - 1, 2, 64, 128)

ARRAYS = {
    "student_logits": LS,
    "teacher_logits": LT,
    "student_features": FS,
    "teacher_features": FT,
    "labels": Y,
}
