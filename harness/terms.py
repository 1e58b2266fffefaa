"""A method's unweighted terms on given arrays, in float64: how a loss is checked against another implementation.

Arrays, by name (all optional: a term whose arrays are not given is left out, and the reason is told):

    student_logits, teacher_logits      (B, K, h, w)
    student_features, teacher_features  (B, C, h, w)   read as the last map and as the backbone's only one
    student_features_0, _1, ...         (B, C, h, w)   the backbone's maps, shallow to deep; the deepest is also the
                                                       last map, unless student_features or student_last is given
    student_last, teacher_last          (B, C, h, w)   what the classifier reads
    labels                              (B, H, W)      -1 or 255 is ignored
    images                              (B, 3, H, W)

Any other array sets the learned tensor of that name in the method or its translator (`tokens` of MasKD).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.errors import HarnessError, did_you_mean
from harness.registries import METHODS
from methods.base import IGNORE, Method, Params, Sizes, Step, Translator
from methods.parts import has_adapters, identity_adapters

_PLAIN = ("logits", "features", "last")
_KNOWN = (*(f"{role}_{name}" for role in ("student", "teacher") for name in _PLAIN), "labels", "images")
_LAYER = re.compile(r"(student|teacher)_features_(\d+)")


@dataclass
class Terms:
    """What was computed.

    Attributes:
        values: unweighted, by term; "translator.TERM" for those of the translator's own training, and
            "METHOD.TERM" throughout if the expression is a sum of methods.
        notes: by term, why it was left out.
    """

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def compute_terms(
    method: str | type[Method],
    params: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    identity_adapters: bool = False,
) -> dict[str, float]:
    """The values alone of `evaluate_terms`, with the same arguments and errors."""
    return evaluate_terms(method, params, arrays, identity_adapters).values


def evaluate_terms(
    method: str | type[Method],
    params: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    identity_adapters: bool = False,
    seed: int = 0,
) -> Terms:
    """Compute a method's unweighted terms in float64.

    Args:
        method: a method's name or class: all its terms, those of weight 0 included. Or an expression
            (`cwd-kd`, `ka.affinity`): the terms it leaves active.
        params: of the method, over those of the expression.
        arrays: see the top of this file.
        identity_adapters: replace learned adapters and translators by the identity.
        seed: of adapters, translators and discriminators that are not replaced; they are untrained.

    Raises:
        HarnessError: unknown method, parameter or array; shapes that do not fit; no term can be computed.
    """
    given = _Given(arrays)
    found = Terms()
    used: set[str] = set()
    parts = _parts(method, params)
    for cls, chosen, names in parts:
        prefix = f"{cls.name}." if len(parts) > 1 else ""
        run = _Run(cls, chosen, given, identity_adapters, seed)
        for label, names_active in run.jobs(names):
            try:
                values = run.compute(label, names_active)
            except _Missing as missing:
                found.notes[prefix + label] = f"needs the array {missing}, which is not given"
            else:
                found.values.update({prefix + name: value for name, value in values.items()})
        used |= run.used
    _check_used(given, used)
    if not found.values and found.notes:
        name, note = next(iter(found.notes.items()))
        raise HarnessError(
            f"no term can be computed: {name} {note}", f"given: {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return found


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises:
        HarnessError: no such file, or not one.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise HarnessError(f"inputs {path}: no such file", "save arrays with numpy.savez") from error
    except (OSError, ValueError, TypeError, BadZipFile) as error:
        raise HarnessError(f"inputs {path} is not an .npz file: {error}", "save arrays with numpy.savez") from error


def parse_params(words: Iterable[str]) -> dict[str, Any]:
    """{"k": value} from words `k=value`; a value is a number, true, false, null, or a word.

    Raises:
        HarnessError: a word has no `=`.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise HarnessError(f"'{word}' is no parameter", "write --param name=value")
        try:
            found[name.strip()] = json.loads(text)
        except ValueError:
            found[name.strip()] = text.strip()
    return found


# What was asked -------------------------------------------------------------------------------------------------------


