"""Batches from samples, with stateless randomness.

The samples of a batch and their augmentation are functions of (seed, iteration, position in the batch) only: a resumed
run, any number of loader processes and any number of ranks see exactly the same data. The global random states of
torch, NumPy and Python are not used.

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
from harness.system.guard import guard_process
from harness.system.processes import shared_memory
from harness.system.shipping import Shipped
from harness.system.waiting import GivenUpWaiting, waiting

if TYPE_CHECKING:
    import torch

_ORDER, _CHANGE = 1, 2
"""Separate streams of random numbers: order of samples, and augmentation."""

Triple = Sequence[float]


class Batch(NamedTuple):
    """A batch to train on.

    Attributes:
        images: (B, 3, h, w), float32, normalised.
        labels: (B, h, w), int64, `IGNORE` for pixels without ground truth.
        names: names of the samples.
        indices: (B,), int64, indices of the samples in their split.
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
    """The index, of `count` samples, at a position of the global batch of an iteration.

    Batches are consecutive parts of an endless sequence of permutations, so every sample is seen once per epoch and
    none is dropped, even if an epoch is shorter than a batch.
    """
    epoch, place = divmod(iteration * batch_size + position, count)
    return int(_permutation(seed, epoch, count)[place])


def _normalise(image: torch.Tensor, mean: Triple, std: Triple, out: torch.Tensor | None = None) -> torch.Tensor:
    """(3, H, W) uint8 to float32 with the network's mean and standard deviation, given for [0, 1].

    Args:
        out: (3, H, W), float32: output tensor; new by default.
    """
    import torch

    shift, scale = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    out = torch.empty(image.shape) if out is None else out
    return torch.div(image, 255, out=out).sub_(shift).div_(scale)


def checked(split: Split, index: int) -> Sample:
    """The sample at an index, validated.

    Raises:
        HarnessError: it is not a valid sample; the message names it.
    """
    with guard_process():
        sample = split[index]
    if not isinstance(sample, Sample):
        what = f"the split gives {type(sample).__name__} at index {index}, which is not a sample"
        raise HarnessError(what, "return harness.data.base.Sample(name, image, label)")
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
        what = f"sample '{name}': its label contains {int(bad.max())}, but there are {classes} classes"
        raise HarnessError(what, f"values are 0 to {classes - 1}, and {IGNORE} for pixels without ground truth")


@dataclass(frozen=True)
class _Training:
    """Batches by iteration, the data set of loader processes."""

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
            # The loader raises it in the main process, without a traceback across processes.
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
    """(1, 3, H, W), float32: one whole image, normalised and, if `eval_size` is given, resized."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as transform

    image = to_tensor(sample.image).permute(2, 0, 1)
    if eval_size and tuple(image.shape[-2:]) != tuple(eval_size):
        image = transform.resize(image, list(eval_size), InterpolationMode.BILINEAR, antialias=True)
    return _normalise(image, mean, std)[None]


T = TypeVar("T")


def _as_it_is(item: T) -> T:
    """Replaces torch's conversion, which turns tuples into lists."""
    return item


_NOT_HANDED_OVER = 74
"""Exit code of a loader process that could not transfer its batch (EX_IOERR)."""


