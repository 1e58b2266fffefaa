"""Objects on their way to another process, together with the plugin files that define their classes.

A process that is started afresh (`spawn`, `forkserver`) imports classes by the names of their modules, under which it
cannot find files that were given by `--plugin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_needed: dict[str, Callable[[str], object]] = {}
"""Path of a file that this process has loaded -> the function that loads it."""


def ship_along(path: str, load: Callable[[str], object]) -> None:
    """Let processes that receive objects of this one call `load(path)` first.

    Args:
        load: a function of a module, which is found by its name.
    """
    _needed[path] = load


@dataclass(frozen=True)
class _File:
    """A file that is loaded where this is unpickled."""

    path: str
    load: Callable[[str], object]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.load, (self.path,)


@dataclass(frozen=True)
class Shipped:
    """A sequence that can be pickled in this process and unpickled in one that has loaded no plugins."""

    content: Any

    def __getitem__(self, index: int) -> Any:
        return self.content[index]

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickled in this order.
        return _arrived, (*(_File(path, load) for path, load in _needed.items()), self.content)


def _arrived(*parts: Any) -> Shipped:
    return Shipped(parts[-1])
