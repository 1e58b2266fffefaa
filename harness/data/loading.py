"""From samples to batches, with stateless randomness.

Which samples a batch holds and how each is changed is a function of (seed, iteration, position in the batch) alone: a
resumed run, any number of loader processes and any number of ranks see exactly the same data. Nothing here touches the
global random state of torch, NumPy or Python.

torch is imported inside functions: the registry of data sets imports this module, and listing them needs no torch.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from harness.data.augment import apply_augmentation, draw_augmentation, to_tensor
from harness.data.base import IGNORE, Sample, Split
from harness.errors import HarnessError
from harness.specs.spec import Recipe
from harness.system.guard import guarded
from harness.system.processes import shared_memory
from harness.system.waiting import GivenUpWaiting, waiting

if TYPE_CHECKING:
    import torch

_ORDER, _CHANGE = 1, 2
"""Separate streams of random numbers: the order of samples, and what is done to them."""

Triple = Sequence[float]


class Batch(NamedTuple):
    """A batch to train on.

    Attributes:
        images: (B, 3, h, w), float32, normalised.
        labels: (B, h, w), int64, `IGNORE` where a pixel does not count.
        names: of the samples.
        indices: (B,), int64, of the samples in their split.
    """

    images: torch.Tensor
    labels: torch.Tensor
    names: tuple[str, ...]
    indices: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device; the copy overlaps with computation when the batch is pinned."""
        images = self.images.to(device, non_blocking=True)
        return self._replace(images=images, labels=self.labels.to(device, non_blocking=True))


class EvaluationBatch(NamedTuple):
    """Whole images of one input size.

    Attributes:
        images: (B, 3, h, w), float32, normalised, resized to the evaluation size where there is one.
        labels: each (H, W), int64, at its own resolution, never resized.
        names: of the samples.
    """

    images: torch.Tensor
    labels: list[torch.Tensor]
    names: tuple[str, ...]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(count)


def sample_index(seed: int, iteration: int, position: int, batch_size: int, count: int) -> int:
    """Which of `count` samples stands at a position of the global batch of an iteration.

    Batches are cut from an endless row of permutations, so that every sample is seen once an epoch and none is
    dropped, even when the epoch is shorter than a batch.
    """
    epoch, place = divmod(iteration * batch_size + position, count)
    return int(_permutation(seed, epoch, count)[place])


def _normalise(image: torch.Tensor, mean: Triple, std: Triple, out: torch.Tensor | None = None) -> torch.Tensor:
    """(3, H, W) uint8 to float32 with the network's mean and standard deviation, given for [0, 1].

    Args:
        out: (3, H, W), float32: where to; a new tensor by default.
    """
    import torch

    shift, scale = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    out = torch.empty(image.shape) if out is None else out
    return torch.div(image, 255, out=out).sub_(shift).div_(scale)


def checked(split: Split, index: int) -> Sample:
    """The sample at an index, if it is what a sample must be.

    Raises:
        HarnessError: it is not; the sentence names it.
    """
    with guarded():
        sample = split[index]
    if not isinstance(sample, Sample):
        what = f"the split gives {type(sample).__name__} at index {index}, which is not a sample"
        raise HarnessError(what, "give harness.data.base.Sample(name, image, label)")
    for part, form in (("image", "(H, W, 3)"), ("label", "(H, W)")):
        array = getattr(sample, part)
        fits = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == form.count(",") + 1
        if not fits or (part == "image" and array.shape[2] != 3):
            found = f"{array.dtype}, {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise HarnessError(f"sample '{sample.name}': its {part} is {found}", f"it must be uint8, {form}")
    if sample.image.shape[:2] != sample.label.shape:
        sizes = f"{sample.image.shape[:2]} and its label {sample.label.shape}"
        raise HarnessError(f"sample '{sample.name}': its image has the size {sizes}", "they must be equal")
    return sample


def _refuse_labels_out_of_range(label: torch.Tensor, classes: int, name: str) -> None:
    wrong = (label >= classes) & (label != IGNORE)
    if bool(wrong.any()):
        bad = label[wrong]
        what = f"sample '{name}': its label holds {int(bad.max())}, but there are {classes} classes"
        raise HarnessError(what, f"values are 0 to {classes - 1}, and {IGNORE} for pixels that do not count")


