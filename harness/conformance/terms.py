"""Compute a method's unweighted terms on given arrays, in float64, to compare a loss with another implementation.

`harness.conformance.arrays` lists the arrays. A term whose arrays are not given is skipped, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.conformance.arrays import Given, Missing
from harness.errors import HarnessError, StageFailed, did_you_mean
from harness.plugins.method_calls import call_plugin, check_returned, describe_nonfinite
from harness.plugins.registries import METHODS
from methods.base import Method, Params, Sizes, Translator
from methods.parts.adapters import has_adapters, identity_adapters
from results.invalid import first_invalid


@dataclass
class Terms:
    """The computed terms.

    Attributes:
        values: unweighted values by term; "translator.TERM" for the terms of the translator's training, and
            "METHOD.TERM" for all terms if the expression is a sum of methods.
        notes: by term, why it was skipped, or that it is not finite.
    """

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def compute_terms(
    method: str | type[Method],
    params: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    identity_adapters: bool = False,
) -> dict[str, float]:
    """The values of `evaluate_terms`, with the same arguments and errors."""
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
        method: a method's name or class, for all its terms including those of weight 0; or an expression
            (`cwd-kd`, `ka.affinity`), for its active terms.
        params: parameters of the method, which override those of the expression.
        arrays: see `harness.conformance.arrays`.
        identity_adapters: replace learned adapters and translators by the identity.
        seed: seed of untrained adapters, translators and discriminators that are not replaced.

    Raises:
        HarnessError: unknown method, parameter or array; shapes do not fit; or no term can be computed.
    """
    given = Given(arrays)
    found = Terms()
    learned: set[str] = set()
    parts = _parts(method, params)
    for cls, chosen, names in parts:
        prefix = f"{cls.name}." if len(parts) > 1 else ""
        run = _Run(cls, chosen, given, identity_adapters, seed)
        for label, names_active in run.jobs(names):
            try:
                values = run.compute(label, names_active)
            except Missing as missing:
                found.notes[prefix + label] = missing.message
            else:
                found.values.update({prefix + name: value for name, value in values.items()})
                bad = {name: value for name, value in values.items() if not math.isfinite(value)}
                found.notes.update({prefix + name: describe_nonfinite(cls, name, value) for name, value in bad.items()})
        learned |= run.learned
    given.refuse_unused(learned)
    if not found.values and found.notes:
        name, note = next(iter(found.notes.items()))
        raise HarnessError(
            f"no term can be computed: {name} {note}", f"given: {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return found


# What was asked -------------------------------------------------------------------------------------------------------


def _parts(method: str | type[Method], params: Mapping[str, Any]) -> list[tuple[type[Method], Params, tuple[str, ...]]]:
    """(class, parameters, terms) for each method of an expression."""
    if not isinstance(method, str):
        return [(method, _validated(method, params), tuple(method.terms))]
    if method.strip() in METHODS:
        return _parts(METHODS.get(method.strip()), params)
    from harness.builders.expression import resolve

    specs = resolve(method)
    if len(specs) != 1:
        raise HarnessError(f"'{method}' is {len(specs)} methods", "give one at a time")
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
        invalid = first_invalid(error)
        where = f"parameter '{invalid.field}'" if invalid.field else "parameters"
        raise HarnessError(f"{where} of method '{cls.name}': {invalid.what}") from error


# Computing ------------------------------------------------------------------------------------------------------------


class _Run:
    """One method on the given arrays. Every term is built and computed separately, as the only active one."""

    def __init__(self, cls: type[Method], params: Params, given: Given, identity: bool, seed: int) -> None:
        self.cls, self.params, self.given, self.identity, self.seed = cls, params, given, identity, seed
        self.learned: set[str] = set()

    def jobs(self, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
        """(label, active terms) of each computation; the last is the translator's, if there is one."""
        names = tuple(names)
        return [(name, frozenset({name})) for name in names] + [("translator", frozenset(names))]

    def compute(self, label: str, active: frozenset[str]) -> dict[str, float]:
        """The values of one computation.

        Raises:
            Missing: a required array is not given.
            HarnessError: the arrays do not fit.
        """
        state = torch.get_rng_state()
        torch.manual_seed(self.seed)
        try:
            with torch.no_grad():
                return self._compute(label, active)
        except StageFailed as error:
            what = f"{self.cls.name}.{label} cannot be computed from these arrays: {error.message}"
            raise HarnessError(what, error.hint) from error
        finally:
            torch.set_rng_state(state)

    def _compute(self, label: str, active: frozenset[str]) -> dict[str, float]:
        student, teacher = self.given.sizes("student"), self.given.sizes("teacher")
        if reason := call_plugin(self.cls, "skip", self.cls.skip, self.params, student, teacher):
            raise HarnessError(f"method '{self.cls.name}' does not fit these arrays: {reason}")
        translator = self._translator(active, student, teacher)
        if label == "translator":
            if translator is None:
                return {}
            values = call_plugin(self.cls, "its translator", translator, self.given.maps("teacher"))
            check_returned(self.cls, values, frozenset(translator.terms), by=type(translator))
            return {f"translator.{name}": float(value) for name, value in values.items()}
        method = call_plugin(self.cls, "setup", self.cls, self.params, active, student, teacher, translator).double()
        self._prepare(method)
        values = call_plugin(self.cls, "forward", method, self.given.step())
        check_returned(self.cls, values, active)
        return {name: float(value) for name, value in values.items()}

    def _translator(self, active: frozenset[str], student: Sizes, teacher: Sizes) -> Translator | None:
        if not active:
            return None
        key = call_plugin(self.cls, "translator_key", self.cls.translator_key, self.params, active, student, teacher)
        if key is None:
            return None
        translator = call_plugin(self.cls, "build_translator", self.cls.build_translator, key, teacher).double()
        self._prepare(translator)
        return translator.eval()

    def _prepare(self, module: nn.Module) -> None:
        """Replace learned modules by the identity, and learned tensors by given arrays."""
        if self.identity and has_adapters(module):
            identity_adapters(module)
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        for name, array in self.given.extra.items():
            paths = [name] if name in tensors else [path for path in tensors if path.rsplit(".", 1)[-1] == name]
            if len(paths) > 1:
                which = " or ".join(f"'{path}'" for path in paths)
                raise HarnessError(f"array '{name}' may be any of {len(paths)} learned tensors", f"give {which}")
            for path in paths:
                _set(tensors[path], path, name, array)
                self.learned.add(name)
        self.learned |= {path.rsplit(".", 1)[-1] for path in tensors}


def _set(tensor: Tensor, path: str, name: str, array: np.ndarray) -> None:
    """Replace a learned tensor by an array."""
    if array.shape != tuple(tensor.shape):
        hint = f"the learned tensor '{path}' has {tuple(tensor.shape)}"
        raise HarnessError(f"array '{name}' has shape {array.shape}", hint)
    values = torch.from_numpy(array)
    if not tensor.is_floating_point() and not torch.equal(values, values.round()):
        raise HarnessError(f"array '{name}' contains fractions", f"the learned tensor '{path}' contains whole numbers")
    tensor.data = values.to(tensor.dtype)
