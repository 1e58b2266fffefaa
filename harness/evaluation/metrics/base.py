"""The contract of a metric: a number about a trained network, from its predictions on a split.

A metric is a class in one file. It declares its name, unit, direction, digits and summary, and says what it keeps of
an image: a *state* that adds up over images (`results.metrics`), small enough to be kept for every image, so that the
board has intervals and paired differences over images for it without running the network again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from harness.evaluation.confusion import confusion
from results.metrics import CountMetric, Direction, MetricInfo, mean_of_ratios
from results.statistics import class_counts

T = TypeVar("T")
_shared: ContextVar[dict[Hashable, Any] | None] = ContextVar("_shared", default=None)


@contextmanager
def one_image() -> Iterator[None]:
    """While it is open, all metrics see the same prediction and label: what `memo` computes is kept until it closes."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def memo(key: Hashable, compute: Callable[[], T]) -> T:
    """A value derived from an image's label or prediction that several metrics need, computed once an image.

    Must not be modified in place. Computed on every call where no image is open (`one_image`).

    Args:
        key: identifies the value; include every parameter that it depends on.
        compute: computes the value.
    """
    known = _shared.get()
    if known is None:
        return compute()
    if key not in known:
        known[key] = compute()
    return cast(T, known[key])


class Metric(ABC):
    """A number that describes a network on a split, computed image by image.

    Define `image_state`; the value is then the mean of ratios of the states' sum. A metric that does not add up over
    images overrides `update` and `value` instead, and has no interval over images.

    Args:
        classes: K, of the data set.
    """

    name: ClassVar[str]
    """Its name in `--metric`, databases and CSV: lower-case letters, digits, underscores."""
    heading: ClassVar[str] = ""
    """Its heading in tables; by default the name with spaces."""
    unit: ClassVar[str] = "%"
    """"%" for a fraction in [0, 1], which is shown in per cent; else any unit, or ""."""
    direction: ClassVar[Direction] = "higher"
    """Which values are better."""
    digits: ClassVar[int] = 1
    """Decimals in tables, in the unit."""
    summary: ClassVar[str]
    """A line that describes what it measures."""

    def __init_subclass__(cls, declared: MetricInfo | None = None, **rest: Any) -> None:
        """Take over a declaration that the board knows too, of a built-in metric."""
        super().__init_subclass__(**rest)
        for name, value in vars(declared).items() if declared else ():
            setattr(cls, name, value)

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._states: list[Tensor] = []

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        """The state of one image: (2, G) to (4, G), as in `results.metrics.mean_of_ratios`.

        Args:
            prediction: (H, W), int64, in [0, K).
            label: (H, W), int64, in [0, K) or 255, which is not to be counted.
        """
        raise NotImplementedError

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add an image; arguments as for `image_state`."""
        self._states.append(self.image_state(prediction, label).detach())

    def value(self) -> float:
        """The metric over all images so far; NaN where it is not defined. A fraction if the unit is "%"."""
        states = self.states()
        assert states is not None
        return float(mean_of_ratios(states.sum(0)))

    def states(self) -> np.ndarray | None:
        """(N, 2 to 4, G), float64: the states so far, in the order of the images; None if it has none."""
        if not self._states:
            return None
        return np.asarray(torch.stack(self._states).cpu().numpy(), dtype=np.float64)

    @classmethod
    def info(cls) -> MetricInfo:
        """Its declaration."""
        heading = cls.heading or cls.name.replace("_", " ")
        return MetricInfo(cls.name, heading, cls.unit, cls.direction, cls.digits, cls.summary)


class ConfusionMetric(Metric):
    """A metric that is computed from the confusion matrices, which exist anyway: it takes no extra time."""

    @abstractmethod
    def from_confusion(self, matrices: np.ndarray) -> np.ndarray:
        """(N, K, K) matrices, [label, prediction], one per image -> (N, 2 to 4, G) states."""

    def image_state(self, prediction: Tensor, label: Tensor) -> Tensor:
        """The state of one image, by `from_confusion`."""
        matrices = confusion(prediction[None], label[None], self.classes).cpu().numpy()
        return torch.from_numpy(np.asarray(self.from_confusion(matrices), dtype=np.float64))[0]

    def add_confusion(self, matrices: np.ndarray) -> None:
        """Add images by their matrices, (N, K, K)."""
        self._states.extend(torch.from_numpy(np.asarray(self.from_confusion(matrices), dtype=np.float64)))


class BuiltInCountMetric(ConfusionMetric):
    """A metric of `results.metrics.COUNT_METRICS`: the board also computes it for older records."""

    def __init_subclass__(cls, declared: CountMetric, **rest: Any) -> None:
        super().__init_subclass__(declared.info, **rest)
        cls.declared = declared

    declared: ClassVar[CountMetric]

    def from_confusion(self, matrices: np.ndarray) -> np.ndarray:
        """(N, 3, K) class counts, from whose sum `results.metrics` computes the value."""
        return class_counts(matrices)

    def value(self) -> float:
        """The declared metric of all images so far."""
        states = self.states()
        assert states is not None
        return float(self.declared(states.sum(0)))
