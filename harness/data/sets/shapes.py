"""`shapes`: generated street-like scenes in which the output stride matters. No files, no download, any size.

Large textured regions (sky, buildings, ground, water) are what a coarse map does well; poles and wires of 1 to 3
pixels, signs and vehicles of a few pixels are what it loses. Colours and textures are shared between classes (water
looks like sky, grass like trees, vehicles like buildings, trunks like poles), so that context is needed.

Sample `index` of a split is a function of (version, parameters, split, index) alone. Only integers and exactly rounded
float operations are used, elementwise, so the bytes are the same on every machine.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from harness.data.base import IGNORE, DataParams, Dataset, Problem, Sample, Split
from harness.errors import HarnessError, did_you_mean

VERSION = 1
"""Raise it when the pictures change: it is part of the manifest."""

SKY, BUILDING, GROUND, WATER, TREE, POLE, SIGN, VEHICLE = range(8)

Colour = tuple[float, float, float]
SKIES: tuple[Colour, ...] = ((0.55, 0.72, 0.95), (0.72, 0.80, 0.90), (0.45, 0.58, 0.80))
GROUNDS: tuple[Colour, ...] = ((0.46, 0.46, 0.47), (0.40, 0.50, 0.28), (0.54, 0.48, 0.40))
GREENS: tuple[Colour, ...] = ((0.14, 0.34, 0.12), (0.24, 0.44, 0.16), (0.34, 0.40, 0.14))
WALLS: tuple[Colour, ...] = ((0.62, 0.34, 0.26), (0.74, 0.64, 0.50), (0.54, 0.40, 0.38))
PAINTS: tuple[Colour, ...] = ((0.85, 0.12, 0.12), (0.15, 0.20, 0.80), (0.60, 0.10, 0.55))
BOARDS: tuple[Colour, ...] = ((0.95, 0.85, 0.12), (0.95, 0.60, 0.10), (0.85, 0.12, 0.12))
METALS: tuple[Colour, ...] = ((0.12, 0.12, 0.14), (0.22, 0.20, 0.22), (0.26, 0.18, 0.14))

_TILE = 512
_CACHE_BYTES = 128 << 20


@lru_cache(maxsize=8)
def _tile(step: int) -> np.ndarray:
    """(512, 512), float32 in [-1, 1]: periodic value noise, linear between knots `step` pixels apart."""
    knots = np.random.Generator(np.random.PCG64(1000 + step)).integers(0, 256, (_TILE // step,) * 2)
    field = (knots.astype(np.float32) - 127.5) / 127.5
    for axis in (0, 1):
        near, far = np.repeat(field, step, axis), np.repeat(np.roll(field, -1, axis), step, axis)
        shape = (-1, 1) if axis == 0 else (1, -1)
        t = ((np.arange(near.shape[axis]) % step).astype(np.float32) / step).reshape(shape)
        field = near * (1 - t) + far * t
    field.flags.writeable = False
    return field


class _Canvas:
    """An image and its labels while they are painted, back to front."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        self.image = np.zeros((height, width, 3), np.float32)
        self.label = np.zeros((height, width), np.uint8)
        self.fine, self.rough, self.smooth = (self._noise(step) for step in (2, 4, 16))

    def _noise(self, step: int) -> np.ndarray:
        y, x = self.rng.integers(0, _TILE, 2)
        rows, columns = (y + np.arange(self.height)) % _TILE, (x + np.arange(self.width)) % _TILE
        return _tile(step)[rows][:, columns]

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self.rng.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return float(self.rng.random()) < probability

    def colour(self, palette: Sequence[Colour], spread: float = 0.05) -> np.ndarray:
        """(3,), a colour near one of the palette's."""
        base = np.asarray(palette[self.whole(0, len(palette) - 1)], np.float32)
        return base + spread * (2 * self.rng.random(3, np.float32) - 1)

    def paint(
        self,
        cls: int,
        colour: np.ndarray,
        y: tuple[int, int],
        x: tuple[int, int],
        texture: np.ndarray | None = None,
        strength: float = 0.0,
        mask: np.ndarray | None = None,
    ) -> None:
        """Fill rows [y0, y1) and columns [x0, x1), cut at the border; `mask` (y1-y0, x1-x0) leaves parts out."""
        y0, y1, x0, x1 = max(y[0], 0), min(y[1], self.height), max(x[0], 0), min(x[1], self.width)
        if y0 >= y1 or x0 >= x1:
            return
        area = np.s_[y0:y1, x0:x1]
        pixels = np.broadcast_to(colour, (y1 - y0, x1 - x0, 3))
        if texture is not None:
            pixels = pixels + strength * texture[area][..., None]
        if mask is None:
            self.image[area], self.label[area] = pixels, cls
            return
        mask = mask[y0 - y[0] : y1 - y[0], x0 - x[0] : x1 - x[0]]
        np.copyto(self.image[area], pixels, where=mask[..., None])
        self.label[area][mask] = cls


