"""Polygons and run-length codes drawn as labels. Drawn by pycocotools, whose pixels are those of COCO's own masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from harness.data.base import IGNORE
from harness.errors import HarnessError


def coco_masks() -> ModuleType:
    """pycocotools' functions on masks.

    Raises:
        HarnessError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        remedy = "pip install 'segmentation-distillation-harness[coco]', or pip install pycocotools"
        raise HarnessError(
            "polygons and run-length codes are drawn by pycocotools, which is missing", remedy
        ) from error
    return mask  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Region:
    """What is one class: the union of its polygons, or a mask.

    Attributes:
        index: its class, or `IGNORE`.
        polygons: each x1, y1, x2, y2, ... in pixels.
        mask: (H, W), bool, in place of polygons.
    """

    index: int
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: np.ndarray | None = None

    def drawn(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W), bool."""
        if self.mask is not None:
            return self.mask
        return polygons_mask(self.polygons, size)


def polygons_mask(polygons: Iterable[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """(H, W), bool: the union of polygons, each with three points or more; others have no area and are left out."""
    mask = coco_masks()
    parts = [[float(v) for v in polygon] for polygon in polygons if len(polygon) >= 6]
    if not parts:
        return np.zeros(size, bool)
    return np.asarray(mask.decode(mask.merge(mask.frPyObjects(parts, *size))), bool)


def code_mask(code: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W), bool, of COCO's run-length code, compressed or not.

    Raises:
        HarnessError: the code is of another size, or no code.
    """
    mask = coco_masks()
    try:
        if tuple(code["size"]) != size:
            raise HarnessError(f"a run-length code has the size {code['size']}, but its image {list(size)}")
        packed = mask.frPyObjects(code, *size) if isinstance(code["counts"], list) else code
        return np.asarray(mask.decode(packed), bool)
    except (KeyError, TypeError, ValueError) as error:
        raise HarnessError(f"a run-length code cannot be read: {error}") from error


def paint(size: tuple[int, int], regions: Sequence[Region], unlabelled: int, by_area: bool = True) -> np.ndarray:
    """(H, W), uint8: regions over each other, on `unlabelled`.

    Args:
        by_area: the smaller is on top, where they overlap; else the later. What is ignored is at the bottom.
    """
    label = np.full(size, unlabelled, np.uint8)
    drawn = [(region.index, region.drawn(size)) for region in regions]
    if by_area:
        drawn.sort(key=lambda entry: (entry[0] != IGNORE, -int(entry[1].sum())))
    for index, mask in drawn:
        label[mask] = index
    return label
