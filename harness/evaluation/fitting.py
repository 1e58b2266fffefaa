"""Predictions of whole images within the available memory: batches are halved, images are tiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.evaluation.confusion import predict
from harness.system.memory import out_of_memory

Size = tuple[int, int]

UNIT = 224
"""Tiles start at multiples of this number of pixels, a multiple of all output strides and patch sizes in use, so that
the network's grid lies in a tile as it lies in the image."""
MARGIN = 224
"""Margin around a tile in pixels, which is part of the network's input and is cropped from its output."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels: the part that is kept, and the part that is the network's input."""

    first: int
    last: int
    sees_first: int
    sees_last: int


def spans(length: int, parts: int) -> list[Span]:
    """`length` pixels in at most `parts` neighbouring spans, whose bounds are multiples of `UNIT`."""
    core = UNIT * -(-length // (parts * UNIT))
    return [
        Span(first, min(first + core, length), max(0, first - MARGIN), min(first + core + MARGIN, length))
        for first in range(0, length, core)
    ]


Forward = Callable[[Tensor], Tensor]
"""Images (B, 3, h, w) to logits (B, K, h', w')."""


def _at_once(forward: Forward, images: Tensor) -> Tensor:
    return forward(images)


@dataclass
class Fitting:
    """Runs a network on whole images: as many at once as memory allows, and single images that are too large in tiles.

    In tiles the result is the one of the whole image as far as the network sees no further than `MARGIN` pixels beyond
    a tile: what reads the whole image (pooling over it, attention) reads a tile instead.

    Args:
        network: images to logits.
        scores: images to scores (B, K, h, w), of which the largest is taken, by calls of what it is given; by default
            one call.

    Attributes:
        largest: most images that went through at once.
        tiled: images of which something went through in tiles.
    """

    network: Forward
    device: torch.device
    layout: torch.memory_format = torch.contiguous_format
    scores: Callable[[Forward, Tensor], Tensor] = _at_once
    largest: int = 0
    tiled: int = 0
    _most: int | None = None
    _tiles_used: bool = False
    _too_large: dict[Size, tuple[int, int]] = field(default_factory=dict)
    """Size of an image that does not fit -> rows and columns of tiles that fit."""

    def predictions(self, images: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """The class of every pixel of each image, (H, W) int64, on the device.

        Args:
            images: (B, 3, h, w), normalised.
            sizes: (H, W) of each image's label.

        Raises:
            HarnessError: not even a tile fits.
        """
        found: list[Tensor] = []
        while len(found) < len(images):
            most = min(len(images) - len(found), self._most or len(images))
            part = slice(len(found), len(found) + most)
            new = self._predicted(images[part], sizes[part])
            if new is not None:
                self.largest = max(self.largest, most)
                self.tiled += self._tiles_used
                found += new
            elif most == 1:
                raise _too_large((int(images.shape[-2]), int(images.shape[-1])))
            else:
                self._release()
                self._most = most // 2
        return found

    def _predicted(self, images: Tensor, sizes: Sequence[Size]) -> list[Tensor] | None:
        """The predictions of a batch; None if memory is insufficient."""
        self._tiles_used = False
        try:
            images = images.to(self.device, non_blocking=True, memory_format=self.layout)
            scores = self.scores(self._forward, images)
            if len(images) == 1:
                return [self._upsampled(scores, sizes[0])]
            return [predict(scores[i : i + 1], size)[0] for i, size in enumerate(sizes)]
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        return None

    def _upsampled(self, scores: Tensor, size: Size) -> Tensor:
        """The prediction of one image; computed on the CPU if its scores at full size do not fit."""
        try:
            return predict(scores, size)[0]
        except RuntimeError as error:
            if self.device.type == "cpu" or not out_of_memory(error):
                raise
        return predict(scores.cpu(), size)[0].to(self.device)

    def _forward(self, images: Tensor) -> Tensor:
        """The network's logits; in tiles for a single image that does not fit."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        if len(images) > 1:
            return self.network(images)
        if size not in self._too_large:
            try:
                return self.network(images)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
        return self._in_tiles(images, size)

    def _in_tiles(self, image: Tensor, size: Size) -> Tensor:
        """The logits of an image (1, 3, h, w), assembled from those of tiles."""
        self._tiles_used = True
        rows, columns = self._too_large.get(size, (1, 1))
        logits = None if (rows, columns) == (1, 1) else self._tiles(image, rows, columns)
        while logits is None:
            self._release()
            rows, columns = self._finer(size, rows, columns)
            logits = self._tiles(image, rows, columns)
        self._too_large[size] = (rows, columns)
        return logits

    def _finer(self, shape: Size, rows: int, columns: int) -> tuple[int, int]:
        """More tiles than so many rows and columns: the longer side of a tile is halved."""
        height, width = shape[0] / rows, shape[1] / columns
        if max(height, width) <= UNIT:
            raise _too_large(shape)
        return (2 * rows, columns) if height > width else (rows, 2 * columns)

    def _tiles(self, image: Tensor, rows: int, columns: int) -> Tensor | None:
        """(1, K, h', w'); None if memory is insufficient."""
        across = spans(int(image.shape[-1]), columns)
        try:
            bands = [
                torch.cat([self._tile(image, down, along) for along in across], -1)
                for down in spans(int(image.shape[-2]), rows)
            ]
            return torch.cat(bands, -2)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        return None

    def _tile(self, image: Tensor, down: Span, along: Span) -> Tensor:
        seen = image[..., down.sees_first : down.sees_last, along.sees_first : along.sees_last]
        logits = self.network(seen.contiguous(memory_format=self.layout))
        stride = round(seen.shape[-1] / logits.shape[-1]) or 1
        # A copy: a view would keep all of the tile's logits.
        return logits[..., _kept(down, stride), _kept(along, stride)].float().contiguous()

    def _release(self) -> None:
        """Free the memory of a failed attempt, outside of the handler, because the exception keeps references."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _too_large(size: Size) -> HarnessError:
    return HarnessError(
        f"out of memory: one image of {size[0]}x{size[1]} does not fit for evaluation, nor does a tile of it",
        "evaluate by windows (--set evaluation.window=[H,W]) or smaller ones (--set eval_size=[H,W]), or on the CPU "
        "(--device cpu)",
    )


def _kept(span: Span, stride: int) -> slice:
    """The slice of a tile's logits that is kept; up to the end if the tile is the last one."""
    end = None if span.last == span.sees_last else (span.last - span.sees_first) // stride
    return slice((span.first - span.sees_first) // stride, end)
