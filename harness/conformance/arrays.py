"""Arrays from a file, validated and presented as the step and sizes of a network.

Names (all optional; a missing array that a term needs is reported):

    student_logits, teacher_logits      (B, K, h, w)
    student_features, teacher_features  (B, C, h, w)   used as the last map and as the backbone's only map
    student_features_0, _1, ...         (B, C, h, w)   the backbone's maps, shallow to deep; the deepest is also the
                                                       last map, unless student_features or student_last is given
    student_last, teacher_last          (B, C, h, w)   the classifier's input
    labels                              (B, H, W)      -1 and 255 are ignored
    images                              (B, 3, H, W)

Any other array sets the learned tensor of that name in the method or its translator (`tokens` of MasKD).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError, did_you_mean
from methods.base import IGNORE, Sizes, Step

_PLAIN = ("logits", "features", "last")
_ROLES = ("student", "teacher")
KNOWN = (*(f"{role}_{name}" for role in _ROLES for name in _PLAIN), "labels", "images")
_LAYER = re.compile(r"(student|teacher)_features_(\d+)")
_HOW = "save arrays with numpy.savez(file, student_logits=..., teacher_logits=...)"


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises:
        HarnessError: the file is missing, invalid or empty, or contains an array that needs unpickling.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise HarnessError(f"inputs {path}: no such file", _HOW) from error
    except ValueError as error:  # its message would advise unpickling
        raise HarnessError(f"inputs {path} is not an .npz file: it is not an archive of arrays", _HOW) from error
    except (OSError, EOFError, BadZipFile) as error:
        raise HarnessError(f"inputs {path} is not an .npz file: {error}", _HOW) from error
    if isinstance(archive, np.ndarray):
        raise HarnessError(f"inputs {path} is not an .npz file: it contains one array without a name", _HOW)
    found: dict[str, np.ndarray] = {}
    with archive:
        for name in archive.files:
            try:
                found[name] = archive[name]
            except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
                raise HarnessError(f"inputs {path}, array '{name}' cannot be read: {error}", _HOW) from error
    if not found:
        raise HarnessError(f"inputs {path} contains no arrays", _HOW)
    return found


class Missing(HarnessError):
    """A term needs an array that is not given."""

    def __init__(self, array: str) -> None:
        super().__init__(f"needs the array {array}, which is not given")


@dataclass(frozen=True)
class _Absent:
    """Placeholder of a missing array, on which `_Guard` raises."""

    array: str


class _Guard:
    """Raises `Missing` when a missing attribute is read."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if isinstance(value, _Absent):
            raise Missing(value.array)
        return value


@dataclass(frozen=True)
class _Maps:
    logits: Any
    last: Any
    features: Any


class GivenMaps(_Guard, _Maps):
    """Maps of a network; reading a missing one raises `Missing`."""


class GivenSizes(_Guard, Sizes):
    """Sizes; reading a missing one raises `Missing`."""


class GivenStep(_Guard, Step):
    """A step; reading a missing part raises `Missing`."""


class Given:
    """The given arrays as a step and sizes.

    Raises:
        HarnessError: an array has the wrong shape or type, contains NaN or infinity, or does not fit another one; the
            message names it.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.tensors = {n: _tensor(n, a) for n, a in arrays.items() if n in KNOWN or _LAYER.fullmatch(n)}
        self.extra = {n: _numbers(n, a) for n, a in arrays.items() if n not in self.tensors}
        _check_fit(self.tensors)
        self.input_size = self._input_size()

    def step(self) -> GivenStep:
        """The step; reading a missing part raises `Missing`."""
        return GivenStep(
            student=self.maps("student"),
            teacher=self.maps("teacher"),
            images=self._plain("images"),
            labels=self._plain("labels"),
        )

    def maps(self, role: str) -> GivenMaps:
        """The maps of "student" or "teacher"."""
        layers = self._layers(role)
        plain = self._plain(f"{role}_features")
        deepest = layers[-1] if layers else plain
        last = self.tensors.get(f"{role}_last", deepest if isinstance(plain, _Absent) else plain)
        features = layers or (plain if isinstance(plain, _Absent) else (plain,))
        return GivenMaps(self._plain(f"{role}_logits"), last, features)

    def sizes(self, role: str) -> GivenSizes:
        """Channels and strides of "student" or "teacher"; strides are rounded to powers of two."""
        maps = vars(self.maps(role))
        logits, last, features = maps["logits"], maps["last"], maps["features"]

        def of(value: Any, what: Any) -> Any:
            return value if isinstance(value, _Absent) else what(value)

        return GivenSizes(
            classes=of(logits, lambda x: x.shape[1]),
            last=of(last, lambda x: x.shape[1]),
            last_stride=of(last, self._stride),
            logits_stride=of(logits, self._stride),
            features=of(features, lambda maps: tuple(x.shape[1] for x in maps)),
            strides=of(features, lambda maps: tuple(self._stride(x) for x in maps)),
        )

    def refuse_unused(self, learned: Iterable[str]) -> None:
        """Check that every array is an input or names a learned tensor.

        Raises:
            HarnessError: one is neither.
        """
        learned = set(learned)
        unused = sorted(set(self.extra) - learned)
        if unused:
            raise HarnessError(
                f"array '{unused[0]}' is neither a known input nor a learned tensor of the method",
                did_you_mean(unused[0], {*KNOWN, *learned}),
            )

    def _plain(self, name: str) -> Any:
        """The array of that name, or the placeholder of a missing one."""
        return self.tensors.get(name, _Absent(name))

    def _layers(self, role: str) -> tuple[Tensor, ...]:
        return tuple(x for _, x in sorted(_numbered(self.tensors, role)))

    def _input_size(self) -> tuple[int, int]:
        """(H, W) of labels or images; without them, the largest map is assumed to have stride 8."""
        if "labels" in self.tensors or "images" in self.tensors:
            height, width = self.tensors.get("labels", self.tensors.get("images")).shape[-2:]  # type: ignore[union-attr]
            return height, width
        maps = list(self.tensors.values())
        return (max((8 * x.shape[-2] for x in maps), default=8), max((8 * x.shape[-1] for x in maps), default=8))

    def _stride(self, x: Tensor) -> int:
        return 1 << max(round(math.log2(self.input_size[0] / x.shape[-2])), 0)


def _numbered(tensors: Mapping[str, Tensor], role: str) -> list[tuple[int, Tensor]]:
    """(number, map) of a network's backbone maps."""
    matches = ((_LAYER.fullmatch(name), x) for name, x in tensors.items())
    return [(int(match[2]), x) for match, x in matches if match and match[1] == role]


