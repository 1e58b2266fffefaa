"""Checks of declarations at registration: unambiguous names of a method, classes of a data set, summaries."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.data.base import Dataset
from harness.errors import HarnessError
from harness.evaluation.metrics.base import Metric
from harness.losses.base import Loss
from harness.specs.recipes import load_recipe
from methods.base import Method, Term
from results.columns import refuse_name
from results.invalid import first_invalid

READABLE = frozenset({"logits", "last", "features", "images", "labels"})
"""Valid values in a method's `reads`."""

GROWTHS = ("linear", "linearithmic", "quadratic", "cubic")
"""Valid first words of a method's `cost`. The conformance suite verifies "linear"."""

RESERVED = frozenset({"all", "teacher"})
"""Names with a special meaning in expressions and tables."""


def check_declaration(cls: type[Method]) -> None:
    """Check that a method's declarations are valid and that an expression can name everything in them.

    Raises:
        HarnessError: a reserved or colliding name, an invalid term, a weight that is not a number >= 0, or a parameter
            without a default.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", cls.name) or keyword.iskeyword(cls.name):
        raise _bad(cls, "its name cannot be written in an expression", "use lower-case letters, digits and underscores")
    if cls.name in RESERVED:
        raise _bad(cls, f"'{cls.name}' is a reserved word in expressions", "choose another name")
    if not isinstance(cls.reads, frozenset | set):
        raise _bad(cls, f"reads is {cls.reads!r}", 'declare reads = frozenset({"logits"})')
    if not cls.reads <= READABLE:
        unknown = ", ".join(sorted(cls.reads - READABLE))
        raise _bad(cls, f"reads {unknown}, which networks do not provide", f"known: {', '.join(sorted(READABLE))}")
    if not isinstance(getattr(cls, "summary", None), str) or not cls.summary.strip():
        raise _bad(cls, "has no summary", 'declare summary = "one line that says what it compares"')
    if not (isinstance(cls.Params, type) and issubclass(cls.Params, BaseModel)):
        raise _bad(cls, "Params is not a class of parameters", "subclass methods.base.Params inside the method")
    if growth_of(cls.cost) not in GROWTHS:
        what = f"cost is {cls.cost!r}, which does not begin with a growth rate"
        raise _bad(cls, what, f'begin with {", ".join(GROWTHS)}: "quadratic in pooled nodes"')
    _check_terms(cls)
    name_table(cls)
    for name, info in cls.Params.model_fields.items():
        if info.alias or info.validation_alias:
            raise _bad(cls, f"parameter {name} has an alias", "expressions use field names: remove the alias")
    if cls.Params.model_computed_fields:
        names = ", ".join(cls.Params.model_computed_fields)
        raise _bad(cls, f"parameter {names} is computed, so no expression can set it", "make it a property")
    try:
        # Twice: pydantic does not validate defaults.
        defaults = cls.Params.model_validate(cls.Params().model_dump())
    except ValidationError as error:
        invalid = first_invalid(error)
        raise _bad(cls, f"parameter {invalid.where} has no valid default: {invalid.what}", "give each one") from error
    checked_weights(cls, defaults)


def name_table(cls: type[Method]) -> dict[str, tuple[str, str]]:
    """Every name allowed in the brackets after a method, with its meaning: ("term", x) or ("param", x).

    Raises:
        HarnessError: two names are equal.
    """
    table: dict[str, tuple[str, str]] = {}

    def put(name: str, meaning: tuple[str, str]) -> None:
        if not name.isidentifier():
            raise _bad(cls, f"'{name}' cannot be written in an expression", "use letters, digits and underscores")
        if table.get(name, meaning) != meaning:
            what, other = table[name]
            raise _bad(cls, f"'{name}' is the name of a {meaning[0]} and of the {what} {other}", "rename one")
        table[name] = meaning

    for name, term in cls.terms.items():
        put(name, ("term", name))
        if term.symbol:
            put(term.symbol, ("term", name))
    for name in cls.Params.model_fields:
        put(name, ("param", name))
    return table


def _check_terms(cls: type[Method]) -> None:
    if not isinstance(cls.terms, Mapping):
        raise _bad(cls, "terms is not a mapping", 'declare terms = {"name": Term(weight=1.0)}')
    if not cls.terms and cls.needs_teacher:
        raise _bad(cls, "declares no terms, so it would equal none", 'declare terms = {"name": Term(weight=1.0)}')
    for name, term in cls.terms.items():
        if not isinstance(term, Term):
            raise _bad(cls, f"'{name}' in terms is not a Term", 'declare terms = {"name": Term(weight=1.0)}')
    _check_weights(cls, {name: term.weight for name, term in cls.terms.items()})


def growth_of(cost: object) -> str:
    """The growth rate of a declared cost: its first word."""
    words = re.findall(r"\w+", str(cost))
    return words[0] if words else ""


def checked_weights(cls: type[Method], params: Any) -> dict[str, float]:
    """The weight of every term under these parameters.

    Raises:
        HarnessError: weights() raises, names other terms, or returns a weight that is not a number >= 0.
    """
    try:
        weights = cls.weights(params)
    except (Exception, SystemExit) as error:
        raise _bad(cls, f"weights() raises {type(error).__name__}: {error}", "fix the method") from error
    if not isinstance(weights, Mapping):
        raise _bad(cls, f"weights() returns {type(weights).__name__}", "return {term: weight}")
    if set(weights) != set(cls.terms):
        raise _bad(cls, "weights() does not name exactly its terms", f"terms: {', '.join(cls.terms) or 'none'}")
    _check_weights(cls, weights)
    return dict(weights)


def _check_weights(cls: type[Method], weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise _bad(cls, f"the weight of term '{name}' is {weight!r}", "a weight is a finite number, zero or more")


def _bad(cls: type[Method], what: str, hint: str) -> HarnessError:
    return HarnessError(f"method {getattr(cls, 'name', cls.__name__)} ({cls.__module__}): {what}", hint)


# Backbones, heads, data sets ------------------------------------------------------------------------------------------


def check_summary(cls: type[Any]) -> None:
    """Check that a class has a summary, which lists show.

    Raises:
        HarnessError: it declares no summary.
    """
    if not isinstance(getattr(cls, "summary", None), str):
        raise HarnessError(f"{cls.name} declares no summary", 'declare summary = "..." in the class')


def check_metric(cls: type[Metric]) -> None:
    """Check that a metric's declarations are valid and that it defines a computation.

    Raises:
        HarnessError: the name of a column, an unknown direction, an invalid number of digits, or no computation.
    """
    check_summary(cls)
    if reason := refuse_name(cls.name):
        raise HarnessError(f"metric {cls.name!r}: {reason}", "choose another name")
    if cls.direction not in ("higher", "lower"):
        raise HarnessError(f"metric {cls.name}: direction is {cls.direction!r}", "give higher or lower")
    if isinstance(cls.digits, bool) or not isinstance(cls.digits, int) or not 0 <= cls.digits <= 12:
        raise HarnessError(f"metric {cls.name}: digits is {cls.digits!r}", "give the decimals in tables, 0 to 12")
    if not isinstance(cls.unit, str) or not isinstance(cls.heading, str):
        raise HarnessError(f"metric {cls.name}: unit and heading must be strings", 'declare unit = "%"')
    computes_alone = cls.update is not Metric.update and cls.value is not Metric.value
    if cls.image_state is Metric.image_state and not computes_alone:
        raise HarnessError(f"metric {cls.name} defines no computation", "define image_state, or both update and value")


def check_loss(cls: type[Loss]) -> None:
    """See that a loss says what it is and that its parameters have defaults.

    Raises:
        HarnessError: it does not, or they have not.
    """
    check_summary(cls)
    try:
        cls.Params.model_validate(cls.Params().model_dump())
    except ValidationError as error:
        invalid = first_invalid(error)
        what = f"loss {cls.name}: parameter {invalid.where} has no valid default: {invalid.what}"
        raise HarnessError(what, "give each one") from error


def check_dataset(cls: type[Dataset]) -> None:
    """Check that a data set's declarations are valid.

    Raises:
        HarnessError: no classes, a class without a colour, unknown initial weights or recipe, or a parameter without a
            valid default.
    """
    check_summary(cls)
    classes, palette = getattr(cls, "classes", ()), getattr(cls, "palette", ())
    if isinstance(classes, str) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise _unfit(cls, f"its classes are {classes!r}", 'declare classes = ("sky", "road", ...)')
    if len(palette) != len(classes) or not all(_is_colour(colour) for colour in palette):
        raise _unfit(
            cls,
            f"its palette has {len(palette)} colours for {len(classes)} classes",
            "give (r, g, b), 0..255, per class",
        )
    if cls.weights not in ("imagenet", "random"):
        raise _unfit(cls, f"its weights are {cls.weights!r}", "give imagenet or random")
    try:
        load_recipe(cls.recipe)
    except HarnessError as error:
        raise _unfit(cls, error.message, error.hint) from error
    try:
        cls.Params.model_validate(cls.Params().model_dump())
    except ValidationError as error:
        invalid = first_invalid(error)
        raise _unfit(cls, f"parameter {invalid.where} has no valid default: {invalid.what}", "give each one") from error


def _is_colour(colour: Any) -> bool:
    return isinstance(colour, tuple | list) and len(colour) == 3 and all(0 <= value <= 255 for value in colour)


def _unfit(cls: type[Dataset], what: str, hint: str) -> HarnessError:
    return HarnessError(f"data set {cls.name}: {what}", hint)
