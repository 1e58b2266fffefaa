"""Images a second of the loader alone, beside torchvision.v2 doing the same to the same files; and what a step waits.

    HARNESS_DATA=FOLDER python benchmarks/loading.py [--dataset camvid] [--recipe camvid] [--batches 12] [--rounds 5]
        [--student timm:mobilenetv2_050/linear@16] [--steps 8] [--workers 0 1] [--device cpu]

Both decode every image and label anew, cut the same region, resize it (bilinear with antialiasing, labels by exact
nearest neighbour), flip, place it on the crop, normalise and stack; the random draws are the same. A third row reads
what `harness data cache` keeps, here in a temporary folder. They take turns in one process without loader processes;
figures are medians of processor time on one thread.

The second table times training steps of a student without distillation: with batches from the loader, and with one
batch that is already in memory. The difference is what a step waits for its batch. Time is elapsed time, but processor
time on a CPU without loader processes, where loading and computing take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from step_time import lone_loop
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transform

from harness.builders.datasets import open_dataset, parse_dataset
from harness.builders.expression import resolve
from harness.data.augment import Augmentation, draw_augmentation
from harness.data.base import IGNORE, Split
from harness.data.decoded import DecodedSplit, Place, bytes_of, keep
from harness.data.folders import FolderSplit
from harness.data.loading import _CHANGE, Batch, sample_index, training_loader
from harness.specs.recipes import load_recipe
from harness.specs.spec import Recipe
from harness.system.devices import device_name
from harness.training.loop import CohortLoop

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def changed(
    picture: torch.Tensor, change: Augmentation, recipe: Recipe, fill: int, how: InterpolationMode
) -> torch.Tensor:
    """A picture (C, H, W), cut, resized, flipped and placed."""
    picture = transform.crop(picture, *change.region)
    antialias = how is InterpolationMode.BILINEAR
    picture = transform.resize(picture, list(change.size), how, antialias=antialias)
    if change.flip:
        picture = transform.horizontal_flip(picture)
    (top, left), (height, width) = change.place, change.size
    margins = [left, top, recipe.crop[1] - width - left, recipe.crop[0] - height - top]
    return transform.pad(picture, margins, fill=fill)


def by_torchvision(split: FolderSplit, recipe: Recipe, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of an iteration: images (B, 3, h, w) and labels (B, h, w)."""
    images, labels = [], []
    for position in range(recipe.batch_size):
        files = split.pairs[sample_index(0, iteration, position, recipe.batch_size, len(split))]
        image = decode_image(read_file(str(files[0])), ImageReadMode.RGB)
        label = decode_image(read_file(str(files[1])), ImageReadMode.UNCHANGED)
        rng = np.random.default_rng((0, _CHANGE, iteration, position))
        extent = (label.shape[1], label.shape[2])
        change = draw_augmentation(extent, recipe.crop, recipe.augment, rng)
        image = changed(image, change, recipe, 0, InterpolationMode.BILINEAR)
        label = changed(label, change, recipe, IGNORE, InterpolationMode.NEAREST_EXACT)
        images.append(transform.normalize(transform.to_dtype(image, torch.float32, scale=True), list(MEAN), list(STD)))
        labels.append(label[0].to(torch.int64))
    return torch.stack(images), torch.stack(labels)


def step_seconds(
    split: Split, recipe: Recipe, student: str, steps: int, rounds: int, workers: int, device: torch.device
) -> tuple[float, float]:
    """Median seconds of a training step, with batches from the loader and with a batch that is there.

    Both take turns. The first batch of each round, for which loader processes start, is not timed.
    """
    endless = recipe.model_copy(update={"iterations": 10**6})
    loop = lone_loop(resolve("none")[0], student, student, endless, device)
    loaded, held = [], []
    for count in range(rounds + 1):
        start = count * (steps + 1)
        loader = training_loader(
            split, recipe, MEAN, STD, 0, start, iterations=start + steps + 1, workers=workers, device=device
        )
        batches = iter(loader)
        first = next(batches)
        clock = time.perf_counter if workers or device.type == "cuda" else time.process_time
        with_loader = _timed(loop, batches, device, clock) / steps
        with_batch = _timed(loop, iter([first] * steps), device, clock) / steps
        if count:
            loaded.append(with_loader)
            held.append(with_batch)
    return statistics.median(loaded), statistics.median(held)


def _timed(loop: CohortLoop, batches: Iterator[Batch], device: torch.device, clock: Callable[[], float]) -> float:
    start = clock()
    loop.run(batches)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def main() -> None:
    """Print images a second of both, and what a step waits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="camvid")
    parser.add_argument("--recipe", default="camvid")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", default="timm:mobilenetv2_050/linear@16")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = os.environ.get("HARNESS_DATA")
    place = Path(root) if root else None
    dataset = open_dataset(parse_dataset(options.dataset, place), place)
    split = dataset.split("train")
    if not isinstance(split, FolderSplit):
        raise SystemExit(f"{options.dataset} is not stored as folders of images and labels")
    recipe = load_recipe(options.recipe).for_kind("student")

    def load(samples: Split) -> list[Batch]:
        return list(
            training_loader(samples, recipe, MEAN, STD, 0, iterations=options.batches, classes=len(dataset.classes))
        )

    folder = tempfile.TemporaryDirectory()
    kept = Place(Path(folder.name) / "train.u8", Path(folder.name) / "train.npy")
    keep(split, kept, bytes_of(split))
    mapped = DecodedSplit(split, kept, np.load(kept.index))

    def theirs() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [by_torchvision(split, recipe, iteration) for iteration in range(options.batches)]

    ways: dict[str, Callable[[], object]] = {
        "harness": partial(load, split),
        "torchvision.v2": theirs,
        "harness, decoded before": partial(load, mapped),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            spent[name].append(time.process_time() - start)
    count = options.batches * recipe.batch_size
    size = f"{recipe.crop[0]}×{recipe.crop[1]}"
    print(f"{options.dataset}, recipe {options.recipe}: crops of {size}, {recipe.batch_size} to a batch.")
    print(f"{device_name(torch.device('cpu'))}, one thread, torch {torch.__version__}.\n")
    print("| loader | images a second |\n|---|---:|")
    for name, seconds in spent.items():
        print(f"| {name} | {count / statistics.median(seconds[1:]):.0f} |")
    device = torch.device(options.device)
    print(f"\nSteps of {options.student} on {device_name(device)}, {options.steps} to a round.\n")
    print("| batches | loader processes | ms a step | of these waiting | share |\n|---|---:|---:|---:|---:|")
    for name, samples in (("decoded anew", split), ("decoded before", mapped)):
        for workers in options.workers:
            with_loader, with_batch = step_seconds(
                samples, recipe, options.student, options.steps, options.rounds, workers, device
            )
            waits = max(0.0, with_loader - with_batch)
            figures = f"{1000 * with_loader:.0f} | {1000 * waits:.0f} | {waits / with_loader:.0%}"
            print(f"| {name} | {workers} | {figures} |", flush=True)
    folder.cleanup()


if __name__ == "__main__":
    main()
