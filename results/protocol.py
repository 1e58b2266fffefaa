"""How a run was evaluated, in words: what must be equal for two scores to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def protocol_words(spec: Mapping[str, Any]) -> str:
    """`whole image`, `windows of 769x769 (overlap 0.33)`, `whole image, scales 0.5 1 2, mirrored too`, ...

    Args:
        spec: of a stage, as its record holds it. What an older record does not say was not done then.
    """
    recipe = _mapping(spec.get("recipe"))
    evaluation = _mapping(recipe.get("evaluation"))
    words = "whole image"
    if window := evaluation.get("window"):
        words = f"windows of {_size(window)} (overlap {_number(evaluation.get('overlap'))})"
    if size := recipe.get("eval_size"):
        words += f" at {_size(size)}"
    scales = evaluation.get("scales")
    if isinstance(scales, list) and scales not in ([], [1.0]):
        words += f", scales {' '.join(_number(scale) for scale in scales)}"
    return words + (", mirrored too" if evaluation.get("flip") else "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _size(value: Any) -> str:
    return "x".join(str(side) for side in value) if isinstance(value, list) else str(value)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | int) else str(value)