def _begin_loader_process(_: int) -> None:
    """Set up signals in a loader process: schedulers signal every process of a job, but a stopping run needs its batch.

    Also end the process if a batch cannot be transferred (shared memory is full), which torch would drop silently.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_loader_process)  # type: ignore[attr-defined]


def _end_loader_process(error: BaseException, _: object) -> None:
    print(f"a loader process cannot transfer its batch: {error}", file=sys.stderr, flush=True)
    os._exit(_NOT_HANDED_OVER)


@dataclass(frozen=True)
class Loader(Generic[T]):
    """Items in order, made in this process or by loader processes. Every `iter` starts over.

    Loader processes that die or stall are killed, and loading continues in this process with the same items.
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
            HarnessError: a sample cannot be read, or loading in this process stalls; the message says which.
            StoppedWaiting: the process was asked to stop during a wait.
        """
        crew = _Crew(self, self.order, self.workers)
        try:
            for place in range(len(self.order)):
                try:
                    item = crew.next()
                except GivenUpWaiting as error:
                    if not crew.processes:
                        what = f"the data set returned nothing: {error}"
                        raise HarnessError(what, "is its folder on a file system that does not respond?") from None
                    crew.end()
                    print(
                        f"note: {_why_loaders_failed(error)}; loading continues in the run's own process",
                        file=sys.stderr,
                    )
                    crew = _Crew(self, self.order[place:], 0)
                    item = crew.next()
                if isinstance(item, HarnessError):
                    raise item
                yield item
        finally:
            # torch would ask the processes to end and wait for them.
            crew.end()


_abandoned: list[Any] = []
"""Iterators whose processes were killed. Their destructors would wait for locks held by dead processes."""


class _Crew:
    """The items in order, and the processes that make them, if any."""

    def __init__(self, loader: Loader[Any], order: range, workers: int) -> None:
        import torch
        from torch.utils.data import DataLoader

        count = min(workers, len(order))
        source: Any = Shipped(loader.source)
        torch_loader: DataLoader[Any] = DataLoader(
            source,
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
        """The next item. Raises the same errors as `waiting`, also if torch finds a dead process."""
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
        """The dead process and its cause of death; "" if all are alive."""
        for process in self.processes:
            if process.exitcode is not None:
                return f"loader process {process.pid} {_how_it_ended(process.exitcode)}"
        return ""

    def end(self) -> None:
        """Kill the processes, which ignore requests to end and may be stuck."""
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
        return "could not transfer its batch"
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _why_loaders_failed(error: GivenUpWaiting) -> str:
    """A message with a remedy: full shared memory is the most common cause."""
    memory, text = shared_memory(), str(error)
    little = memory is not None and memory[0] < _LITTLE_SHARED_MEMORY
    if memory is not None and (little or "SIGBUS" in text or "transfer" in text):
        full = f"shared memory (/dev/shm, {_size(memory[0])} of {_size(memory[1])} free) is full"
        return f"{text}: {full}; give more (docker run --shm-size=2g), or --loader-workers 0"
    if "SIGKILL" in text:
        return f"{text}, perhaps for lack of memory: use fewer --loader-workers"
    return f"{text}: use fewer --loader-workers, or 0"


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
    """Batches of iterations `start_iteration` to `iterations` - 1, augmented by the recipe.

    Args:
        iterations: total number of iterations of the run (by default the recipe's).
        batch_size: size of the global batch (by default the recipe's).
        workers: loader processes; 0 to load in this process. Does not change the batches.
        device: target device; for a GPU, batches are in pinned memory. They are made on the CPU: see `Batch.to`.
        rank, world_size: this process gets its slice of every global batch.
        classes: number of classes; larger labels are refused.

    Raises:
        HarnessError: the split is empty, or there are more processes than samples in a batch.
    """
    batch_size = batch_size or recipe.batch_size
    if not len(split):
        raise HarnessError("the training split is empty", "run harness data check")
    if world_size > batch_size:
        raise HarnessError(f"a batch of {batch_size} cannot be shared by {world_size} processes", "raise batch_size")
    positions = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
    source = _Training(split, recipe, tuple(mean), tuple(std), seed, batch_size, positions, classes)
    order = range(start_iteration, max(recipe.iterations if iterations is None else iterations, start_iteration))
    return Loader(source, order, workers, str(device).startswith("cuda"))


EVALUATION_BATCH = 8
"""Default number of images of one size per evaluation batch."""


@dataclass(frozen=True)
class EvaluationLoader:
    """Whole images in batches of one size, in the order of the split.

    With `batch_size` 0, batches have eight images while all have one size, and one image from the first that differs:
    varying sizes fragment memory, and eight of the largest images may not fit.
    """

    items: Loader[Any]
    batch_size: int

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """The batches. Raises the same errors as `Loader`."""
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
    """Whole images, resized to `eval_size` (height, width) if given, with labels at their own resolution.

    Args:
        batch_size: images per batch; 0 for 8, or 1 if sizes vary.
    """
    source = _Whole(split, eval_size, tuple(mean), tuple(std))
    return EvaluationLoader(Loader(source, range(len(split)), workers, str(device).startswith("cuda")), batch_size)
