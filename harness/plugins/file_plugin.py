"""Single-file plugins: each is imported once, with its output redirected to stderr."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import site
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import HarnessError
from harness.plugins.registry import Registry
from harness.system.guard import guard_process

_OWN = ("harness", "methods", "backbones", "results", "dashboards")


_plugin_modules: dict[str, ModuleType] = {}
"""Modules imported from files given by `--plugin`."""


def load_plugin(path: Path, registries: Sequence[Registry[Any]]) -> str:
    """Import a plugin's file, register all it defines, and return its sha256. Loading it again changes nothing.

    Raises:
        HarnessError: the file is missing, raises when imported, imports a neighbouring file, defines nothing or a class
            that cannot be registered, or uses a taken name.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        raise HarnessError(f"plugin {path} is not a file", "give the path of a Python file")
    content = path.read_bytes()
    source = sha256(content).hexdigest()
    module = _import_file(path, f"harness_plugin_{path.stem}_{source[:8]}", content)
    if reasons := [reason for registry in registries for reason in registry.refused(module)]:
        what = f"plugin {path} defines a class that cannot be registered: {'; '.join(reasons)}"
        raise HarnessError(what, 'define it, and declare name = "..."; prefix helper classes with an underscore')
    if not sum(registry.add_module(module, str(path), source) for registry in registries):
        raise HarnessError(
            f"plugin {path} defines nothing to register",
            'a method extends methods.base.Method, declares name = "..." and defines forward',
        )
    return source


def stdout_to_stderr() -> contextlib.redirect_stdout[Any]:
    """Redirect stdout to stderr while third-party code runs, because a command's output may be JSON."""
    return contextlib.redirect_stdout(sys.stderr)


def _import_file(path: Path, name: str, content: bytes) -> ModuleType:
    """Import the module from this content, never from a cached bytecode file of an earlier version."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HarnessError(f"plugin {path} is not a Python file", "its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = _plugin_modules[name] = module
    try:
        with stdout_to_stderr(), guard_process():
            exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
        _refuse_neighbours(path, module, before | {name})
    except HarnessError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise HarnessError(
            f"plugin {path}, line {_line(error, path)}: {type(error).__name__}: {error}", "fix the plugin"
        ) from error
    return module


def _refuse_neighbours(path: Path, module: ModuleType, before: set[str]) -> None:
    """Refuse imports of neighbouring files: only the plugin's own content is hashed and sent to workers."""
    values = [value for name, value in vars(module).items() if not name.startswith("__")]
    used = {v.__name__ if isinstance(v, ModuleType) else str(getattr(v, "__module__", "")) for v in values}
    fresh = set(sys.modules) - before
    siblings = {name: file for name in (fresh | used) & set(sys.modules) if (file := _sibling_file(name, path.parent))}
    for name in fresh & siblings.keys():
        del sys.modules[name]
    if siblings:
        what = f"plugin {path} imports {min(siblings.values())}, a file next to it"
        raise HarnessError(
            f"{what}: changes of that file would go unnoticed",
            "put all code into one file, or make it a package with an entry point",
        )


def _sibling_file(name: str, folder: Path) -> str:
    """The file of a module below a folder that is not the harness's, Python's or installed; "" otherwise."""
    module = sys.modules[name]
    file, top = getattr(module, "__file__", None), name.split(".")[0]
    if not file or top in _OWN or top in sys.stdlib_module_names or module in _plugin_modules.values():
        return ""
    place = Path(file).resolve()
    installed = any(place.is_relative_to(other) for other in _installed_folders())
    return str(file) if place.is_relative_to(folder.resolve()) and not installed else ""


@lru_cache(maxsize=1)
def _installed_folders() -> list[Path]:
    """Folders of Python itself and of installed packages."""
    folders = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    return [Path(folder).resolve() for folder in folders]


def _line(error: BaseException, path: Path) -> str:
    """The line of the plugin that raised an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return str(error.lineno)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return str(lines[-1]) if lines else "?"
