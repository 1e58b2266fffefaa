"""Sample predictions as pictures: of the same images in every run of a data set, and of the run's worst images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from harness.data.base import IGNORE, Dataset, Sample
from harness.data.loading import evaluation_batch
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.fitting import Fitting
from harness.evaluation.inference import infer
from harness.numerics.modes import evaluation_mode
from harness.specs.spec import Protocol
from harness.workspace.files import write_atomic
from results.pictures import INDEX, Picture, Why, index_text
from results.statistics import class_counts, mean_iou

if TYPE_CHECKING:
    from backbones.base import Network

VOID = (0, 0, 0)
"""Colour of void pixels."""
LONGEST = 640
"""Maximum length of a picture's longer side, in pixels."""
JPEG_QUALITY = 90


def choose_samples(evaluation: Evaluation, count: int) -> dict[int, Why]:
    """The images of a split to keep: index -> reason.

    Args:
        count: so many in an order that is drawn once for a split of so many images, so that all runs keep the same;
            besides them half as many on which the run did worst, by the mIoU of the image.
    """
    images = len(evaluation.names)
    fixed = np.random.default_rng(images).permutation(images)[:count]
    chosen: dict[int, Why] = {int(place): "fixed" for place in sorted(fixed)}
    others = [int(place) for place in np.argsort(_scores(evaluation), kind="stable") if int(place) not in chosen]
    return chosen | dict.fromkeys(others[: count // 2], "worst")


def save_samples(
    folder: Path,
    network: Network,
    dataset: Dataset,
    split: str,
    evaluation: Evaluation,
    chosen: Mapping[int, Why],
    device: torch.device | str = "cpu",
    eval_size: tuple[int, int] | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008 - frozen
) -> list[Picture]:
    """Write image, labels and prediction of some images of a split, and an index of them.

    Labels and predictions are PNGs with the data set's palette, no side longer than `LONGEST`.

    Args:
        network: has `backbone.mean` and `.std`, and gives maps with `.logits`.
        evaluation: of the network over the split.
        chosen: place in the split -> why it is kept.
        eval_size: (height, width) that images are resized to before they enter the network.
        protocol: as the split is evaluated.

    Returns:
        What was written.

    Raises:
        HarnessError: a sample cannot be read.
    """
    samples, scores = dataset.split(split), _scores(evaluation)
    device, written = torch.device(device), []
    fitting = Fitting(lambda images: network(images).logits, device, scores=partial(infer, protocol=protocol))
    for place, why in chosen.items():
        sample = samples[place]
        images = evaluation_batch(sample, eval_size, network.backbone.mean, network.backbone.std)
        size = (sample.label.shape[0], sample.label.shape[1])
        with evaluation_mode(network), torch.inference_mode():
            prediction = fitting.predictions(images, [size])[0].cpu().numpy()
        score = None if np.isnan(scores[place]) else round(float(scores[place]), 6)
        picture = Picture(name=sample.name, file=f"{place:06d}", why=why, miou=score)
        _write(folder, picture, sample, prediction.astype(np.uint8), dataset)
        written.append(picture)
    write_atomic(folder / INDEX, index_text(dataset.classes, written))
    return written


def _scores(evaluation: Evaluation) -> np.ndarray:
    """(N,): mIoU of each image alone, NaN if all its pixels are void."""
    return np.asarray(mean_iou(class_counts(evaluation.confusion)))


def _write(folder: Path, picture: Picture, sample: Sample, prediction: np.ndarray, dataset: Dataset) -> None:
    height, width = sample.label.shape
    shrink = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    colours = np.full((256, 3), 128, np.uint8)
    colours[: len(dataset.palette)] = dataset.palette
    colours[IGNORE] = VOID
    buffer = io.BytesIO()
    Image.fromarray(sample.image).resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=JPEG_QUALITY)
    write_atomic(folder / picture.image, buffer.getvalue())
    for name, values in ((picture.label, sample.label), (picture.prediction, prediction)):
        buffer = io.BytesIO()
        map_ = Image.fromarray(np.ascontiguousarray(values, dtype=np.uint8))
        map_.putpalette(colours.tobytes())
        map_.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG", optimize=True)
        write_atomic(folder / name, buffer.getvalue())
