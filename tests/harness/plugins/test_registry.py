"""The registry: three ways in, collisions refused, and faults of others told in a sentence."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from abc import ABC, abstractmethod
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.plugins import file_plugin
from harness.plugins import registry as registry_module
from harness.plugins.file_plugin import load_plugin
from harness.plugins.registry import BrokenPlugin, Registry, plugin_place


class Thing(ABC):
    """A base class of something that can be registered."""

    name: str

    @abstractmethod
    def do(self) -> None: ...


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package `stuff` with a base class; its modules are forgotten afterwards."""
    folder = tmp_path / "stuff"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [])
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        del sys.modules[name]


def registry(**changes) -> Registry[Thing]:
    return Registry[Thing]("thing", Thing, "stuff", "some.things", **changes)


BASE = f"from {__name__} import Thing\n"
ONE = BASE + "class One(Thing):\n    name = 'one'\n    def do(self): pass\n"


def test_files_of_the_package_are_registered(package: Path) -> None:
    (package / "one.py").write_text(ONE)
    found = registry()
    assert found.names() == ["one"] and "one" in found and "two" not in found
    assert found.entry("one").origin == "built-in" and found.entry("one").source == ""
    assert [entry.cls.__name__ for entry in found] == ["One"]


def test_private_modules_and_imported_classes_are_left_alone(package: Path) -> None:
    (package / "one.py").write_text(ONE)
    (package / "_private.py").write_text("raise RuntimeError('never imported')\n")
    (package / "two.py").write_text(
        "from stuff.one import One\nclass Base(One):\n    name = ''\nclass Two(Base):\n    name = 'two'\n"
    )
    assert registry().names() == ["one", "two"]


def test_an_unknown_name_is_answered_with_what_comes_near(package: Path) -> None:
    (package / "one.py").write_text(ONE)
    with pytest.raises(HarnessError, match="there is no thing 'ohne'") as caught:
        registry().get("ohne")
    assert caught.value.hint == "did you mean one?"


@pytest.mark.parametrize("second", [ONE, ONE.replace("One", "Other")])
def test_two_built_in_files_cannot_share_a_name(package: Path, second: str) -> None:
    (package / "one.py").write_text(ONE)
    (package / "two.py").write_text(second)
    with pytest.raises(HarnessError, match="'one' is already registered by another class there, One"):
        registry().names()


def test_two_classes_of_one_file_cannot_share_a_name(package: Path) -> None:
    (package / "one.py").write_text(ONE + "class Heir(One):\n    pass\n")
    with pytest.raises(HarnessError, match="'one' is already registered"):
        registry().names()


def test_a_load_that_failed_is_tried_again(package: Path) -> None:
    (package / "one.py").write_text("raise RuntimeError('not yet')\n")
    found = registry()
    with pytest.raises(RuntimeError, match="not yet"):
        found.names()
    (package / "one.py").write_text(ONE + "# mended\n")
    assert found.names() == ["one"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("class A: name = 'a'", "is not a thing"),
        ("class A(Thing): name = 'a'", "thing A lacks do"),
        ("class A(Thing):\n    name = 'not a word'\n    def do(self): pass", "no usable name"),
        ("class A(Thing):\n    name = 7\n    def do(self): pass", "no usable name"),
    ],
)
def test_what_cannot_be_registered_is_refused(package: Path, body: str, says: str) -> None:
    space: dict[str, type] = {"Thing": Thing}
    exec(body, space)
    with pytest.raises(HarnessError, match=says):
        registry().add(space["A"], "somewhere")


def test_a_check_that_raises_anything_names_the_class(package: Path, tmp_path: Path) -> None:
    def check(cls: type[Thing]) -> None:
        raise TypeError("no number")

    file = plugin(tmp_path, ONE)
    with pytest.raises(HarnessError, match="thing 'one' has invalid declarations: TypeError: no number") as caught:
        load_plugin(file, [registry(check=check)])
    assert f"{file}, line 2" in caught.value.message


def test_a_check_of_declarations_is_asked(package: Path) -> None:
    def check(cls: type[Thing]) -> None:
        raise HarnessError(f"{cls.name} is not nice", "be nice")

    (package / "one.py").write_text(ONE)
    with pytest.raises(HarnessError, match="built-in: one is not nice") as caught:
        registry(check=check).names()
    assert caught.value.hint == "be nice"


# Files given by --plugin --------------------------------------------------------------------------------------------


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_plugin_is_registered_with_its_hash(package: Path, tmp_path: Path) -> None:
    found = registry()
    file = plugin(tmp_path, ONE)
    digest = load_plugin(file, [found])
    assert found.entry("one").source == digest and len(digest) == 64
    assert found.entry("one").origin == str(file)


