"""Compute all metrics on a split; an exception in a metric's code becomes a message that names the metric."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from harness.errors import HarnessError, StageFailed
from harness.evaluation.metrics.base import ConfusionMetric, Metric, one_image
from harness.plugins.registry import Entry, plugin_place
from harness.system.guard import guard_process, text_of
from harness.system.memory import out_of_memory
from harness.workspace.files import write_atomic
from results.metrics import COUNT_METRICS
from results.record import MetricValue

P = ParamSpec("P")
T = TypeVar("T")


class MetricValues:
    """All metrics of a network on a split: call `update` for every image, then `finish`.

    Args:
        entries: entries of the registry of metrics.
        classes: K, number of classes of the data set.

    Raises:
        StageFailed: a metric's constructor raised.
    """

    def __init__(self, entries: Iterable[Entry[Metric]], classes: int) -> None:
        self._entries = list(entries)
        self._metrics = [_call(entry, "its constructor", entry.cls, classes) for entry in self._entries]
        self.values: dict[str, MetricValue] = {}
        self.states: dict[str, np.ndarray] = {}

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Pass an image to the metrics that are not computed from confusion matrices.

        Args:
            prediction, label: (H, W), int64; labels of 255 are ignored.

        Raises:
            StageFailed: a metric raised.
        """
        with one_image():
            for entry, metric in zip(self._entries, self._metrics, strict=True):
                if not isinstance(metric, ConfusionMetric):
                    _call(entry, "update", metric.update, prediction, label)

    def finish(self, matrices: np.ndarray) -> dict[str, MetricValue]:
        """Name -> value and declaration.

        Args:
            matrices: (N, K, K), confusion matrices of the same images in the same order.

        Raises:
            StageFailed: a metric raised or returned an invalid value.
        """
        for entry, metric in zip(self._entries, self._metrics, strict=True):
            if isinstance(metric, ConfusionMetric):
                _call(entry, "from_confusion", metric.add_confusion, matrices)
            value = _checked_value(entry, _call(entry, "value", metric.value))
            info = {name: said for name, said in vars(metric.info()).items() if name != "name"}
            self.values[entry.name] = MetricValue(value=value, **info)
            if (
                entry.name not in COUNT_METRICS
            ):  # those are computed from the confusion matrices, which are stored anyway
                states = _call(entry, "states", metric.states)
                if states is not None:
                    self.states[entry.name] = _checked_states(entry, states, len(matrices))
        return self.values

    def save(self, path: Path, names: Sequence[str]) -> None:
        """Write the states of all images as a compressed .npz: one array per metric, and the images' `names`.

        Without such metrics nothing is written and an old file is removed.
        """
        if not self.states:
            path.unlink(missing_ok=True)
            return
        buffer = io.BytesIO()
        np.savez_compressed(buffer, names=np.array(names, dtype=np.str_), **self.states)  # type: ignore[arg-type]
        write_atomic(path, buffer.getvalue())


def _call(entry: Entry[Metric], doing: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        with guard_process():
            return call(*args, **kwargs)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        where = plugin_place(error)
        what = (
            f"metric {_name(entry)} failed in {doing}{f', {where}' if where else ''}: "
            f"{type(error).__name__}: {text_of(error)}"
        )
        raise StageFailed(what, "fix the metric, or omit its plugin; the training is kept") from error


def _name(entry: Entry[Metric]) -> str:
    return f"'{entry.name}'" if entry.origin == "built-in" else f"'{entry.name}' ({entry.origin})"


def _checked_value(entry: Entry[Metric], value: Any) -> float | None:
    """The value as stored in a record: None for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise StageFailed(
            f"metric {_name(entry)}: value() returns {value!r}", "return a float; NaN where it is undefined"
        )
    if entry.cls.unit == "%" and not math.isnan(value) and not 0 <= value <= 1:
        hint = 'return a fraction in [0, 1], or declare a unit other than "%"'
        raise StageFailed(f"metric {_name(entry)}: value() returns {value!r} for a percentage", hint)
    return None if math.isnan(value) else float(value)


def _checked_states(entry: Entry[Metric], states: Any, images: int) -> np.ndarray:
    found = np.asarray(states, dtype=np.float64)
    if found.ndim != 3 or found.shape[0] != images or found.shape[1] not in (2, 3, 4) or not np.isfinite(found).all():
        what = f"metric {_name(entry)}: its states have shape {found.shape} for {images} images"
        raise StageFailed(what, "image_state must return (2, G) to (4, G) finite numbers for every image")
    return found
