"""Parse method expressions: sums of methods, with terms removed and weights or parameters changed.

    sum    :=  part ("+" part)*                 "all" alone: every registered method
    part   :=  method modifier*
    modifier := "-" term                        remove the term
              | "." term                        keep this term only (several: these terms only)
              | "[" setting ("," setting)* "]"
    setting := name "=" value ("|" value)*      several values are a grid
    value  :=  see harness/specs/values.py

A setting's name is a term or its symbol (both set the weight) or a parameter of the method. Every method has one
*canonical* expression, however it was written: `ka[beta=50]` is `ka`, `ka-affinity-adapt` is `none`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from harness.errors import HarnessError, did_you_mean
from harness.plugins.registries import METHODS
from harness.plugins.registry import plugin_place
from harness.plugins.validation import checked_weights, name_table
from harness.specs.spec import MethodPart, MethodSpec, canonical_json
from harness.specs.values import ValueParser, value_text
from methods.base import Method, Params
from results.invalid import first_invalid

_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def resolve(expression: str) -> list[MethodSpec]:
    """The methods that an expression describes: one, or one per point of its grid, without duplicates.

    Raises:
        HarnessError: a syntax error or an unknown name; the message shows the position.
    """
    if expression.strip() == "all":
        return [spec for name in METHODS.names() for spec in resolve(name)]
    parts = _Parser(expression).parse()
    grids = [list(_points(expression, part)) for part in parts]
    specs = [combine(point) for point in itertools.product(*grids)]
    return list({canonical_json(spec): spec for spec in specs}.values())


def split_list(text: str) -> list[str]:
    """The expressions of a comma-separated list; commas inside brackets, parentheses and quotes do not separate.

    `all` stands for every registered method: `all,ka-affinity`.

    Raises:
        HarnessError: an empty expression, or an unmatched bracket.
    """
    words: list[str] = []
    for start, end in _top_level(text):
        word = text[start:end].strip()
        if not word:
            raise _error(text, start, "an expression is missing", "separate expressions by single commas")
        words += METHODS.names() if word == "all" else [word]
    return words


def canonical_expression(parts: Iterable[MethodPart]) -> str:
    """The shortest expression of a sum of resolved parts; `resolve` returns the same parts for it."""
    ordered = sorted(parts, key=lambda part: part.name)
    return "+".join(_part_text(part, alone=len(ordered) == 1) for part in ordered) or "none"


def combine(parts: Iterable[MethodPart]) -> MethodSpec:
    """A method from resolved parts, in canonical order, without terms of weight 0 and without empty parts."""
    kept = [part.model_copy(update={"weights": {k: w for k, w in part.weights.items() if w}}) for part in parts]
    ordered = tuple(sorted((part for part in kept if part.weights), key=lambda part: part.name))
    return MethodSpec(expression=canonical_expression(ordered), parts=ordered)


# Reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Setting:
    name: str
    values: tuple[Any, ...]
    at: int


@dataclass
class _Part:
    """One method of an expression as written, with positions for error messages."""

    name: str
    at: int
    only: list[tuple[str, int]] = field(default_factory=list)
    off: list[tuple[str, int]] = field(default_factory=list)
    settings: list[_Setting] = field(default_factory=list)


class _Parser(ValueParser):
    """Recursive descent over the grammar at the top of this file."""

    def parse(self) -> list[_Part]:
        parts = [self.part()]
        while self.take("+"):
            parts.append(self.part())
        self.space()
        if self.at < len(self.text):
            raise self.error(f"'{self.text[self.at]}' is not expected here", "a method is followed by [...], -, . or +")
        seen: set[str] = set()
        for part in parts:
            if part.name in seen:
                raise self.error(
                    f"method '{part.name}' appears twice in one sum",
                    "name each method once, with all its terms",
                    part.at,
                )
            seen.add(part.name)
        return parts

    def part(self) -> _Part:
        name, at = self.word("a method's name")
        part = _Part(name, at)
        while True:
            if self.take("-"):
                part.off.append(self.word(f"the term of {name} to remove"))
            elif self.take("."):
                part.only.append(self.word(f"the term of {name} to keep"))
            elif self.take("["):
                self.settings(part)
            else:
                break
        if part.only and part.off:
            raise self.error(
                f"{name} keeps terms with '.' and removes terms with '-'", "use one of the two", part.off[0][1]
            )
        return part

    def settings(self, part: _Part) -> None:
        while True:
            name, at = self.word(f"a parameter or term of {part.name}")
            if not self.take("="):
                raise self.error(f"'{name}' has no value", f"write {name}=VALUE")
            values = [self.value()]
            while self.take("|"):
                values.append(self.value())
            part.settings.append(_Setting(name, tuple(values), at))
            if self.take("]"):
                return
            if not self.take(","):
                raise self.error("',' or ']' is expected here", "as in ka[beta=10,gamma=2]")

    def word(self, what: str) -> tuple[str, int]:
        self.space()
        at = self.at
        found = self.match(_WORD)
        if not found:
            raise self.error(f"{what} is missing", "as in ka, ka-affinity, kd+ka.affinity, ka[beta=10]", at)
        return found, at

    def error(self, what: str, hint: str, at: int | None = None) -> HarnessError:
        return _error(self.text, self.at if at is None else at, what, hint)


def _error(text: str, at: int, what: str, hint: str) -> HarnessError:
    """An error that shows the position in the text."""
    return HarnessError(f"methods expression, column {at + 1}: {what}\n    {text}\n    {' ' * at}^", hint)


def _top_level(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of the items between top-level commas."""
    partner = {"]": "[", ")": "("}
    stack: list[tuple[str, int]] = []
    start = at = 0
    while at < len(text):
        mark = text[at]
        if mark == '"' and (quoted := _QUOTED.match(text, at)):
            at = quoted.end()
            continue
        if mark in "[(":
            stack.append((mark, at))
        elif mark in partner:
            if not stack or stack[-1][0] != partner[mark]:
                raise _error(text, at, f"'{mark}' has no opening bracket", "brackets come in pairs")
            stack.pop()
        elif mark == "," and not stack:
            yield start, at
            start = at + 1
        at += 1
    if stack:
        raise _error(text, stack[-1][1], f"'{stack[-1][0]}' is never closed", "brackets come in pairs")
    yield start, len(text)


