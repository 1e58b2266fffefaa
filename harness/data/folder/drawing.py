"""Polygons and run-length codes drawn as labels. Drawn by pycocotools, whose pixels are those of COCO's own masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from harness.data.base import IGNORE
from harness.errors import HarnessError

T = TypeVar("T")


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
    """(H, W), bool: the union of polygons, each with three points or more; others have no area and are left out.

    Raises:
        HarnessError: coordinates are not pairs of numbers, or lie far outside the image. pycocotools would crash.
    """
    parts = [_coordinates(polygon, size) for polygon in polygons if len(polygon) >= 6]
    mask = coco_masks()
    if not parts:
        return np.zeros(size, bool)
    return np.asarray(mask.decode(mask.merge(mask.frPyObjects(parts, *size))), bool)


def _coordinates(polygon: Sequence[float], size: tuple[int, int]) -> list[float]:
    try:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"a polygon is not a list of x1, y1, x2, y2, ...: {str(polygon)[:60]}") from error
    extent = np.array([size[1], size[0]])
    if not np.isfinite(points).all() or (points < -extent).any() or (points > 2 * extent).any():
        raise HarnessError(f"a polygon has points far outside its image of {size[1]}x{size[0]}")
    return [float(v) for v in points.ravel()]


def code_mask(code: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W), bool, of COCO's run-length code, compressed or not.

    Raises:
        HarnessError: the code is of another size, or no code. pycocotools would write beyond its memory.
    """
    if not isinstance(code, Mapping) or not isinstance(code.get("counts"), list | str):
        raise HarnessError(f"a segmentation is neither polygons nor a run-length code: {str(code)[:60]}")
    if code.get("size") != list(size):
        raise HarnessError(f"a run-length code has the size {code.get('size')}, but its image {list(size)}")
    counts = code["counts"] if isinstance(code["counts"], list) else _uncompressed(code["counts"])
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise HarnessError(f"a run-length code does not cover its image of {size[1]}x{size[0]} exactly")
    mask = coco_masks()
    return np.asarray(mask.decode(mask.frPyObjects({"size": list(size), "counts": counts}, *size)), bool)


def _uncompressed(text: str) -> list[int]:
    """Runs of a compressed code: five bits a character, the lowest first, differences to the run before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


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


def of_kind(value: Any, kind: type[T], what: str) -> T:
    """A value of an annotation, if it is of its kind.

    Raises:
        HarnessError: it is not.
    """
    if type(value) is not kind:
        raise HarnessError(f"{what} is {str(value)[:40]!r}, and not of type {kind.__name__}")
    return value


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """(height, width) as an annotation gives it.

    Raises:
        HarnessError: it is not an image size.
    """
    if type(height) is not int or type(width) is not int or not (0 < height < 1 << 16 and 0 < width < 1 << 16):
        raise HarnessError(f"{width}x{height} is not an image size")
    return height, width
