"""Build one module from a method specification: the weighted terms of all its parts.

Methods may be third-party code: an error inside one becomes a message that names the method, its origin, the file and
the line.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from backbones.base import NetworkMaps
from harness.errors import ChangedSincePlanned, HarnessError
from harness.plugins.method_calls import (
    call_plugin,
    check_returned,
    check_scalar,
    definition_place,
    describe_nonfinite,
    display_name,
    wrong_value,
)
from harness.plugins.registries import METHODS
from harness.specs.spec import MethodPart, MethodSpec, TranslatorSpec
from methods.base import Maps, Method, Params, Sizes, Step, Translator


@dataclass(frozen=True)
class Resolved:
    """A part of a specification with its class and validated parameters."""

    part: MethodPart
    cls: type[Method]
    params: Params

    @property
    def active(self) -> frozenset[str]:
        """The terms with a nonzero weight."""
        return frozenset(self.part.weights)


def resolved_parts(spec: MethodSpec) -> list[Resolved]:
    """The classes and parameters of a specification's parts.

    Raises:
        HarnessError: a method is not registered (its plugin is missing) or differs from the planned one.
    """
    return [_resolved(part) for part in spec.parts]


def _resolved(part: MethodPart) -> Resolved:
    entry = METHODS.entry(part.name)
    if entry.cls.version != part.version:
        raise HarnessError(
            f"method '{part.name}' is version {entry.cls.version}, but the plan was made with version {part.version}",
            "plan again with this code, or run the code that made the plan",
        )
    if entry.source != part.source:
        what = f"the plugin or package of method '{part.name}' ({entry.origin})"
        raise ChangedSincePlanned(what, part.source, entry.source, "plan again, or restore the old version")
    return Resolved(part, entry.cls, entry.cls.Params.model_validate(part.params))


def needs_teacher(spec: MethodSpec) -> bool:
    """Whether any part needs a teacher."""
    return any(r.cls.needs_teacher for r in resolved_parts(spec))


def reads(spec: MethodSpec) -> frozenset[str]:
    """What the parts read: of "logits", "last", "features", "images", "labels"."""
    return frozenset().union(*(r.cls.reads for r in resolved_parts(spec)))


def skip_reason(spec: MethodSpec, student: Sizes, teacher: Sizes | None) -> str | None:
    """The reason why the method cannot be used in this cell, with the part concerned; None if it can."""
    for r in resolved_parts(spec):
        if r.cls.needs_teacher and teacher is None:
            return f"{r.part.name} needs a teacher"
        reason = call_plugin(r.cls, "skip", r.cls.skip, r.params, student, teacher)
        if reason is not None and not isinstance(reason, str):
            raise wrong_value(r.cls, "skip", reason, "return a sentence, or None")
        if reason:
            return f"{r.part.name}: {reason}"
    return None


def translator_specs(spec: MethodSpec, student: Sizes, teacher: Sizes | None) -> dict[str, TranslatorSpec]:
    """The translators to train before the student, by method; equal ones share one stage."""
    found: dict[str, TranslatorSpec] = {}
    for r in resolved_parts(spec):
        if teacher is None or not r.cls.needs_teacher:
            continue
        key = call_plugin(r.cls, "translator_key", r.cls.translator_key, r.params, r.active, student, teacher)
        if key is not None:
            found[r.part.name] = TranslatorSpec(
                method=r.part.name, version=r.cls.version, params=_plain_key(r.cls, key), source=r.part.source
            )
    return found


def build_translator(spec: TranslatorSpec, teacher: Sizes, seed: int = 0) -> Translator:
    """The untrained translator of a specification, initialised from `seed`."""
    cls = METHODS.get(spec.method)
    with _own_randomness(seed, spec.method):
        translator = call_plugin(cls, "build_translator", cls.build_translator, spec.params, teacher)
    if not isinstance(translator, Translator):
        raise wrong_value(cls, "build_translator", translator, "return a methods.base.Translator")
    return translator


def build_distiller(
    spec: MethodSpec,
    student: Sizes,
    teacher: Sizes | None,
    translators: Mapping[str, Translator] | None = None,
    seed: int = 0,
) -> Distiller:
    """Build all parts of a specification.

    The initial weights of adapters, memories and discriminators depend only on `seed` and the part's name, not on the
    global random state, which is preserved, or on other parts of the sum.

    Args:
        spec: a result of `harness.builders.expression.resolve`.
        student, teacher: sizes of their maps; None without a teacher.
        translators: trained translators by method; they are frozen here.

    Raises:
        HarnessError: a method is missing, has changed, or does not fit these sizes.
        StageFailed: the method's code raised.
    """
    reason = skip_reason(spec, student, teacher)
    if reason:
        raise HarnessError(f"method {spec.expression} does not fit: {reason}")
    built: dict[str, Method] = {}
    for r in resolved_parts(spec):
        translator = (translators or {}).get(r.part.name)
        if translator is not None:
            translator.eval().requires_grad_(False)
        with _own_randomness(seed, r.part.name):
            built[r.part.name] = call_plugin(r.cls, "setup", r.cls, r.params, r.active, student, teacher, translator)
    return Distiller(spec, built)


def _slot(name: str) -> str:
    """The name of a method's module: the method's, unless it is an attribute of ModuleDict ("keys", "type")."""
    return f"part_{name}" if hasattr(nn.ModuleDict(), name) else name


class Distiller(nn.Module):
    """The parts of a method specification. Calling it returns every term with its weight.

    Attributes:
        weights: weight of every term, by "method.term".
        needs_teacher: whether any part needs a teacher.
        reads: what the parts read.
    """

    def __init__(self, spec: MethodSpec, parts: Mapping[str, Method]) -> None:
        super().__init__()
        self.spec = spec
        self.parts = nn.ModuleDict({_slot(name): method for name, method in parts.items()})
        self.weights = {f"{part.name}.{term}": w for part in spec.parts for term, w in part.weights.items()}
        self.needs_teacher = any(method.needs_teacher for method in parts.values())
        self.reads: frozenset[str] = frozenset().union(*(method.reads for method in parts.values()))

    def forward(self, step: Step) -> dict[str, tuple[Tensor, float]]:
        """{"method.term": (unweighted scalar, weight)}.

        Raises:
            StageFailed: a method's code raised, or did not return exactly its active terms as scalars.
        """
        terms: dict[str, tuple[Tensor, float]] = {}
        for part in self.spec.parts:
            method = self.method(part.name)
            values = call_plugin(type(method), "forward", method, step)
            check_returned(type(method), values, frozenset(part.weights))
            for name, weight in part.weights.items():
                terms[f"{part.name}.{name}"] = (values[name], weight)
        return terms

    def method(self, name: str) -> Method:
        """The part of that name."""
        module = self.parts[_slot(name)]
        assert isinstance(module, Method)
        return module

    def _methods(self) -> list[Method]:
        return [self.method(part.name) for part in self.spec.parts]

    def discriminators(self) -> list[tuple[Method, nn.Module]]:
        """(method, discriminator) of every part that has one."""
        found = []
        for method in self._methods():
            module = call_plugin(type(method), "get_discriminator", method.get_discriminator)
            if module is not None and not isinstance(module, nn.Module):
                raise wrong_value(
                    type(method), "get_discriminator", module, "return a submodule of the method, or None"
                )
            found += [(method, module)] if module is not None else []
        return found

    def discriminator_loss(self, discriminator: nn.Module, step: Step) -> Tensor:
        """The discriminator's loss on a step; the student's maps are detached here.

        Raises:
            StageFailed: the method's code raised or did not return a scalar.
            KeyError: the discriminator belongs to no part.
        """
        for method, module in self.discriminators():
            if module is discriminator:
                detached_step = replace(step, student=detached(step.student))
                loss = call_plugin(type(method), "discriminator_loss", method.discriminator_loss, detached_step)
                check_scalar(
                    type(method), "discriminator_loss", loss, definition_place(type(method), "discriminator_loss")
                )
                return loss
        raise KeyError("the discriminator belongs to no method of this sum")

    def describe_nonfinite(self, values: Mapping[str, Tensor | float]) -> str:
        """A message on the first term that is not finite, with its method's origin; "" if all terms are finite."""
        for name, value in values.items():
            if name in self.weights and not math.isfinite(
                number := float(value.detach() if isinstance(value, Tensor) else value)
            ):
                method, term = name.split(".", 1)
                return describe_nonfinite(type(self.method(method)), term, number)
        return ""

    def describe_nonfinite_discriminator(self, name: str, value: float) -> str:
        """A message on a discriminator's loss that is not finite."""
        cls = type(self.method(name))
        where = definition_place(cls, "discriminator_loss")
        return f"the discriminator's loss of method {display_name(cls)} is {value} ({where})"

    def _apply(self, fn: Any, recurse: bool = True) -> Distiller:
        # Translators are not submodules of a method (they are neither trained nor saved), but must move with it.
        for method in self._methods():
            translator = method.translator
            if translator is not None:
                translator._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def detached(maps: Maps) -> NetworkMaps:
    """The same values, detached from the graph."""
    return NetworkMaps(maps.logits.detach(), maps.last.detach(), tuple(f.detach() for f in maps.features))


# Third-party code ---------------------------------------------------------------------------------------------------


def _plain_key(cls: type[Method], key: object) -> dict[str, Any]:
    """A translator's key in JSON form (tuples as lists), since it is part of a stage's key."""

    def lists(value: object) -> object:
        if isinstance(value, Mapping):
            return {name: lists(item) for name, item in value.items()}
        return [lists(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        plain = json.loads(json.dumps(lists(key), allow_nan=False))
    except (TypeError, ValueError):
        plain = None
    if not isinstance(plain, dict) or plain != lists(key):
        raise wrong_value(
            cls, "translator_key", key, "return a dict of plain JSON (strings, finite numbers, lists), or None"
        )
    return plain


@contextmanager
def _own_randomness(seed: int, name: str) -> Iterator[None]:
    """Seed the CPU's random state from a seed and a name; restore it afterwards."""
    state = torch.default_generator.get_state()
    mixed = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7])
    torch.default_generator.manual_seed(mixed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
