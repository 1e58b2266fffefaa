"""A network's confusion matrices over a split: whole images, at the labels' own resolution."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.base import Split
from harness.data.loading import evaluation_loader
from harness.errors import HarnessError
from harness.evaluation.confusion import confusion
from harness.evaluation.fitting import Fitting
from harness.evaluation.inference import infer
from harness.numerics.modes import autocast, evaluation_mode
from harness.specs.spec import Precision, Protocol
from harness.system.guard import guard_process
from harness.workspace.files import write_atomic


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a network on a split.

    Attributes:
        confusion: (N, K, K), uint32, [label, prediction], one matrix an image.
        names: of the images, in the split's order.
        batch: most images that went through the network at once; 0 where that is not known.
        tiled: images that were too large for memory and went through in tiles.
    """

    confusion: np.ndarray
    names: tuple[str, ...]
    batch: int = 0
    tiled: int = 0


Observe = Callable[[Tensor, Tensor], None]
"""Called with every image's prediction and label, (H, W) int64 each."""


def _matrices(predictions: Sequence[Tensor], labels: Sequence[Tensor], classes: int) -> Tensor:
    """(B, K, K). Images of one size are counted together."""
    if len({label.shape for label in labels}) == 1:
        return confusion(torch.stack(list(predictions)), torch.stack(list(labels)), classes)
    pairs = zip(predictions, labels, strict=True)
    return torch.cat([confusion(prediction[None], label[None], classes) for prediction, label in pairs])


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
    batch_size: int = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    observe: Observe | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008 - frozen
) -> Evaluation:
    """Confusion matrices of `network`, which gives maps with `.logits`, over a split.

    Args:
        eval_size: (height, width) that images are resized to before they enter the network; labels never are.
        batch_size: images at once, halved where memory does not suffice; 0 for `evaluation_loader`'s choice.
        progress: called with (images done, images in all) after every batch.
        observe: called with (prediction, label) of every image, at the label's size: what metrics are computed of.
        protocol: windows, scales and mirroring; the whole image at once by default.

    Raises:
        HarnessError: the split is empty, a sample cannot be read, or a label is out of range.
    """
    if not len(split):
        raise HarnessError("the split to evaluate on is empty", "run harness data check")
    device = torch.device(device)

    def logits(images: Tensor) -> Tensor:
        with autocast(device, precision), guard_process():
            return network(images).logits  # type: ignore[no-any-return]

    layout = torch.channels_last if channels_last else torch.contiguous_format
    fitting = Fitting(logits, device, layout, partial(infer, protocol=protocol))
    matrices: list[np.ndarray] = []
    names: list[str] = []
    with evaluation_mode(network), torch.inference_mode():
        for batch in evaluation_loader(split, eval_size, mean, std, batch_size, workers, device):
            sizes = [(label.shape[0], label.shape[1]) for label in batch.labels]
            predictions = fitting.predictions(batch.images, sizes)
            labels = [label.to(device, non_blocking=True) for label in batch.labels]
            try:
                counted = _matrices(predictions, labels, classes)
            except HarnessError as error:
                raise HarnessError(f"{', '.join(batch.names)}: {error.message}", "run harness data check") from error
            if observe:
                for prediction, label in zip(predictions, labels, strict=True):
                    observe(prediction, label)
            matrices.append(counted.cpu().numpy().astype(np.uint32))
            names.extend(batch.names)
            if progress:
                progress(len(names), len(split))
    return Evaluation(np.concatenate(matrices), tuple(names), fitting.largest, fitting.tiled)


def save_confusion(path: Path, evaluation: Evaluation) -> None:
    """Write the matrices as a compressed .npz with arrays `confusion` and `names`, atomically."""
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