# Meaning ------------------------------------------------------------------------------------------------------------


def _points(text: str, part: _Part) -> Iterator[MethodPart]:
    """The resolved part, once for every combination of its settings' values."""
    if part.name == "all":
        raise _error(text, part.at, "'all' stands for every method, by itself", "name the methods: ka-affinity,cwd-kd")
    if part.name not in METHODS and part.name not in METHODS.broken:
        raise _error(text, part.at, f"there is no method '{part.name}'", did_you_mean(part.name, METHODS.names()))
    cls = METHODS.get(part.name)
    names = name_table(cls)
    for term, at in part.only + part.off:
        if term not in cls.terms:
            raise _error(text, at, f"{part.name} has no term '{term}'", did_you_mean(term, cls.terms))
    targets: dict[tuple[str, str], str] = {}
    for setting in part.settings:
        if setting.name not in names:
            raise _error(
                text,
                setting.at,
                f"{part.name} has no parameter or term '{setting.name}'",
                did_you_mean(setting.name, names),
            )
        target = names[setting.name]
        if target in targets:
            raise _error(text, setting.at, f"{target[0]} '{target[1]}' of {part.name} is set twice", "set it once")
        targets[target] = setting.name
    for values in itertools.product(*(setting.values for setting in part.settings)):
        yield _point(text, part, cls, [names[s.name] for s in part.settings], values)


