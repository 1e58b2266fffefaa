"""What a reader should know of a row before trusting it, in a few words each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEANING = {
    "one seed": "training noise is not in the interval",
    "teacher not ahead": "the teacher is not clearly ahead of `none`: there is no lead to close",
    "fewer images": "evaluated on fewer images than other rows of the split",
    "fewer samples": "trained on fewer samples than its recipe says",
    "fell back": "precision or memory layout is not the recipe's, whose gradients were wrong on that machine",
    "uncounted": "operators without a count are not in its GMACs (`harness show` names them)",
    "changed code": "made with changes to the code that no commit holds",
    "resumed under other code": "a run went on from a checkpoint that other code of the harness had made",
    "several revisions": "its seeds were trained by unlike revisions of the code",
}
"""Every flag, and what it says."""
NO_PRODUCTS = frozenset(
    (
        "abs", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "amax", "amin", "arange", "avg_pool2d", "ceil",
        "celu", "clamp", "clone", "cos", "cumsum", "div", "dropout", "elu", "eq", "erf", "exp", "feature_dropout",
        "floor", "floor_divide", "ge", "gelu", "gt", "hardsigmoid", "hardswish", "hardtanh", "le", "leaky_relu",
        "linalg_norm", "linalg_vector_norm", "linspace", "log", "log_softmax", "lt", "masked_fill", "max",
        "max_pool2d", "mean", "meshgrid", "min", "mish", "mul", "ne", "neg", "norm", "pad", "pow", "prelu",
        "reciprocal", "relu6", "remainder", "roll", "round", "rsqrt", "rsub", "sigmoid", "sign", "silu", "sin",
        "softmax", "softplus", "sqrt", "square", "std", "sub", "sum", "tanh", "threshold", "unfold", "var", "where",
    )
)  # fmt: skip
"""Operators that work element by element, pool or sum: they hold none of the multiply-adds that the headline counts."""


def uncounted(operators: Mapping[str, int]) -> str:
    """Operators without a count that may hold multiply-adds, as words; "" for none."""
    named = ((name.removeprefix("aten::"), times) for name, times in operators.items())
    return ", ".join(f"{name} × {times}" for name, times in sorted(named) if name.rstrip("_") not in NO_PRODUCTS)


NOT_AHEAD = "teacher not ahead"
FEWER_IMAGES = "fewer images"


def flags_of(row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], ahead: bool | None) -> list[str]:
    """The flags of a row of the leaderboard, but for the one that depends on other rows (`with_fewer_images`).

    Args:
        row: its columns.
        runs: the runs behind it.
        ahead: whether its teacher is clearly ahead of `none`; None where it cannot be said.
    """
    found = {
        "one seed": row["seeds"] == 1 and row["method"] != "teacher",
        NOT_AHEAD: ahead is False,
        "fewer samples": any(run["samples_seen"] < (run["samples_planned"] or 0) for run in runs),
        "fell back": row["numerics"] != "",
        "uncounted": row["uncounted"] != "",
        "changed code": row["dirty"],
        "resumed under other code": any(run["other_code"] for run in runs),
        "several revisions": len({run["revision"] for run in runs}) > 1,
    }
    return [flag for flag, there in found.items() if there]


def with_fewer_images(flags: str) -> str:
    """The flags of a row that was evaluated on fewer images than another one of the same data and split."""
    there = {FEWER_IMAGES, *flags.split("; ")}
    return "; ".join(flag for flag in MEANING if flag in there)