def test_loading_a_plugin_twice_by_whatever_path_changes_nothing(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registry()
    first = load_plugin(plugin(tmp_path, ONE), [found])
    cls = found.get("one")
    monkeypatch.chdir(tmp_path)
    assert load_plugin(Path("mine.py"), [found]) == first
    assert found.get("one") is cls


def test_a_name_that_is_taken_names_both_and_the_line(package: Path, tmp_path: Path) -> None:
    (package / "one.py").write_text(ONE)
    file = plugin(tmp_path, "\n\n" + ONE)
    with pytest.raises(HarnessError) as caught:
        found = registry()
        found.names()
        load_plugin(file, [found])
    assert f"{file}, line 4" in caught.value.message
    assert "'one' is already registered by built-in" in caught.value.message


def test_a_plugin_clashes_even_if_it_is_loaded_first(package: Path, tmp_path: Path) -> None:
    (package / "one.py").write_text(ONE)
    found = registry()
    with pytest.raises(HarnessError, match="'one' is already registered"):
        load_plugin(plugin(tmp_path, ONE), [found])
        found.names()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n\nx = 1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('deep')\nf()\n", "line 2: ValueError: deep"),
        ("x = 1\ny = = 2\n", "line 2: SyntaxError"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
    ],
)
def test_a_plugin_that_raises_names_its_line(package: Path, tmp_path: Path, text: str, says: str) -> None:
    file = plugin(tmp_path, text)
    with pytest.raises(HarnessError) as caught:
        load_plugin(file, [registry()])
    assert str(file) in caught.value.message and says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "defines nothing to register"),
        (BASE, "defines nothing to register"),
        ("class A:\n    name = 'a'\n", "defines nothing to register"),
        (BASE + "class A(Thing):\n    name = 'a'\n", "thing A lacks do.*prefix helper classes with an underscore"),
        (BASE + "class A(Thing):\n    def do(self): pass\n", "thing A declares no name"),
        (ONE + "class A(Thing):\n    def do(self): pass\n", "thing A declares no name"),
    ],
)
def test_a_plugin_that_defines_nothing_is_told_why(package: Path, tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        load_plugin(plugin(tmp_path, text), [registry()])


def test_bases_and_helpers_of_a_plugin_need_no_name(package: Path, tmp_path: Path) -> None:
    text = BASE + "class _Helper(Thing): pass\nclass Base(Thing): pass\n"
    text += "class A(Base):\n    name = 'a'\n    def do(self): pass\n"
    found = registry()
    load_plugin(plugin(tmp_path, text), [found])
    assert found.names() == ["a"]


def test_what_runs_is_what_was_hashed_and_no_compiled_file_of_an_earlier_one(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in (1, 2):
        file = plugin(tmp_path, ONE + f"NUMBER = {number}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        found = registry()
        load_plugin(file, [found])
        assert number == sys.modules[found.get("one").__module__].NUMBER


@pytest.mark.parametrize("line", ["import neighbour", "from neighbour import SCALE, help_me", "import inner.deep"])
def test_a_file_next_to_a_plugin_is_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    plugin(tmp_path, "SCALE = 1.0\ndef help_me(): pass\n", "neighbour.py")
    (tmp_path / "inner").mkdir()
    plugin(tmp_path / "inner", "", "deep.py")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("neighbour", "inner", "inner.deep"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for number in range(2):
        with pytest.raises(HarnessError, match="a file next to it: changes of that file would go unnoticed"):
            load_plugin(plugin(tmp_path, line + "\n" + ONE + f"NUMBER = {number}\n"), [registry()])


@pytest.mark.parametrize("name", ["json.decoder", "numpy", "torch.nn", "pydantic.main", "harness.errors"])
def test_python_itself_what_is_installed_and_ours_are_no_neighbours(name: str) -> None:
    """Also of a plugin that lies in a folder above them all."""
    importlib.import_module(name)
    assert file_plugin._sibling_file(name, Path("/")) == ""
    assert file_plugin._sibling_file(__name__, Path("/")) == __file__


def test_the_innermost_line_of_a_plugin_is_found(package: Path, tmp_path: Path) -> None:
    found = registry()
    file = plugin(tmp_path, ONE + "def outer():\n    inner()\ndef inner():\n    int('x')\n")
    load_plugin(file, [found])
    module = sys.modules[found.get("one").__module__]
    try:
        try:
            module.outer()
        except ValueError as error:
            raise RuntimeError("elsewhere") from error
    except RuntimeError as error:
        assert plugin_place(error) == f"{file}, line {len(ONE.splitlines()) + 4}"
    assert plugin_place(ValueError("ours")) == ""


def test_what_a_plugin_prints_stays_out_of_the_output(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_plugin(plugin(tmp_path, "print('hello')\n" + ONE), [registry()])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "hello\n"


def test_a_plugin_that_is_no_file(package: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is not a file"):
        load_plugin(tmp_path / "nothing.py", [registry()])
    with pytest.raises(HarnessError, match="is not a file"):
        load_plugin(tmp_path, [registry()])
    with pytest.raises(HarnessError, match="is not a Python file"):
        load_plugin(plugin(tmp_path, ONE, "mine.txt"), [registry()])


# Installed packages -------------------------------------------------------------------------------------------------


def offer(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    made = [EntryPoint(name, value, "some.things") for name, value in points.items()]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: made)


def test_one_broken_package_breaks_nobody_else(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "one.py").write_text(ONE)
    plugin(tmp_path, "raise RuntimeError('broken inside')\n", "broken.py")
    plugin(tmp_path, ONE.replace("one", "two"), "sound.py")
    offer(monkeypatch, aaa="broken:Thing", bbb="missing_package:Thing", ccc="sound:Nope", two="sound:One", one="sound")
    found = registry()
    with pytest.warns(BrokenPlugin) as seen:
        assert found.names() == ["one", "two"]
    assert [str(w.message).split("entry point ")[-1][:5] for w in seen] == ["'aaa'", "'bbb'", "'ccc'"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.get("two").__name__ == "One"
        with pytest.raises(HarnessError, match=r"'aaa' cannot be used.*broken inside"):
            found.get("aaa")


def test_a_package_cannot_take_a_built_in_name(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "one.py").write_text(ONE)
    plugin(tmp_path, ONE.replace("One", "Thief"), "thief.py")
    offer(monkeypatch, thief="thief:Thief")
    found = registry()
    with pytest.warns(BrokenPlugin, match="'one' is already registered by built-in"):
        assert found.get("one").__name__ == "One"