@dataclass(frozen=True)
class _Training:
    """Batches by iteration: what a loader process works on."""

    split: Split
    recipe: Recipe
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    batch_size: int
    positions: range
    classes: int = IGNORE

    def __getitem__(self, iteration: int) -> Batch | HarnessError:
        try:
            return self._batch(iteration)
        except HarnessError as error:
            # Raised by the loader in the main process: a traceback through process borders would bury the sentence.
            return error

    def _batch(self, iteration: int) -> Batch:
        import torch

        crop, count = self.recipe.crop, len(self.positions)
        images = torch.zeros(count, 3, *crop)  # zero is the mean after normalisation, hence the padding
        labels = torch.full((count, *crop), IGNORE, dtype=torch.int64)
        names, indices = [], []
        for i, position in enumerate(self.positions):
            index = sample_index(self.seed, iteration, position, self.batch_size, len(self.split))
            sample = checked(self.split, index)
            rng = np.random.default_rng((self.seed, _CHANGE, iteration, position))
            change = draw_augmentation(sample.label.shape, crop, self.recipe.augment, rng)  # type: ignore[arg-type]
            image, label = apply_augmentation(change, sample)
            _refuse_labels_out_of_range(label, self.classes, sample.name)
            (y, x), (height, width) = change.place, change.size
            _normalise(image, self.mean, self.std, out=images[i, :, y : y + height, x : x + width])
            labels[i, y : y + height, x : x + width] = label
            names.append(sample.name)
            indices.append(index)
        return Batch(images, labels, tuple(names), torch.tensor(indices))


@dataclass(frozen=True)
class _Whole:
    """Whole samples by index, normalised and resized for evaluation."""

    split: Split
    eval_size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, str] | HarnessError:
        import torch

        try:
            sample = checked(self.split, index)
        except HarnessError as error:
            return error
        image = evaluation_batch(sample, self.eval_size, self.mean, self.std)[0]
        return image, to_tensor(sample.label).to(torch.int64), sample.name


def evaluation_batch(sample: Sample, eval_size: tuple[int, int] | None, mean: Triple, std: Triple) -> torch.Tensor:
    """(1, 3, H, W), float32: one whole image, normalised and, where `eval_size` is given, resized."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as transform

    image = to_tensor(sample.image).permute(2, 0, 1)
    if eval_size and tuple(image.shape[-2:]) != tuple(eval_size):
        image = transform.resize(image, list(eval_size), InterpolationMode.BILINEAR, antialias=True)
    return _normalise(image, mean, std)[None]


T = TypeVar("T")


def _as_it_is(item: T) -> T:
    """In place of torch's own conversion, which turns tuples into lists."""
    return item


_NOT_HANDED_OVER = 74
"""Exit code of a loader process that could not hand over what it made (EX_IOERR)."""