def _parts(method: str | type[Method], params: Mapping[str, Any]) -> list[tuple[type[Method], Params, tuple[str, ...]]]:
    """(class, parameters, terms) for each method of an expression."""
    if not isinstance(method, str):
        return [(method, _validated(method, params), tuple(method.terms))]
    if method.strip() in METHODS:
        return _parts(METHODS.get(method.strip()), params)
    from harness.expression import resolve

    specs = resolve(method)
    if len(specs) != 1:
        raise HarnessError(f"'{method}' is {len(specs)} methods", "ask for one at a time")
    found = specs[0].parts
    if params and len(found) != 1:
        raise HarnessError("--param needs a single method", "set parameters in the expression: kd[tau=4]+ka.affinity")
    return [
        (cls, _validated(cls, {**part.params, **params}), tuple(part.weights))
        for part, cls in ((part, METHODS.get(part.name)) for part in found)
    ]


def _validated(cls: type[Method], given: Mapping[str, Any]) -> Params:
    for name in given:
        if name not in cls.Params.model_fields:
            raise HarnessError(
                f"method '{cls.name}' has no parameter '{name}'", did_you_mean(name, cls.Params.model_fields)
            )
    try:
        return cls.Params.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"parameter '{first['loc'][0]}'" if first["loc"] else "parameters"
        raise HarnessError(f"{where} of method '{cls.name}': {first['msg']}") from error


# What was given -------------------------------------------------------------------------------------------------------


class _Missing(Exception):
    """A term asked for an array that was not given."""


@dataclass(frozen=True)
class _Absent:
    """Stands where an array is missing; `_Guard` refuses to hand it out."""

    array: str


class _Guard:
    """Raises `_Missing` when an attribute that is absent is read."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if isinstance(value, _Absent):
            raise _Missing(value.array)
        return value


@dataclass(frozen=True)
class _Maps:
    logits: Any
    last: Any
    features: Any


class _GivenMaps(_Guard, _Maps):
    pass


class _GivenSizes(_Guard, Sizes):
    pass


class _GivenStep(_Guard, Step):
    pass


class _Given:
    """The arrays as a step and sizes."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.tensors = {n: _tensor(n, a) for n, a in arrays.items() if n in _KNOWN or _LAYER.fullmatch(n)}
        self.extra = {n: a for n, a in arrays.items() if n not in self.tensors}
        self.input_size = self._input_size()

    def step(self) -> Step:
        """The step, in which what is missing raises when it is read."""
        return _GivenStep(
            student=self.maps("student"),
            teacher=self.maps("teacher"),
            images=self._plain("images"),
            labels=self._plain("labels"),
        )

    def maps(self, role: str) -> _GivenMaps:
        """The maps of "student" or "teacher"."""
        layers = self._layers(role)
        plain = self._plain(f"{role}_features")
        deepest = layers[-1] if layers else plain
        last = self.tensors.get(f"{role}_last", deepest if isinstance(plain, _Absent) else plain)
        features = layers or (plain if isinstance(plain, _Absent) else (plain,))
        return _GivenMaps(self._plain(f"{role}_logits"), last, features)

    def sizes(self, role: str) -> Sizes:
        """Channels and strides of "student" or "teacher"; strides are rounded to powers of two."""
        maps = vars(self.maps(role))
        logits, last, features = maps["logits"], maps["last"], maps["features"]

        def of(value: Any, what: Any) -> Any:
            return value if isinstance(value, _Absent) else what(value)

        return _GivenSizes(
            classes=of(logits, lambda x: x.shape[1]),
            last=of(last, lambda x: x.shape[1]),
            last_stride=of(last, self._stride),
            logits_stride=of(logits, self._stride),
            features=of(features, lambda maps: tuple(x.shape[1] for x in maps)),
            strides=of(features, lambda maps: tuple(self._stride(x) for x in maps)),
        )

    def _plain(self, name: str) -> Any:
        """The array of that name, or what stands for it."""
        return self.tensors.get(name, _Absent(name))

    def _layers(self, role: str) -> tuple[Tensor, ...]:
        matches = [(match, x) for name, x in self.tensors.items() if (match := _LAYER.fullmatch(name))]
        return tuple(x for _, x in sorted((int(m[2]), x) for m, x in matches if m[1] == role))

    def _input_size(self) -> tuple[int, int]:
        """Of labels or images; without them, the largest map is taken to be at stride 8."""
        if "labels" in self.tensors or "images" in self.tensors:
            height, width = self.tensors.get("labels", self.tensors.get("images")).shape[-2:]  # type: ignore[union-attr]
            return height, width
        maps = list(self.tensors.values())
        return (max((8 * x.shape[-2] for x in maps), default=8), max((8 * x.shape[-1] for x in maps), default=8))

    def _stride(self, x: Tensor) -> int:
        return 1 << max(round(math.log2(self.input_size[0] / x.shape[-2])), 0)


