"""The floors of the house: which package may import which, and what must not be imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "fvcore", "pandas", "streamlit", "scipy"}
CLI = sorted((ROOT / "harness" / "cli").glob("*.py"))
LIGHT = set(sys.stdlib_module_names) | {"typer", "click"}
"""What a file of the command line may import at its top, besides `harness.cli`, `harness.errors` and the version."""


def test_imports_run_downwards_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """All contracts of pyproject.toml hold."""
    from importlinter.cli import lint_imports

    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports inside functions count as well."""
    graph = grimp.build_graph("harness", "methods", "backbones", "results", "dashboards", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["doctor", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = _python("-X", "importtime", "-m", "harness", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Usage" in done.stdout
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in names  # the listing was understood
    assert not names & HEAVY


@pytest.mark.parametrize("words", ["import harness", "import harness; harness.sweep, harness.plan, harness.open"])
def test_the_package_imports_nothing_heavy(words: str) -> None:
    done = _python("-c", f"import sys; {words}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr[-2000:]
    names = {name.partition(".")[0] for name in done.stdout.split()}
    assert "harness" in names and not names & (HEAVY | {"typer", "pydantic", "numpy", "rich"})


@pytest.mark.parametrize(("package", "allowed"), [("results", ""), ("dashboards", "harness streamlit")])
def test_results_and_board_open_without_torch(package: str, allowed: str) -> None:
    """Every module of `results`, and what pages of the board share, really imported."""
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and path.parent.name not in ("pages", "entrance")
    )
    assert modules
    forbidden = (HEAVY | {"harness", "methods", "backbones"}) - {"pandas", "scipy", *allowed.split()}
    code = (
        f"import importlib, sys\n[importlib.import_module(m) for m in {modules!r}]\n"
        f"print(sorted(set({sorted(forbidden)!r}) & set(sys.modules)))"
    )
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    """Names of the modules that a file imports when it is imported; type checking and functions excepted."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _imports(node.body + node.orelse)
        elif isinstance(node, ast.Try | ast.With):
            yield from _imports(node.body)


@pytest.mark.parametrize("file", CLI, ids=lambda file: file.name)
def test_commands_import_what_they_need_when_they_need_it(file: Path) -> None:
    light = ("harness.cli.", "harness.errors.", "harness.__version__")
    heavy = [
        name
        for name in _imports(ast.parse(file.read_text()).body)
        if name.partition(".")[0] not in LIGHT and not name.startswith(light)
    ]
    assert not heavy, f"{file.name} imports {', '.join(heavy)} at its top"