def _begin_loader_process(_: int) -> None:
    """Schedulers send their signals to every process of a job, and the run that is asked to stop still needs its batch.

    A batch that cannot be handed over (shared memory is full) would be dropped with a traceback, and awaited for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_loader_process)  # type: ignore[attr-defined]


def _end_loader_process(error: BaseException, _: object) -> None:
    print(f"a loader process cannot hand over its batch: {error}", file=sys.stderr, flush=True)
    os._exit(_NOT_HANDED_OVER)


@dataclass(frozen=True)
class Loader(Generic[T]):
    """Items in order, made here or by loader processes. Every `iter` starts over.

    Loader processes that die or give nothing for long are ended, and their work is done here: what comes is the same.
    """

    source: Any
    order: range
    workers: int
    pin_memory: bool

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[T]:
        """The items.

        Raises:
            HarnessError: a sample cannot be read, or nothing comes though it is read here; the sentence says which.
            StoppedWaiting: the process was asked to stop while an item was awaited.
        """
        crew = _Crew(self, self.order, self.workers)
        try:
            for place in range(len(self.order)):
                try:
                    item = crew.next()
                except GivenUpWaiting as error:
                    if not crew.processes:
                        what = f"the data set gave nothing: {error}"
                        raise HarnessError(what, "is its folder on a file system that does not answer?") from None
                    crew.end()
                    print(
                        f"note: {_why_loaders_failed(error)}; loading goes on in the run's own process", file=sys.stderr
                    )
                    crew = _Crew(self, self.order[place:], 0)
                    item = crew.next()
                if isinstance(item, HarnessError):
                    raise item
                yield item
        finally:
            # Whatever the reason to end: torch would ask the processes to end, and wait for their answer.
            crew.end()


_abandoned: list[Any] = []
"""Iterators whose processes were killed. Their own way to end would wait for locks that the dead have taken along."""


class _Crew:
    """The items of an order, and the processes that make them; none where they are made here."""

    def __init__(self, loader: Loader[Any], order: range, workers: int) -> None:
        import torch
        from torch.utils.data import DataLoader

        count = min(workers, len(order))
        torch_loader: DataLoader[Any] = DataLoader(
            loader.source,
            batch_size=None,
            collate_fn=_as_it_is,
            sampler=order,
            num_workers=count,
            pin_memory=loader.pin_memory,
            worker_init_fn=_begin_loader_process,
            prefetch_factor=4 if count else None,
            generator=torch.Generator(),  # else the loader draws from the global random state
        )
        before = set(multiprocessing.active_children())
        self._items = iter(torch_loader)
        self.processes = [p for p in multiprocessing.active_children() if p not in before] if count else []
        if count and threading.current_thread() is threading.main_thread():
            # torch's handler would raise wherever the run happens to be when a loader process dies.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def next(self) -> Any:
        """The next item. Raises as `waiting` does, also where torch itself finds a process dead."""
        try:
            with waiting(self._hopeless):
                return next(self._items)
        except RuntimeError as error:
            if self.processes and (reason := self._hopeless()):
                raise GivenUpWaiting(reason) from error
            if self.processes and "DataLoader worker" in str(error):
                raise GivenUpWaiting(str(error).splitlines()[0]) from error
            raise

    def _hopeless(self) -> str:
        """Which process is dead, and of what; "" while all live."""
        for process in self.processes:
            if process.exitcode is not None:
                return f"loader process {process.pid} {_how_it_ended(process.exitcode)}"
        return ""

    def end(self) -> None:
        """Kill the processes. They do not listen to requests, and one that is stuck could not."""
        if not self.processes:
            return
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join(10)
        self.processes = []
        _abandoned.append(self._items)


def _how_it_ended(code: int) -> str:
    if code == _NOT_HANDED_OVER:
        return "could not hand over its batch"
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _why_loaders_failed(error: GivenUpWaiting) -> str:
    """A sentence with the remedy: shared memory that is full is by far the most common cause."""
    memory, text = shared_memory(), str(error)
    little = memory is not None and memory[0] < _LITTLE_SHARED_MEMORY
    if memory is not None and (little or "SIGBUS" in text or "hand over" in text):
        full = f"shared memory (/dev/shm, {_size(memory[0])} of {_size(memory[1])} free) is full"
        return f"{text}: {full}; give more (docker run --shm-size=2g), or --loader-workers 0"
    if "SIGKILL" in text:
        return f"{text}, perhaps for want of memory: use fewer --loader-workers"
    return f"{text}: use fewer --loader-workers, or none"


_LITTLE_SHARED_MEMORY = 16 << 20
"""Bytes of free shared memory below which a batch may not fit."""


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MB" if count >= 2**20 else f"{count >> 10} KB"


def training_loader(
    split: Split,
    recipe: Recipe,
    mean: Triple,
    std: Triple,
    seed: int,
    start_iteration: int = 0,
    iterations: int | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    classes: int = IGNORE,
) -> Loader[Batch]:
    """Batches of iterations `start_iteration` to `iterations` - 1, augmented as the recipe says.

    Args:
        iterations: how many the whole run has (the recipe's by default), not how many are left.
        batch_size: of the global batch (the recipe's by default).
        workers: loader processes; 0 works in this one. Does not change the batches.
        device: where the batches will go; pinned memory is used for a GPU. They are made on the CPU: see `Batch.to`.
        rank, world_size: this process gets its slice of every global batch.
        classes: how many there are; labels beyond them are refused.

    Raises:
        HarnessError: the split is empty, or there are more processes than samples in a batch.
    """
    batch_size = batch_size or recipe.batch_size
    if not len(split):
        raise HarnessError("the split to train on is empty", "look at it with harness data check")
    if world_size > batch_size:
        raise HarnessError(f"a batch of {batch_size} cannot be shared by {world_size} processes", "raise batch_size")
    positions = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
    source = _Training(split, recipe, tuple(mean), tuple(std), seed, batch_size, positions, classes)
    order = range(start_iteration, max(recipe.iterations if iterations is None else iterations, start_iteration))
    return Loader(source, order, workers, str(device).startswith("cuda"))


EVALUATION_BATCH = 8
"""Images of one size that are evaluated at once unless another number is asked for."""


@dataclass(frozen=True)
class EvaluationLoader:
    """Whole images in batches of one size, in the order of the split.

    With `batch_size` 0 they come by eights as long as all have one size, and one by one from the first that differs:
    memory that is given out in many sizes is soon in pieces, and nobody has tried eight of the largest.
    """

    items: Loader[Any]
    batch_size: int

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """The batches. Raises as `Loader` does."""
        waiting: list[Any] = []
        most, size = self.batch_size or EVALUATION_BATCH, None
        for item in self.items:
            varies, size = size not in (None, item[0].shape), item[0].shape
            if waiting and (varies or len(waiting) == most):
                yield _stack(waiting)
                waiting = []
            if varies and not self.batch_size:
                most = 1
            waiting.append(item)
        if waiting:
            yield _stack(waiting)


def _stack(items: list[Any]) -> EvaluationBatch:
    import torch

    images, labels, names = zip(*items)
    return EvaluationBatch(torch.stack(images), list(labels), names)


def evaluation_loader(
    split: Split,
    eval_size: tuple[int, int] | None,
    mean: Triple,
    std: Triple,
    batch_size: int = 0,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> EvaluationLoader:
    """Whole images, resized to `eval_size` (height, width) where it is given, with labels at their own resolution.

    Args:
        batch_size: images at once; 0 for 8, or 1 where sizes vary.
    """
    source = _Whole(split, eval_size, tuple(mean), tuple(std))
    return EvaluationLoader(Loader(source, range(len(split)), workers, str(device).startswith("cuda")), batch_size)