def _background(c: _Canvas) -> int:
    """Sky, buildings, ground and water; the row of the horizon."""
    horizon = c.whole(int(0.35 * c.height), int(0.6 * c.height))
    c.paint(SKY, c.colour(SKIES), (0, c.height), (0, c.width), c.smooth, 0.10)
    x = -c.whole(0, c.width // 4)
    while x < c.width:
        wide = c.whole(c.width // 5, c.width // 2)
        if c.chance(0.6):
            _building(c, x, wide, horizon)
        x += wide + (c.whole(0, c.width // 5) if c.chance(0.4) else 0)
    c.paint(GROUND, c.colour(GROUNDS), (horizon, c.height), (0, c.width), c.fine, 0.10)
    if c.chance(0.7):
        _water(c, horizon)
    return horizon


def _building(c: _Canvas, x: int, wide: int, horizon: int) -> None:
    top, down = c.whole(int(0.05 * c.height), max(horizon - 5, 1)), horizon + c.whole(0, 4)
    c.paint(BUILDING, c.colour(WALLS), (top, down), (x, x + wide), c.fine, 0.05)
    _windows(c, BUILDING, top + 2, down - 1, x + 1, x + wide - 1)


def _windows(c: _Canvas, cls: int, y0: int, y1: int, x0: int, x1: int) -> None:
    """A grid of darker or lighter panes, 1 to 3 pixels each."""
    if y1 <= y0 or x1 <= x0:
        return
    high, wide = c.whole(3, 6), c.whole(3, 6)
    rows, columns = np.arange(y1 - y0) % high < high // 2, np.arange(x1 - x0) % wide < wide // 2
    pane = c.colour(SKIES) * c.uniform(0.3, 1.0)
    c.paint(cls, pane, (y0, y1), (x0, x1), c.smooth, 0.05, rows[:, None] & columns[None])


def _water(c: _Canvas, horizon: int) -> None:
    """A lake with a wavy shore: the sky's colours and smoothness, told from it by its place alone."""
    high, wide = c.whole(c.height // 6, c.height // 3), c.whole(c.width // 2, c.width)
    y, x = c.whole(horizon, max(c.height - high // 2, horizon)), c.whole(-wide // 3, c.width - wide // 2)
    mask = _ellipse(high, wide, 0.0, c)
    c.paint(WATER, c.colour(SKIES), (y, y + high), (x, x + wide), c.smooth, 0.10, mask)


def _ellipse(high: int, wide: int, ragged: float, c: _Canvas) -> np.ndarray:
    """(high, wide), bool: an ellipse, its rim moved by noise."""
    v = (2 * np.arange(high, dtype=np.float32) + 1 - high) / high
    u = (2 * np.arange(wide, dtype=np.float32) + 1 - wide) / wide
    distance = v[:, None] * v[:, None] + u[None] * u[None]
    if ragged:
        y, x = c.rng.integers(0, _TILE - 1, 2)
        rows, columns = (y + np.arange(high)) % _TILE, (x + np.arange(wide)) % _TILE
        distance = distance + ragged * _tile(4)[rows][:, columns]
    return distance <= 1


def _tree(c: _Canvas, base: int, near: float) -> None:
    """A ragged crown on a trunk that looks like a pole."""
    x, trunk, thick = c.whole(0, c.width), int(near * c.whole(4, 9)), c.whole(1, 3)
    high, wide = int(near * c.whole(14, 26)), int(near * c.whole(12, 24))
    c.paint(TREE, c.colour(METALS), (base - trunk - high // 3, base), (x, x + thick))
    y, left = base - trunk - high, x + thick // 2 - wide // 2
    mask = _ellipse(high, wide, 0.5, c)
    c.paint(TREE, c.colour(GREENS), (y, y + high), (left, left + wide), c.rough, 0.12, mask)


def _vehicle(c: _Canvas, base: int, near: float) -> None:
    """A box with a cabin, in paints or the colours of walls, with windows as a building has."""
    high, wide = max(int(near * c.whole(7, 11)), 3), max(int(near * c.whole(11, 20)), 4)
    x = c.whole(-wide // 2, c.width - wide // 2)
    colour = c.colour(WALLS if c.chance(0.3) else PAINTS)
    cabin = wide // 4
    c.paint(VEHICLE, colour, (base - high // 2 - 1, base), (x, x + wide), c.fine, 0.05)
    c.paint(VEHICLE, colour, (base - high, base - high // 2), (x + cabin, x + wide - cabin), c.fine, 0.05)
    _windows(c, VEHICLE, base - high + 1, base - high // 2, x + cabin, x + wide - cabin)


def _pole(c: _Canvas, base: int, near: float) -> None:
    """A pole 1 to 3 pixels wide, often with a sign."""
    thick, high, x = c.whole(1, 3), int(near * c.whole(18, 36)), c.whole(0, c.width - 1)
    c.paint(POLE, c.colour(METALS), (base - high, base), (x, x + thick))
    if c.chance(0.7):
        size, y = c.whole(6, 10), base - high + c.whole(-2, 5)
        left = x + thick // 2 - size // 2
        mask = _ellipse(size, size, 0.0, c) if c.chance(0.5) else None
        c.paint(SIGN, c.colour(BOARDS), (y, y + size), (left, left + size), mask=mask)


def _wires(c: _Canvas, horizon: int) -> None:
    """One or two sagging lines of one pixel, labelled as poles."""
    x0, x1 = c.whole(0, c.width // 3), c.whole(c.width // 2, c.width)
    x = np.arange(x0, x1)
    start, slope, sag = c.whole(0, horizon), c.uniform(-0.2, 0.2), c.uniform(0, 0.15)
    t = (x - x0).astype(np.float32)
    y = start + slope * t + sag * t * (t - (x1 - x0)) / (x1 - x0) * -1
    colour = c.colour(METALS)
    for shift in range(c.whole(1, 2)):
        rows = np.floor(y).astype(np.int64) + 4 * shift
        inside = (rows >= 0) & (rows < c.height)
        c.image[rows[inside], x[inside]] = colour
        c.label[rows[inside], x[inside]] = POLE


OBJECTS = ((_tree, 1.2), (_vehicle, 1.8), (_pole, 2.0))
"""What stands on the ground, and how many of it in 64 columns, on average."""


def _foreground(c: _Canvas, horizon: int) -> None:
    """What stands on the ground, far to near, so that the near hides the far."""
    standing = []
    for draw, mean in OBJECTS:
        expected = mean * c.width / 64
        for _ in range(c.whole(int(0.5 * expected), int(1.5 * expected + 0.5))):
            depth = c.uniform(0, 1)
            standing.append((depth, draw))
    for depth, draw in sorted(standing, key=lambda pair: pair[0]):
        base = horizon + 2 + int(depth * depth * (c.height - horizon))
        draw(c, base, 0.9 + 0.8 * depth)
    if c.chance(0.35):
        _wires(c, horizon)


def _void(c: _Canvas, share: float) -> np.ndarray:
    """(H, W), bool: stretches of the borders between large regions that an annotator would leave open."""
    label = c.label
    border = np.zeros_like(label, bool)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    border[:, 1:] |= across
    border[1:] |= down
    return border & (label != POLE) & (label != SIGN) & (c.smooth > 1 - 2 * share)


def _finish(c: _Canvas, noise: float) -> np.ndarray:
    """(H, W, 3), uint8: light across the picture, a colour cast, a soft lens, and noise."""
    across, down = c.uniform(-0.2, 0.2), c.uniform(-0.2, 0.2)
    y, x = np.arange(c.height, dtype=np.float32) / c.height - 0.5, np.arange(c.width, dtype=np.float32) / c.width - 0.5
    light = c.uniform(0.8, 1.1) * (1 + down * y[:, None] + across * x[None])
    cast = 1 + 0.05 * (2 * c.rng.random(3, np.float32) - 1)
    image = c.image * light.astype(np.float32)[..., None] * cast
    soft = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    soft = soft[:-2, 1:-1] + soft[2:, 1:-1] + soft[1:-1, :-2] + soft[1:-1, 2:]
    image = np.float32(0.6) * image + np.float32(0.1) * soft
    # The sum of four bytes is close enough to a normal deviate, and exact: mean 510, standard deviation 147.8.
    grain = c.rng.integers(0, 256, (4, *image.shape), np.uint8)
    deviate = grain[0].astype(np.float32) + grain[1] + grain[2] + grain[3] - 510
    image = image + np.float32(noise / 147.8) * deviate
    return (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def generate(
    entropy: Sequence[int], height: int, width: int, noise: float, void: float
) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and its labels (H, W), both uint8, from a sequence of whole numbers."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(tuple(entropy))))
    canvas = _Canvas(rng, height, width)
    horizon = _background(canvas)
    _foreground(canvas, horizon)
    label = canvas.label.copy()
    label[_void(canvas, void)] = IGNORE
    return _finish(canvas, noise), label


class ShapesParams(DataParams):
    """Size of the pictures, how many, and how hard they are."""

    size: Annotated[int, Field(ge=32, le=4096, description="height and width in pixels")] = 64
    height: Annotated[int | None, Field(ge=32, le=4096, description="height, where it is not the width")] = None
    width: Annotated[int | None, Field(ge=32, le=4096, description="width, where it is not the height")] = None
    train: Annotated[int, Field(ge=1, description="samples of the split")] = 400
    val: Annotated[int, Field(ge=1, description="samples of the split")] = 64
    test: Annotated[int, Field(ge=1, description="samples of the split")] = 128
    seed: Annotated[int, Field(ge=0, description="another seed, another set of pictures")] = 0
    noise: Annotated[float, Field(ge=0, le=1, description="standard deviation of the grain, of [0, 1]")] = 0.04
    void: Annotated[float, Field(ge=0, le=0.5, description="how much of the borders is left unlabelled")] = 0.25

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height or self.size, self.width or self.size


class ShapesSplit(Split):
    """A split, generated on demand and kept in memory up to a bound."""

    NUMBERS: ClassVar[dict[str, int]] = {"train": 0, "val": 1, "test": 2}

    def __init__(self, params: ShapesParams, name: str) -> None:
        self.params, self.name = params, name
        self._names = tuple(f"{name}-{i:05d}" for i in range(getattr(params, name)))
        self._cache: OrderedDict[int, Sample] = OrderedDict()

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if index not in self._cache:
            self._cache[index] = self._make(index)
            height, width = self.params.extent
            if len(self._cache) * height * width * 4 > _CACHE_BYTES:
                self._cache.popitem(last=False)
        return self._cache[index]

    def _make(self, index: int) -> Sample:
        p = self.params
        entropy = (VERSION, p.seed, self.NUMBERS[self.name], index)
        image, label = generate(entropy, *p.extent, p.noise, p.void)
        image.flags.writeable = label.flags.writeable = False
        return Sample(self._names[index], image, label)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}


class Shapes(Dataset):
    """Generated scenes, eight classes."""

    name = "shapes"
    summary = "generated scenes with large regions, thin poles and small objects: the output stride matters"
    classes = ("sky", "building", "ground", "water", "tree", "pole", "sign", "vehicle")
    palette = (
        (130, 180, 230),
        (150, 90, 70),
        (128, 128, 128),
        (40, 90, 180),
        (60, 130, 50),
        (250, 220, 60),
        (230, 40, 40),
        (170, 60, 200),
    )
    weights = "random"
    recipe = "quick"
    Params = ShapesParams
    params: ShapesParams

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val", "test")

    @property
    def eval_size(self) -> tuple[int, int]:
        return self.params.extent

    def split(self, name: str) -> ShapesSplit:
        """The split of that name.

        Raises:
            HarnessError: there is none.
        """
        if name not in self.splits:
            raise HarnessError(f"data set '{self.name}' has no split '{name}'", did_you_mean(name, self.splits))
        return ShapesSplit(self.params, name)

    def manifest(self) -> dict[str, Any]:
        return {"generator": self.name, "version": VERSION, "params": self.params.model_dump(mode="json")}

    def check(self, full: bool = True) -> list[Problem]:
        return []