# Checks ---------------------------------------------------------------------------------------------------------------


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    """The array in float64; labels too, since they may be whole numbers stored as floats."""
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise HarnessError(f"array '{name}' is {array.dtype}", "it must hold numbers")
    found = array.astype(np.float64)
    if not np.isfinite(found).all():
        raise HarnessError(
            f"array '{name}' has {np.count_nonzero(~np.isfinite(found))} values that are NaN or infinite"
        )
    return found


def _tensor(name: str, array: np.ndarray) -> Tensor:
    """A float64 tensor, or int64 labels with ignored pixels as `IGNORE`."""
    form = {"labels": "(B, H, W)", "images": "(B, 3, H, W)"}.get(name, "(B, C, h, w)")
    fits = array.ndim == form.count(",") + 1 and 0 not in array.shape
    if not fits or (name == "images" and array.shape[1] != 3):
        raise HarnessError(f"array '{name}' has shape {array.shape}", f"it must be {form}, and not empty")
    numbers = _numbers(name, array)
    if name != "labels":
        return torch.from_numpy(numbers)
    if not np.array_equal(numbers, np.round(numbers)):
        raise HarnessError("array 'labels' contains fractions", "give class indices, and -1 or 255 for ignored pixels")
    labels = torch.from_numpy(numbers.astype(np.int64))
    return labels.masked_fill(labels == -1, IGNORE)


def _check_fit(tensors: Mapping[str, Tensor]) -> None:
    """Check that batch sizes and classes agree and that backbone maps are numbered without gaps."""
    for role in _ROLES:
        numbers = {number for number, _ in _numbered(tensors, role)}
        if gaps := set(range(max(numbers, default=-1) + 1)) - numbers:
            raise HarnessError(f"array '{role}_features_{min(gaps)}' is missing", "number them from 0, without gaps")
    logits = [name for name in ("student_logits", "teacher_logits") if name in tensors]
    _check_equal(tensors, list(tensors), 0, "images")
    _check_equal(tensors, logits, 1, "classes")
    _check_equal(tensors, [name for name in ("labels", "images") if name in tensors], -1, "columns")
    _check_equal(tensors, [name for name in ("labels", "images") if name in tensors], -2, "rows")
    if "labels" in tensors and logits:
        classes = tensors[logits[0]].shape[1]
        valid = tensors["labels"][tensors["labels"] != IGNORE]
        if bad := [int(x) for x in valid.unique() if not 0 <= x < classes]:
            raise HarnessError(
                f"array 'labels' contains {bad[-1]}, but '{logits[0]}' has {classes} classes",
                f"give class indices from 0 to {classes - 1}, and -1 or 255 for ignored pixels",
            )


def _check_equal(tensors: Mapping[str, Tensor], names: list[str], axis: int, what: str) -> None:
    for name in names[1:]:
        ours, theirs = tensors[names[0]].shape[axis], tensors[name].shape[axis]
        if ours != theirs:
            raise HarnessError(f"array '{names[0]}' has {ours} {what} and '{name}' has {theirs}", "they must agree")
