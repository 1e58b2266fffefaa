"""Plugins of one file: imported once, under their own name, with what they print put aside."""

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
from harness.plugins.guard import guarded
from harness.plugins.registry import Registry

_OWN = ("harness", "methods", "backbones", "results", "dashboards")


_plugin_modules: dict[str, ModuleType] = {}
"""What has been made of files given by `--plugin`."""


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


def stdout_to_stderr() -> contextlib.redirect_stdout[Any]:
    """What third-party code prints goes to standard error: the output of a command may be JSON."""
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
        with stdout_to_stderr(), guarded():
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


def _line(error: BaseException, path: Path) -> str:
    """The line of the plugin in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return str(error.lineno)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return str(lines[-1]) if lines else "?"
