"""One registry class for everything that can be added: methods, backbone families, heads, data sets, launchers.

Three ways in: a file in the built-in package, an entry point of an installed package, a file given by `--plugin`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from harness.errors import HarnessError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class and where it came from."""

    name: str
    cls: type[T]
    origin: str
    """"built-in", "package NAME", or the plugin's path."""
    source: str = ""
    """sha256 of the plugin's file; empty for what is installed."""


class Registry(Generic[T]):
    """Classes of one kind by name: collisions refused, base class checked, unknown names answered with a hint.

    Args:
        kind: what an error message calls them: "method".
        base: the class that all must extend.
        package: dotted name of the package whose modules hold the built-in ones.
        group: entry point group for third parties: "harness.methods".
        check: raises `HarnessError` for a class whose declarations make no sense.
    """

    def __init__(
        self, kind: str, base: type[T], package: str, group: str, check: Callable[[type[T]], None] | None = None
    ) -> None:
        self.kind, self.base, self.package, self.group, self.check = kind, base, package, group, check
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __contains__(self, name: str) -> bool:
        self._load()
        return name in self._entries

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._entries)

    def entry(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            HarnessError: there is none; the hint says what comes near.
        """
        self._load()
        if name not in self._entries:
            raise HarnessError(f"there is no {self.kind} '{name}'", did_you_mean(name, self._entries))
        return self._entries[name]

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises as `entry` does."""
        return self.entry(name).cls

    def add(self, cls: type[T], origin: str, source: str = "") -> None:
        """Register a class under its own `name`.

        Raises:
            HarnessError: it does not extend the base class, has no name, or the name is taken.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise HarnessError(
                f"{origin}: {cls!r} is no {self.kind}", f"it must extend {self.base.__module__}.{self.base.__name__}"
            )
        name = getattr(cls, "name", "")
        if not isinstance(name, str) or not name.isidentifier():
            raise HarnessError(
                f"{origin}: {self.kind} {cls.__name__} has no usable name", 'declare name = "my_name" in the class'
            )
        taken = self._entries.get(name)
        if taken and (taken.origin, taken.source) != (origin, source):
            raise HarnessError(
                f"{self.kind} '{name}' of {origin} is already registered by {taken.origin}", "choose another name"
            )
        if self.check:
            try:
                self.check(cls)
            except HarnessError as error:
                raise HarnessError(f"{origin}: {error.message}", error.hint) from error
        self._entries[name] = Entry(name, cls, origin, source)

    def add_module(self, module: ModuleType, origin: str, source: str = "") -> int:
        """Register all classes of this kind that a module itself defines; how many there were."""
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, self.base)
            and value.__module__ == module.__name__
            and not inspect.isabstract(value)
            and getattr(value, "name", None)
        ]
        for cls in found:
            self.add(cls, origin, source)
        return len(found)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            self.add_module(importlib.import_module(f"{self.package}.{info.name}"), "built-in")
        for point in entry_points(group=self.group):
            origin = f"package {point.dist.name}" if point.dist else f"entry point {point.name}"
            try:
                cls = point.load()
            except Exception as error:
                raise HarnessError(f"{origin}: entry point '{point.name}' does not load: {error}") from error
            self.add(cls, origin)


def load_plugin(path: Path, registries: list[Registry]) -> str:
    """Import a plugin's file and register all it defines; its sha256.

    Raises:
        HarnessError: no such file, it raises when imported, or it defines nothing to register.
    """
    if not path.is_file():
        raise HarnessError(f"plugin {path} is not a file")
    content = path.read_bytes()
    source = sha256(content).hexdigest()
    name = f"harness_plugin_{path.stem}_{source[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise HarnessError(f"plugin {path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise HarnessError(f"plugin {path}, line {_line(error, path)}: {type(error).__name__}: {error}") from error
    found = sum(r.add_module(sys.modules[name], str(path), source) for r in registries)
    if not found:
        raise HarnessError(
            f"plugin {path} defines nothing to register",
            "a method extends methods.base.Method and declares name = ...",
        )
    return source


def _line(error: BaseException, path: Path) -> str:
    """The line of the plugin in which an error arose."""
    if isinstance(error, SyntaxError) and error.lineno:
        return str(error.lineno)
    line, trace = "?", error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = str(trace.tb_lineno)
        trace = trace.tb_next
    return line
