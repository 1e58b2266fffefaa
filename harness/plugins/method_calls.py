"""Call a method's code: exceptions and invalid return values become messages that name the method."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from harness.errors import HarnessError, StageFailed
from harness.plugins.registries import METHODS
from harness.system.guard import guard_process, text_of
from harness.system.memory import out_of_memory
from methods.base import Method, Translator

P = ParamSpec("P")


T = TypeVar("T")


def call_plugin(cls: type[Method], doing: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a method's code. Out-of-memory errors and `HarnessError` propagate unchanged.

    Raises:
        StageFailed: it raised; the message names the method, its file and line.
    """
    try:
        with guard_process():
            return call(*args, **kwargs)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        what = f"method {display_name(cls)} failed in {doing}, {_place(error, cls)}"
        raise StageFailed(
            f"{what}: {type(error).__name__}: {text_of(error)[:2000]}",
            f"check it with `harness check-method {cls.name}`",
        ) from error


def display_name(cls: type[Method]) -> str:
    """A method's name, with its origin unless it is built in."""
    origin = METHODS.entry(cls.name).origin if cls.name in METHODS else "not registered"
    return f"'{cls.name}'" if origin == "built-in" else f"'{cls.name}' ({origin})"


def _place(error: BaseException, cls: type[Method]) -> str:
    """File and line of the innermost frame in the method's file, otherwise of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source_file(cls)] or frames
    return f"{own[-1].filename}, line {own[-1].lineno}"


def describe_nonfinite(cls: type[Method], term: str, value: float) -> str:
    """A message on a term that is not finite, with the method and its origin."""
    return f"term '{term}' of method {display_name(cls)} is {value} ({definition_place(cls, 'forward')})"


def source_file(cls: type) -> str:
    """The file that defines a class, or "" if none does."""
    try:
        return inspect.getfile(cls)
    except (TypeError, OSError):
        return ""


def definition_place(cls: type, function: str) -> str:
    """File and line at which a class's function is defined."""
    code = getattr(getattr(cls, function, None), "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else source_file(cls)


def check_returned(
    cls: type[Method], values: Any, active: frozenset[str], by: type[Method] | type[Translator] | None = None
) -> None:
    """Check that a method returned exactly its active terms, as scalars.

    Args:
        by: the class whose `forward` returned them, if not the method: its translator.

    Raises:
        StageFailed: it did not; the message names the method, its file and line.
    """
    by = by or cls
    who, where = f"method {display_name(cls)}", definition_place(by, "forward")
    if not isinstance(values, Mapping):
        what = f"{who} returned {type(values).__name__} instead of a dict of terms ({where})"
        raise StageFailed(what, 'return {"term": scalar tensor}')
    undeclared = sorted(str(name) for name in set(values) - set(by.terms))
    if undeclared:
        what = f"{who} returned the undeclared term '{undeclared[0]}' ({where})"
        raise StageFailed(what, f"declare it in terms; declared: {', '.join(by.terms) or 'none'}")
    missing = sorted(active - set(values))
    if missing:
        what = f"{who} did not return its active term '{missing[0]}' ({where})"
        raise StageFailed(what, "return every term that is in self.active")
    inactive = sorted(set(values) - active)
    if inactive:
        what = f"{who} computed the term '{inactive[0]}', which has no weight ({where})"
        raise StageFailed(what, "compute a term only if it is in self.active")
    for name in active:
        check_scalar(cls, name, values[name], where)


def wrong_value(cls: type[Method], function: str, value: object, hint: str) -> StageFailed:
    """The error for an invalid return value of one of a method's functions."""
    return StageFailed(
        f"method {display_name(cls)}: {function} returns {value!r} ({definition_place(cls, function)})", hint
    )


def checked_health(cls: type[Method], call: Callable[[], Any]) -> dict[str, float]:
    """The diagnostics of a method's translator.

    Raises:
        StageFailed: the translator is useless (ValueError), or its code raised or did not return finite numbers.
    """

    def ask() -> Any:
        try:
            return call()
        except ValueError as error:
            raise StageFailed(str(error), "change the translator's parameters; a retry will not help") from error

    health = call_plugin(cls, "the health of its translator", ask)
    numbers = isinstance(health, Mapping) and all(isinstance(value, int | float) for value in health.values())
    if not numbers or not all(math.isfinite(value) for value in health.values()):
        what = f"method {display_name(cls)}: the health of its translator is {health!r}"
        raise StageFailed(what, "return a dict of finite numbers")
    return {str(name): float(value) for name, value in health.items()}


def check_scalar(cls: type[Method], name: str, value: Any, where: str) -> None:
    if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
        what = f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise StageFailed(
            f"method {display_name(cls)}: {name} is {what} ({where})", "it must be a scalar floating tensor"
        )
    if value.device.type == "meta":
        what = f"method {display_name(cls)}: {name} is on the meta device, which has no values ({where})"
        raise StageFailed(what, "compute it on the device of the student's maps")
