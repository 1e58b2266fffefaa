"""One registry class for everything that can be added: methods, backbone families, heads, data sets, launchers.

Three ways in: a file in the built-in package, an entry point of an installed package, a file given by `--plugin`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pkgutil
import site
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from harness.errors import HarnessError, did_you_mean

T = TypeVar("T")

_INSTALLED = ("package ", "entry point ")
_OWN = ("harness", "methods", "backbones", "results", "dashboards")
_foreign_files: set[str] = set()
"""Files of plugins and packages that have been registered."""
_plugin_modules: dict[str, ModuleType] = {}
"""What has been made of files given by `--plugin`."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class and where it came from."""

    name: str
    cls: type[T]
    origin: str
    """"built-in", "package NAME", or the plugin's path."""
    source: str = ""
    """sha256 of the plugin's file, or of a package's modules; empty for what is built in."""

    @property
    def file(self) -> str:
        """The file to give to `--plugin`; "" for what is built in or installed."""
        return self.origin if self.source and not self.origin.startswith(_INSTALLED) else ""


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
        self, kind: str, base: type[Any], package: str, group: str, check: Callable[[type[T]], None] | None = None
    ) -> None:
        self.kind, self.base, self.package, self.group, self.check = kind, base, package, group, check
        self._entries: dict[str, Entry[T]] = {}
        self.broken: dict[str, str] = {}
        """Entry points of installed packages that could not be registered, and why."""
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
        if name not in self._entries and name in self.broken:
            raise HarnessError(
                f"{self.kind} '{name}' cannot be used: {self.broken[name]}", "mend or remove that package"
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
            HarnessError: it does not extend the base class, has no name, the name is taken, or `check` refuses it;
                the sentence says where the class is defined.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise _refusal(
                cls,
                origin,
                f"{cls!r} is no {self.kind}",
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
                what = f"{self.kind} '{name}' declares what cannot be read: {type(error).__name__}: {error}"
                raise _refusal(cls, origin, what, "mend its declarations") from error
        if source:
            _foreign_files.add(inspect.getfile(cls))
        self._entries[name] = Entry(name, cls, origin, source)

    def add_module(self, module: ModuleType, origin: str, source: str = "") -> int:
        """Register all concrete, named classes of this kind that a module itself defines; how many there were."""
        found = [cls for cls in self._defined(module) if not inspect.isabstract(cls) and getattr(cls, "name", None)]
        for cls in found:
            self.add(cls, origin, source)
        return len(found)

    def refused(self, module: ModuleType) -> list[str]:
        """Why classes of this kind that a module defines cannot be registered: abstract, or without a name.

        A class that others there extend, or whose own name begins with an underscore, is not meant to be registered.
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
        """Classes of this kind that a module defines itself, in order; what it imports is not its own."""
        own = {id(v): v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__}
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
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                self.add_module(importlib.import_module(f"{self.package}.{info.name}"), "built-in")

    def _load_entry_point(self, point: EntryPoint) -> None:
        """Register what an installed package offers. If that fails the others still work: it is a warning, and an
        error only for who asks for that name."""
        origin = f"package {point.dist.name}" if point.dist else f"entry point {point.name}"
        try:
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
        warnings.warn(f"a {self.kind} of an installed package is left out: {reason}", BrokenPlugin, stacklevel=2)


class BrokenPlugin(UserWarning):
    """An installed package offers something that cannot be registered."""


def load_plugin(path: Path, registries: Sequence[Registry[Any]]) -> str:
    """Import a plugin's file and register all it defines; its sha256. Loading it again changes nothing.

    Raises:
        HarnessError: no such file, it raises when imported, it imports another file beside it, it defines nothing to
            register or a class that cannot be, or a name is taken.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        raise HarnessError(f"plugin {path} is not a file", "give the path of a Python file")
    content = path.read_bytes()
    source = sha256(content).hexdigest()
    module = _import_file(path, f"harness_plugin_{path.stem}_{source[:8]}", content)
    if reasons := [reason for registry in registries for reason in registry.refused(module)]:
        what = f"plugin {path} defines what cannot be registered: {'; '.join(reasons)}"
        raise HarnessError(what, 'define it, and declare name = "..."; a helper begins with an underscore')
    if not sum(registry.add_module(module, str(path), source) for registry in registries):
        raise HarnessError(
            f"plugin {path} defines nothing to register",
            'a method extends methods.base.Method, declares name = "..." and defines forward',
        )
    return source


def prints_aside() -> contextlib.redirect_stdout[Any]:
    """What other people's code prints goes to standard error: the output of a command may be JSON."""
    return contextlib.redirect_stdout(sys.stderr)


def _import_file(path: Path, name: str, content: bytes) -> ModuleType:
    """The module that this content makes: never a compiled file that Python has kept of an earlier one."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HarnessError(f"plugin {path} is not a Python file", "its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = _plugin_modules[name] = module
    try:
        with prints_aside():
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
        _refuse_neighbours(path, module, before | {name})
    except HarnessError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise HarnessError(
            f"plugin {path}, line {_line(error, path)}: {type(error).__name__}: {error}", "mend the plugin"
        ) from error
    return module


def _refuse_neighbours(path: Path, module: ModuleType, before: set[str]) -> None:
    """A plugin is known by its own content: a file beside it could change unnoticed, and does not travel along."""
    values = [value for name, value in vars(module).items() if not name.startswith("__")]
    used = {v.__name__ if isinstance(v, ModuleType) else str(getattr(v, "__module__", "")) for v in values}
    fresh = set(sys.modules) - before
    beside = {name: file for name in (fresh | used) & set(sys.modules) if (file := _file_beside(name, path.parent))}
    for name in fresh & beside.keys():
        del sys.modules[name]
    if beside:
        what = f"plugin {path} imports {min(beside.values())}, which lies beside it"
        raise HarnessError(
            f"{what}: what changes there would go unnoticed",
            "put all into one file, or make a package of it with an entry point",
        )


def _file_beside(name: str, folder: Path) -> str:
    """The file of a module that lies below a folder, and is neither ours nor Python's nor installed; "" if none."""
    module = sys.modules[name]
    file, top = getattr(module, "__file__", None), name.split(".")[0]
    if not file or top in _OWN or top in sys.stdlib_module_names or module in _plugin_modules.values():
        return ""
    place = Path(file).resolve()
    installed = any(place.is_relative_to(other) for other in _installed_folders())
    return str(file) if place.is_relative_to(folder.resolve()) and not installed else ""


@lru_cache(maxsize=1)
def _installed_folders() -> list[Path]:
    """Where Python keeps itself and what is installed."""
    folders = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    return [Path(folder).resolve() for folder in folders]


@lru_cache(maxsize=256)
def _package_digest(module: str) -> str:
    """sha256 over the Python files of the package, or the one file, that an installed module belongs to."""
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
    """`FILE, line N` of the innermost frame that lies in a plugin or a package of others; "" where none does."""
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        own = [frame for frame in frames if frame.filename in _foreign_files]
        if own:
            return f"{own[-1].filename}, line {own[-1].lineno}"
        cause = cause.__cause__
    return ""


def _refusal(cls: object, origin: str, what: str, hint: str) -> HarnessError:
    return HarnessError(f"{_where(cls, origin)}: {what}", hint)


def _abstract(cls: type) -> str:
    """What an abstract class leaves undefined."""
    return ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))


def _where(cls: object, origin: str) -> str:
    """Where a class comes from, with its line when the origin is a file or a package."""
    if origin == "built-in" or not isinstance(cls, type):
        return origin
    try:
        file, line = inspect.getfile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return origin
    return f"{origin}, line {line}" if file == origin else f"{origin} ({file}, line {line})"


def _line(error: BaseException, path: Path) -> str:
    """The line of the plugin in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return str(error.lineno)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return str(lines[-1]) if lines else "?"