def _point(
    text: str, part: _Part, cls: type[Method], targets: Sequence[tuple[str, str]], values: Sequence[Any]
) -> MethodPart:
    """The resolved part at one point of its grid."""
    given = {target: (value, s.at) for target, value, s in zip(targets, values, part.settings, strict=True)}
    params = _params(text, part, cls, {name: pair for (kind, name), pair in given.items() if kind == "param"})
    weights = checked_weights(cls, params)
    chosen = {name: pair for (kind, name), pair in given.items() if kind == "term"}
    for name, (value, at) in chosen.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise _error(text, at, f"the weight of {part.name}.{name} cannot be {value_text(value)}", "a number >= 0")
        weights[name] = value
    only, off = [name for name, _ in part.only], [name for name, _ in part.off]
    for name, (_, at) in chosen.items():
        if name in off or (only and name not in only):
            raise _error(text, at, f"term '{name}' of {part.name} is given a weight and removed", "do one of the two")
    for name, at in part.only:
        if not weights[name]:
            raise _error(text, at, f"term '{name}' of {part.name} has weight 0", f"give it one: [{name}=1]")
    active = {n: float(w) for n, w in weights.items() if w and n not in off and (not only or n in only)}
    return MethodPart(
        name=part.name,
        version=cls.version,
        params=params.model_dump(mode="json"),
        weights=active,
        source=METHODS.entry(part.name).source,
    )


def _params(text: str, part: _Part, cls: type[Method], given: dict[str, tuple[Any, int]]) -> Params:
    try:
        return validated(cls, {name: value for name, (value, _) in given.items()})
    except ValidationError as error:
        invalid = first_invalid(error)
        name = invalid.field
        at = given[name][1] if name in given else part.settings[0].at
        of = f"parameter '{name}' of {part.name}" if name else f"parameters of {part.name}"
        raise _error(text, at, f"{of}: {invalid.what}", f"see `harness methods {part.name}`") from error
    except Exception as error:  # a validator of a plugin may raise anything
        what = f"parameters of {part.name} cannot be validated: {type(error).__name__}: {error}"
        place = plugin_place(error)
        raise _error(text, part.at, what, f"fix the plugin: {place}" if place else "fix the method") from error


def validated(cls: type[Method], given: dict[str, Any]) -> Params:
    """A method's parameters from given values and defaults, normalised so that a given default equals the default.

    Validated twice because pydantic does not convert defaults: `tau: float = 1` would stay the integer 1 and have a
    different key than `[tau=1]`.

    Raises:
        pydantic.ValidationError: an unknown parameter or an invalid value.
    """
    return cls.Params.model_validate(cls.Params.model_validate(given).model_dump())


# Writing ------------------------------------------------------------------------------------------------------------


def _part_text(part: MethodPart, alone: bool) -> str:
    cls = METHODS.get(part.name)
    changed = _changed_params(cls, part.params)
    defaults = cls.weights(cls.Params.model_validate(part.params))
    settings = [f"{name}={value_text(value)}" for name, value in changed.items()]
    for name, term in cls.terms.items():
        if name in part.weights and part.weights[name] != float(defaults[name]):
            settings.append(f"{term.symbol or name}={value_text(part.weights[name])}")
    active = [name for name in cls.terms if name in part.weights]
    off = [name for name in cls.terms if name not in part.weights and defaults[name]]
    # As few terms as possible: "ka-affinity" as a single method, "kd+ka.affinity" in a sum.
    keep = len(active) < len(off) or (len(active) == len(off) and not alone)
    marks = "".join(f".{name}" for name in active) if off and keep else "".join(f"-{name}" for name in off)
    return part.name + (f"[{','.join(settings)}]" if settings else "") + marks


@lru_cache(maxsize=256)
def _defaults(cls: type[Method]) -> dict[str, Any]:
    """A method's default parameters."""
    return validated(cls, {}).model_dump(mode="json")


def _changed_params(cls: type[Method], params: dict[str, Any]) -> dict[str, Any]:
    """The smallest set of parameters that implies all others (one may change another's default)."""
    changed = {name: params[name] for name in cls.Params.model_fields}
    defaults = _defaults(cls)
    different = {name: value for name, value in changed.items() if name not in defaults or value != defaults[name]}
    with contextlib.suppress(ValidationError):  # a parameter may require another one, even at its default
        if validated(cls, different).model_dump(mode="json") == params:
            changed = different
    for name in reversed(list(changed)):
        fewer = {key: value for key, value in changed.items() if key != name}
        try:
            same = validated(cls, fewer).model_dump(mode="json") == params
        except ValidationError:
            same = False
        if same:
            changed = fewer
    return changed
