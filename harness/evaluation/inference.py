"""Class scores of images by a protocol: sliding windows, several scales, mirrored images.

Windows are placed as in MMSegmentation (`mode='slide'`): logits are averaged where they overlap. Over scales and
mirrored images probabilities are averaged, as there and in DeepLab's evaluation.
"""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.evaluation.fitting import Forward
from harness.specs.spec import Protocol


def infer(forward: Forward, images: Tensor, protocol: Protocol) -> Tensor:
    """(B, K, h, w): scores, whose argmax at the label's size is the prediction.

    Logits at the network's own resolution for the whole image at one scale, at the image's resolution for windows;
    probabilities at the image's resolution where there are several scales or the mirrored image.

    Args:
        forward: the network's logits, at any resolution.
        images: (B, 3, H, W), normalised.
    """

    def scores(scaled: Tensor) -> Tensor:
        return forward(scaled) if protocol.window is None else slide(forward, scaled, protocol.window, protocol.overlap)

    if protocol.scales == (1.0,) and not protocol.flip:
        return scores(images)
    size = images.shape[-2:]
    total: Tensor | None = None
    for scale in protocol.scales:
        scaled = _resized(images, scaled_size((size[0], size[1]), scale))
        for mirrored in (False, True)[: 1 + protocol.flip]:
            logits = scores(scaled.flip(-1)).flip(-1) if mirrored else scores(scaled)
            found = _upsampled(logits, (size[0], size[1])).softmax(1)
            total = found if total is None else total.add_(found)
    assert total is not None
    return total / (len(protocol.scales) * (1 + protocol.flip))


def slide(forward: Forward, images: Tensor, window: tuple[int, int], overlap: float) -> Tensor:
    """(B, K, H, W), float32: logits of windows, each upsampled to its place, averaged where windows overlap.

    Args:
        images: (B, 3, H, W); where it is smaller than the window, the window is as small.
        window: (height, width) in pixels.
        overlap: minimum overlap of neighbouring windows, as a fraction of the window.
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    count = torch.zeros(height, width, device=images.device)
    for top, bottom in intervals(height, window[0], overlap):
        for left, right in intervals(width, window[1], overlap):
            part = images[..., top:bottom, left:right]
            logits = _upsampled(forward(part.contiguous(memory_format=_layout(images))), (bottom - top, right - left))
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[..., top:bottom, left:right] += logits
            count[top:bottom, left:right] += 1
    assert total is not None
    return total / count


def intervals(extent: int, window: int, overlap: float) -> list[tuple[int, int]]:
    """(start, end) of the windows along one side; the last one is moved back to end with the image."""
    step = max(1, math.floor(window * (1 - overlap) + 1e-9))
    steps = math.ceil(max(extent - window, 0) / step)
    starts = [max(0, min(i * step, extent - window)) for i in range(steps + 1)]
    return [(start, min(start + window, extent)) for start in starts]


def input_sizes(size: tuple[int, int], protocol: Protocol) -> Counter[tuple[int, int]]:
    """(height, width) of all inputs of the network for one image of `size`, with their number."""
    found: Counter[tuple[int, int]] = Counter()
    for scale in protocol.scales:
        height, width = scaled_size(size, scale)
        window = protocol.window or (height, width)
        rows = [end - start for start, end in intervals(height, window[0], protocol.overlap)]
        columns = [end - start for start, end in intervals(width, window[1], protocol.overlap)]
        for row in rows:
            for column in columns:
                found[row, column] += 1 + protocol.flip
    return found


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of an image at a scale, each side at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.contiguous(memory_format=_layout(images))


def _upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    logits = logits.float()
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _layout(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
