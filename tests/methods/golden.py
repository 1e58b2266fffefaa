"""The inputs of the golden values: k is the flat C-order index. `python -m tests.methods.golden FOLDER` writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

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

FILES = {
    "x": ARRAYS,
    "logits": {"student_logits": FS, "teacher_logits": FT},
    "layers": {
        "student_logits": LS, "student_features_0": FS, "student_features_1": FS**2,
        "teacher_logits": LT, "teacher_features_0": FT, "teacher_features_1": FT**2,
    },
    "tokens": ARRAYS | {"tokens": filled(lambda k: np.sin(0.3 * k + 0.1), 8, 19)},
    "wide": {
        "student_features": filled(lambda k: np.sin(0.011 * k), 2, 16, 32, 64),
        "teacher_features": filled(lambda k: np.cos(0.007 * k), 2, 16, 32, 64),
    },
}  # fmt: skip
"""The files that the table of docs/methods.md names."""


def write(folder: Path) -> None:
    """Every file of inputs, as NAME.npz."""
    for name, arrays in FILES.items():
        np.savez(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
