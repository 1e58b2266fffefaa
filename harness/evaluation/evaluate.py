"""A network's confusion matrices over a split: whole images, one scale, at the labels' own resolution."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.base import Split
from harness.data.loading import evaluation_loader
from harness.errors import HarnessError
from harness.evaluation.confusion import confusion, predict
from harness.numerics.modes import autocast, evaluation_mode
from harness.specs.spec import Precision
from harness.workspace.files import write_atomic


@dataclass(frozen=True)
class Evaluation:
    """What a network made of a split.

    Attributes:
        confusion: (N, K, K), uint32, [label, prediction], one matrix an image.
        names: of the images, in the split's order.
    """

    confusion: np.ndarray
    names: tuple[str, ...]


Observe = Callable[[Tensor, Tensor], None]
"""Shown every image's prediction and label, (H, W) int64 each."""


def _matrices(logits: Tensor, labels: Sequence[Tensor], classes: int, observe: Observe | None) -> Tensor:
    """(B, K, K). Images whose labels have one size are counted together."""
    if len({label.shape for label in labels}) == 1:
        stacked = torch.stack(list(labels)).to(logits.device, non_blocking=True)
        predictions = predict(logits, stacked.shape[-2:])  # type: ignore[arg-type]
        counted = confusion(predictions, stacked, classes)
        if observe:
            for prediction, label in zip(predictions, stacked, strict=True):
                observe(prediction, label)
        return counted
    return torch.cat([_matrices(logits[i : i + 1], [label], classes, observe) for i, label in enumerate(labels)])


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """(B, K, h, w). A batch for which memory does not suffice goes through in halves.

    Raises:
        HarnessError: one image alone does not fit.
    """
    try:
        return network(images).logits
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            size = "x".join(str(side) for side in images.shape[-2:])
            raise HarnessError(
                f"out of memory: one image of {size} does not fit for evaluation",
                "evaluate smaller ones (--set eval_size=[H,W]), or on the CPU (--device cpu)",
            ) from error
    # Outside the handler: the error holds on to what was computed.
    if images.device.type == "cuda":
        torch.cuda.empty_cache()
    half = len(images) // 2
    return torch.cat([_logits(network, images[:half]), _logits(network, images[half:])])


def evaluate(
    network: nn.Module,
    split: Split,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    eval_size: tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    channels_last: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    observe: Observe | None = None,
) -> Evaluation:
    """Confusion matrices of `network`, which gives maps with `.logits`, over a split.

    Args:
        eval_size: (height, width) that images are resized to before they enter the network; labels never are.
        progress: called with (images done, images in all) after every batch.
        observe: called with (prediction, label) of every image, at the label's size: what metrics are computed of.

    Raises:
        HarnessError: the split is empty, a sample cannot be read, or a label is out of range.
    """
    if not len(split):
        raise HarnessError("the split to evaluate on is empty", "look at it with harness data check")
    device = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    matrices: list[np.ndarray] = []
    names: list[str] = []
    with evaluation_mode(network), torch.inference_mode():
        for batch in evaluation_loader(split, eval_size, mean, std, batch_size, workers, device):
            images = batch.images.to(device, non_blocking=True, memory_format=layout)
            with autocast(device, precision):
                logits = _logits(network, images)
            try:
                counted = _matrices(logits, batch.labels, classes, observe)
            except HarnessError as error:
                raise HarnessError(f"{', '.join(batch.names)}: {error.message}", "run harness data check") from error
            matrices.append(counted.cpu().numpy().astype(np.uint32))
            names.extend(batch.names)
            if progress:
                progress(len(names), len(split))
    return Evaluation(np.concatenate(matrices), tuple(names))


def save_confusion(path: Path, evaluation: Evaluation) -> None:
    """Write the matrices as a compressed .npz with arrays `confusion` and `names`; whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, confusion=evaluation.confusion, names=np.array(evaluation.names, dtype=np.str_))
    write_atomic(path, buffer.getvalue())


def load_confusion(path: Path) -> Evaluation:
    """What `save_confusion` wrote.

    Raises:
        HarnessError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return Evaluation(data["confusion"], tuple(str(name) for name in data["names"]))
    except Exception as error:  # zipfile, zlib, OSError, KeyError and ValueError, by the kind of damage
        raise HarnessError(f"{path} is not a file of confusion matrices: {error}") from error
