"""One registry class for all extensions: methods, backbone families, heads, data sets, metrics, launchers.

Entries come from files of a built-in package, entry points of installed packages, and files given by `--plugin`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from harness.errors import HarnessError, did_you_mean
from harness.system.guard import guard_process
from harness.system.importing import garbage_ignored

T = TypeVar("T")

_INSTALLED = ("package ", "entry point ")
_foreign_files: set[str] = set()
"""Files of registered plugins and packages."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class and its origin."""

    name: str
    cls: type[T]
    origin: str
    """"built-in", "package NAME", or the plugin's path."""
    source: str = ""
    """sha256 of the plugin's file or of the package's modules; empty for built-in classes."""

    @property
    def file(self) -> str:
        """The file for `--plugin`; "" for built-in and installed classes."""
        return self.origin if self.source and not self.origin.startswith(_INSTALLED) else ""


class Registry(Generic[T]):
    """Classes of one kind by name. Checks base classes and declarations, refuses collisions, and suggests names.

    Args:
        kind: name of the kind in error messages: "method".
        base: required base class.
        package: dotted name of the package with the built-in classes.
        group: entry point group for third parties: "harness.methods".
        check: raises `HarnessError` for a class with invalid declarations.
    """

    def __init__(
        self, kind: str, base: type[Any], package: str, group: str, check: Callable[[type[T]], None] | None = None
    ) -> None:
        self.kind, self.base, self.package, self.group, self.check = kind, base, package, group, check
        self._entries: dict[str, Entry[T]] = {}
        self.broken: dict[str, str] = {}
        """Entry points of installed packages that could not be registered -> reason."""
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
            HarnessError: there is none; the hint suggests similar names.
        """
        self._load()
        if name not in self._entries and name in self.broken:
            raise HarnessError(
                f"{self.kind} '{name}' cannot be used: {self.broken[name]}", "fix or remove that package"
            )
        if name not in self._entries:
            raise HarnessError(f"there is no {self.kind} '{name}'", did_you_mean(name, self._entries))
        return self._entries[name]

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises as `entry` does."""
        return self.entry(name).cls

    def add(self, cls: type[T], origin: str, source: str = "") -> None:
        """Register a class under its own `name`. Registering the same class again changes nothing.

        Raises:
            HarnessError: it does not extend the base class, has no name, the name is taken, or `check` refuses it; the
                message says where the class is defined.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise _refusal(
                cls,
                origin,
                f"{cls!r} is not a {self.kind}",
                f"it must extend {self.base.__module__}.{self.base.__name__}",
            )
        if inspect.isabstract(cls):
            raise _refusal(cls, origin, f"{self.kind} {cls.__name__} lacks {_abstract(cls)}", "define it in the class")
        name = getattr(cls, "name", "")
        if not isinstance(name, str) or not name.isidentifier():
            raise _refusal(
                cls, origin, f"{self.kind} {cls.__name__} has no usable name", 'declare name = "my_name" in the class'
            )
        taken = self._entries.get(name)
        if taken and taken.cls is cls:
            return
        if taken:
            by = f"another class there, {taken.cls.__name__}" if taken.origin == origin else taken.origin
            raise _refusal(cls, origin, f"{self.kind} '{name}' is already registered by {by}", "choose another name")
        if self.check:
            try:
                self.check(cls)
            except HarnessError as error:
                raise _refusal(cls, origin, error.message, error.hint) from error
            except Exception as error:
                what = f"{self.kind} '{name}' has invalid declarations: {type(error).__name__}: {error}"
                raise _refusal(cls, origin, what, "fix its declarations") from error
        if source:
            _foreign_files.add(inspect.getfile(cls))
        self._entries[name] = Entry(name, cls, origin, source)

    def add_module(self, module: ModuleType, origin: str, source: str = "") -> int:
        """Register all concrete, named classes of this kind that a module itself defines; return their number."""
        found = [cls for cls in self._defined(module) if not inspect.isabstract(cls) and getattr(cls, "name", None)]
        for cls in found:
            self.add(cls, origin, source)
        return len(found)

    def refused(self, module: ModuleType) -> list[str]:
        """Reasons why classes of this kind in a module cannot be registered: abstract, or without a name.

        Base classes of other classes there, and classes with a leading underscore, are not meant to be registered.
        """
        defined = self._defined(module)
        reasons = []
        for cls in defined:
            if cls.__name__.startswith("_") or any(other is not cls and issubclass(other, cls) for other in defined):
                continue
            if inspect.isabstract(cls):
                reasons.append(f"{self.kind} {cls.__name__} lacks {_abstract(cls)}")
            elif not getattr(cls, "name", None):
                reasons.append(f"{self.kind} {cls.__name__} declares no name")
        return reasons

    def _defined(self, module: ModuleType) -> list[type[T]]:
        """Classes of this kind that a module defines itself, in order, without imported ones.

        For a package, classes imported from its own modules count.
        """
        inside = f"{module.__name__}." if hasattr(module, "__path__") else None

        def is_own(value: object) -> bool:
            place = value.__module__ if isinstance(value, type) else ""
            return place == module.__name__ or (inside is not None and place.startswith(inside))

        own = {id(v): v for v in vars(module).values() if isinstance(v, type) and is_own(v)}
        return [cls for cls in own.values() if issubclass(cls, self.base)]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            self._load_built_in()
        except BaseException:
            self._loaded = False
            raise
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            self._load_entry_point(point)

    def _load_built_in(self) -> None:
        with garbage_ignored():
            package = importlib.import_module(self.package)
            for info in pkgutil.iter_modules(package.__path__):
                if not info.name.startswith("_"):
                    self.add_module(importlib.import_module(f"{self.package}.{info.name}"), "built-in")

    def _load_entry_point(self, point: EntryPoint) -> None:
        """Register the classes of an installed package. Failure is a warning, and an error only when that name is
        requested, so that the others still work."""
        origin = f"package {point.dist.name}" if point.dist else f"entry point {point.name}"
        try:
            with guard_process():
                found = point.load()
            if isinstance(found, ModuleType):
                if not self.add_module(found, origin, _package_digest(found.__name__)):
                    reasons = "; ".join(self.refused(found)) or f"no {self.kind} in it"
                    raise HarnessError(f"{origin}: {point.value} defines nothing to register: {reasons}")
            else:
                self.add(found, origin, _package_digest(found.__module__))
        except HarnessError as error:
            self._break(point.name, str(error))
        except (Exception, SystemExit) as error:
            self._break(
                point.name,
                f"{origin}: entry point '{point.name}' ({point.value}) does not load: {type(error).__name__}: {error}",
            )

    def _break(self, name: str, reason: str) -> None:
        self.broken[name] = reason
        warnings.warn(f"a {self.kind} of an installed package is skipped: {reason}", BrokenPlugin, stacklevel=2)


FILE_KINDS: list[Registry[Any]] = []
"""The registries that files given by `--plugin` may extend. Higher layers add their own."""


class BrokenPlugin(UserWarning):
    """An installed package has an entry point that cannot be registered."""


@lru_cache(maxsize=256)
def _package_digest(module: str) -> str:
    """sha256 of the Python files of an installed module's package, or of its single file."""
    top = sys.modules[module.split(".")[0]]
    folders = [Path(folder) for folder in getattr(top, "__path__", [])]
    files = [(file.relative_to(folder), file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and top.__file__:
        files = [(Path(Path(top.__file__).name), Path(top.__file__))]
    _foreign_files.update(str(file) for _, file in files)
    digest = sha256()
    for name, file in files:
        digest.update(f"{name.as_posix()} {sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def plugin_place(error: BaseException) -> str:
    """`FILE, line N` of the innermost frame in a plugin or third-party package; "" if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        own = [frame for frame in frames if frame.filename in _foreign_files]
        if own:
            return f"{own[-1].filename}, line {own[-1].lineno}"
        cause = cause.__cause__
    return ""


def foreign_code_ran() -> bool:
    """Whether a plugin or third-party package was registered in this process."""
    return bool(_foreign_files)


def _refusal(cls: object, origin: str, what: str, hint: str) -> HarnessError:
    return HarnessError(f"{_where(cls, origin)}: {what}", hint)


def _abstract(cls: type) -> str:
    """The undefined abstract methods of a class."""
    return ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))


def _where(cls: object, origin: str) -> str:
    """The origin of a class, with its line if the origin is a file or a package."""
    if origin == "built-in" or not isinstance(cls, type):
        return origin
    try:
        file, line = inspect.getfile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return origin
    return f"{origin}, line {line}" if file == origin else f"{origin} ({file}, line {line})"
