"""A few predictions as pictures: image, label and prediction side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from harness.data.base import IGNORE, Dataset, Sample
from harness.data.loading import evaluation_batch
from harness.evaluation.fitting import Fitting
from harness.evaluation.inference import infer
from harness.numerics.modes import evaluation_mode
from harness.specs.spec import Protocol
from harness.workspace.files import write_atomic

if TYPE_CHECKING:
    from backbones.base import Network

VOID = (0, 0, 0)
GAP = 4
"""White pixels between the pictures."""


def colourise(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, W, 3), uint8: labels (H, W) in the palette's colours, ignored pixels black."""
    table = np.full((256, 3), 128, np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = VOID
    return table[label]


def side_by_side(sample: Sample, prediction: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, 3·W + gaps, 3), uint8: image, label, prediction. The prediction is shown on ignored pixels too."""
    gap = np.full((sample.label.shape[0], GAP, 3), 255, np.uint8)
    label, predicted = colourise(sample.label, palette), colourise(prediction, palette)
    return np.concatenate([sample.image, gap, label, gap, predicted], axis=1)


def save_samples(
    folder: Path,
    network: Network,
    dataset: Dataset,
    split: str,
    device: torch.device | str = "cpu",
    count: int = 3,
    eval_size: tuple[int, int] | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008 - frozen
) -> list[Path]:
    """Write `count` predictions, evenly spread over the split, as PNG files named after their samples.

    Args:
        network: has `backbone.mean` and `.std`, and gives maps with `.logits`.
        eval_size: (height, width) that images are resized to before they enter the network.
        protocol: as the split is evaluated.

    Returns:
        The files.

    Raises:
        HarnessError: a sample cannot be read.
    """
    samples = dataset.split(split)
    device, written = torch.device(device), []
    fitting = Fitting(lambda images: network(images).logits, device, scores=partial(infer, protocol=protocol))
    count = min(count, len(samples))
    for index in [i * len(samples) // count for i in range(count)]:
        sample = samples[index]
        images = evaluation_batch(sample, eval_size, network.backbone.mean, network.backbone.std)
        size = (sample.label.shape[0], sample.label.shape[1])
        with evaluation_mode(network), torch.inference_mode():
            prediction = fitting.predictions(images, [size])[0].cpu().numpy()
        buffer = io.BytesIO()
        Image.fromarray(side_by_side(sample, prediction, dataset.palette)).save(buffer, "PNG")
        path = folder / f"{sample.name}.png"
        write_atomic(path, buffer.getvalue())
        written.append(path)
    return written
