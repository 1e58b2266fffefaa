"""Confusion matrices, one per image, at the resolution of the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.base import IGNORE
from harness.errors import HarnessError


def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W), int64: the class of every pixel.

    Logits (B, K, h, w) are upsampled bilinearly to `size` (H, W), corners not aligned, in float32, before the
    largest is taken: of equal ones the first. Scores of all classes at `size` exist for one image at a time.
    """
    return torch.cat([_predict_one(one.float(), size) for one in logits.split(1)])


def _predict_one(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(logits.shape[-2:]) != tuple(size):
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    # The first of equal maxima, and the first NaN, as argmax gives, at a half to a quarter of its time on a CPU.
    return logits.max(1).indices


def confusion(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """(B, K, K), int64, [label, prediction]: number of pixels by class and predicted class, for each image.

    Args:
        prediction: (B, H, W), int64, in [0, K).
        label: (B, H, W), int64, in [0, K) or `IGNORE`; ignored pixels are counted nowhere.
        classes: K.

    Raises:
        HarnessError: a label is out of range.
    """
    batch = label.shape[0]
    counts = label != IGNORE
    if (counts & ((label < 0) | (label >= classes))).any():
        bad = sorted(int(v) for v in label[counts].unique() if not 0 <= v < classes)
        raise HarnessError(f"label values out of range: {bad[:5]} (expected 0 to {classes - 1})", "harness data check")
    image = torch.arange(batch, device=label.device).view(-1, 1, 1)
    flat = (image * classes + label) * classes + prediction
    # Ignored pixels go to one bin behind the last: no boolean indexing, hence no wait for a GPU.
    flat = torch.where(counts, flat, batch * classes * classes)
    counted = torch.bincount(flat.flatten(), minlength=batch * classes * classes + 1)
    return counted[:-1].view(batch, classes, classes)