def _tensor(name: str, array: np.ndarray) -> Tensor:
    """float64, or int64 labels with every ignored pixel as `IGNORE`."""
    dimensions = 3 if name == "labels" else 4
    if array.ndim != dimensions or 0 in array.shape:
        form = "(B, H, W)" if name == "labels" else "(B, C, h, w)"
        raise HarnessError(f"array '{name}' has shape {array.shape}", f"it must be {form}, and not empty")
    if name != "labels":
        if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
            raise HarnessError(f"array '{name}' is {array.dtype}", "it must hold numbers")
        return torch.from_numpy(array.astype(np.float64))
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(array, np.round(array)):
        raise HarnessError("array 'labels' holds fractions", "class indices, with -1 or 255 for ignored pixels")
    labels = torch.from_numpy(array.astype(np.int64))
    return labels.masked_fill(labels == -1, IGNORE)


# Computing ------------------------------------------------------------------------------------------------------------


class _Run:
    """One method over the given arrays. Every term is built and computed alone, as if it were the only active one."""

    def __init__(self, cls: type[Method], params: Params, given: _Given, identity: bool, seed: int) -> None:
        self.cls, self.params, self.given, self.identity, self.seed = cls, params, given, identity, seed
        self.used: set[str] = set()

    def jobs(self, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
        """(label, active terms) of each computation; the last is the translator's own, if there is one."""
        names = tuple(names)
        return [(name, frozenset({name})) for name in names] + [("translator", frozenset(names))]

    def compute(self, label: str, active: frozenset[str]) -> dict[str, float]:
        """The values of a job.

        Raises:
            _Missing: an array that is not given is needed.
            HarnessError: the arrays do not fit.
        """
        state = torch.get_rng_state()
        torch.manual_seed(self.seed)
        try:
            with torch.no_grad():
                return self._compute(label, active)
        except (_Missing, HarnessError):
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            text = str(error).splitlines()[0]
            raise HarnessError(f"{self.cls.name}.{label} cannot be computed from these arrays: {text}") from error
        finally:
            torch.set_rng_state(state)

    def _compute(self, label: str, active: frozenset[str]) -> dict[str, float]:
        student, teacher = self.given.sizes("student"), self.given.sizes("teacher")
        if reason := self.cls.skip(self.params, student, teacher):
            raise HarnessError(f"method '{self.cls.name}' does not fit these arrays: {reason}")
        translator = self._translator(active, student, teacher)
        if label == "translator":
            if translator is None:
                return {}
            values = translator(self.given.maps("teacher"))
            return {f"translator.{name}": float(value) for name, value in values.items()}
        method = self.cls(self.params, active, student, teacher, translator).double()
        self._prepare(method)
        return {name: float(value) for name, value in method(self.given.step()).items()}

    def _translator(self, active: frozenset[str], student: Sizes, teacher: Sizes) -> Translator | None:
        if not active:
            return None
        key = self.cls.translator_key(self.params, active, student, teacher)
        if key is None:
            return None
        translator = self.cls.build_translator(key, teacher).double()
        self._prepare(translator)
        return translator.eval()

    def _prepare(self, module: nn.Module) -> None:
        """Put the identity in place of what is learned, and given arrays in place of learned tensors."""
        if self.identity and has_adapters(module):
            identity_adapters(module)
        for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
            name = path if path in self.given.extra else path.rsplit(".", 1)[-1]
            if name not in self.given.extra:
                continue
            array = self.given.extra[name]
            if array.ndim != tensor.ndim:
                raise HarnessError(f"array '{name}' has shape {array.shape}", f"it must be like {tuple(tensor.shape)}")
            tensor.data = torch.from_numpy(np.asarray(array, np.float64)).to(tensor.dtype)
            self.used.add(name)


def _check_used(given: _Given, used: set[str]) -> None:
    unused = sorted(set(given.extra) - used)
    if unused:
        raise HarnessError(
            f"array '{unused[0]}' is neither a known input nor a learned tensor of the method",
            did_you_mean(unused[0], _KNOWN),
        )
