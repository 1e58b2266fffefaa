"""Loading that gives nothing: what comes in the end is the same, or the run ends with the reason; it never hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from harness.data.base import Sample
from harness.data.loading import Loader, training_loader
from harness.errors import HarnessError
from harness.specs.spec import Recipe
from harness.system import waiting
from harness.system.waiting import StoppedWaiting, set_patience

HERE = os.getpid()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(waiting, "LOOK_EVERY_S", 0.05)
    set_patience(60.0, lambda: False)
    yield
    set_patience(waiting.PATIENCE_S, lambda: False)


def elsewhere() -> bool:
    """In a loader process, and not in the run's own."""
    return os.getpid() != HERE


class Unsendable:
    """An item that cannot be handed over, as a tensor when shared memory is full."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[type, tuple[int]]:
        if elsewhere():
            raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")
        return Unsendable, (self.number,)


def _unsendable(number: int) -> object:
    return Unsendable(number)


def _killed(number: int) -> object:
    if elsewhere() and number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Unsendable(number) if not elsewhere() else number


def _leaves(number: int) -> object:
    if elsewhere():
        os._exit(0)
    return number


def _sleeps(number: int) -> object:
    if elsewhere() and number >= 3:
        time.sleep(1000)
    return number


def _bus_error(number: int) -> object:
    if elsewhere():
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGBUS)
    return number


class Source:
    def __init__(self, make: Callable[[int], object]) -> None:
        self._make = make

    def __getitem__(self, index: int) -> object:
        return self._make(index)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_unsendable, "could not transfer its batch: shared memory (/dev/shm, "),
        (_killed, "was killed by SIGKILL, perhaps for lack of memory"),
        (_leaves, "ended with code 0"),
        (_bus_error, "was killed by SIGBUS: shared memory"),
        (_sleeps, "nothing came for"),
    ],
)
def test_loader_processes_that_fail_are_replaced_by_loading_here(
    make: Callable[[int], object], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    set_patience(1.0 if make is _sleeps else 60.0, lambda: False)
    items = list(Loader[object](Source(make), range(8), 2, False))
    assert [getattr(item, "number", item) for item in items] == list(range(8))
    told = capfd.readouterr().err
    assert said in told and "--loader-workers" in told and "the run's own process" in told


class Split:
    """Samples of noise; a loader process that is asked for one dies after some."""

    asked = 0

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Sample:
        Split.asked += 1
        if elsewhere() and Split.asked > 7:
            os.kill(os.getpid(), signal.SIGSEGV)
        rng = np.random.default_rng(index)
        return Sample(f"s{index}", rng.integers(0, 255, (20, 20, 3), np.uint8), rng.integers(0, 3, (20, 20), np.uint8))


def test_the_batches_after_a_death_are_those_of_a_run_without_one() -> None:
    recipe = Recipe(iterations=10, crop=(16, 16), batch_size=3)
    ways = [list(training_loader(Split(), recipe, (0, 0, 0), (1, 1, 1), 5, workers=w, classes=3)) for w in (0, 2)]
    assert len(ways[0]) == len(ways[1]) == 10
    for one, other in zip(*ways, strict=True):
        assert one.names == other.names and torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_data_set_that_gives_nothing_is_told(stubborn: bool) -> None:
    def blocks(number: int) -> object:
        while number:
            try:
                time.sleep(1000)
            except Exception:
                if not stubborn:
                    raise
        return number

    set_patience(0.5, lambda: False)
    with pytest.raises(HarnessError, match="the data set returned nothing: nothing came for"):
        list(Loader[object](Source(blocks), range(3), 0, False))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_request_to_stop_ends_the_wait(workers: int) -> None:
    began = time.monotonic()
    set_patience(600.0, lambda: time.monotonic() - began > 1)

    def blocks(number: int) -> object:
        if number:
            time.sleep(1000)
        return number

    loader = iter(Loader[object](Source(blocks), range(4), workers, False))
    assert next(loader) == 0
    with pytest.raises(StoppedWaiting):
        next(loader)
    assert time.monotonic() - began < 60


def test_an_error_of_a_sample_is_no_fault_of_the_loader() -> None:
    def breaks(number: int) -> object:
        raise RuntimeError(f"cannot read {number}")

    with pytest.raises(RuntimeError, match="cannot read 0"):
        list(Loader[object](Source(breaks), range(3), 2, False))
