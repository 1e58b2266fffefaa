"""YAML 1.2, read safely: no text makes an object of its own, and a key that stands twice is an error."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.errors import HarnessError


class InvalidYaml(ValueError):
    """A text is not YAML; the message says in one line what is wrong and where."""


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: mappings, lists, texts, numbers, booleans, None.

    Raises:
        InvalidYaml: it is not YAML, or a key stands in it twice.
    """
    try:
        return _yaml().load(text)
    except MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidYaml(f"{where}{' '.join(str(problem).split())}") from error
    except (YAMLError, ValueError, TypeError) as error:  # such as a date that is none, a mapping for a key
        raise InvalidYaml(" ".join(str(error).split())) from error


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        InvalidYaml: it is not YAML, or a key stands in it twice.
        OSError: it cannot be read.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidYaml(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from error


def read_mapping(path: Path, what: str, hint: str, place: str = "", empty: bool = False) -> dict[Any, Any]:
    """The fields in a YAML file.

    Args:
        what: the file should be, as an error names it: "a recipe".
        hint: how such a file is written.
        place: begins what an error says, in place of the path.
        empty: it may hold nothing at all.

    Raises:
        HarnessError: it is missing, cannot be read, is no YAML, or holds something else than fields.
    """
    place = place or str(path)
    try:
        data = read_yaml(path)
    except InvalidYaml as error:
        raise HarnessError(f"{place} is not YAML: {error}", hint) from error
    except FileNotFoundError as error:
        raise HarnessError(f"{place}: no such file", "give the path of a YAML file") from error
    except OSError as error:
        raise HarnessError(f"{place} cannot be read: {error.strerror}") from error
    if data is None and empty:
        return {}
    if not isinstance(data, dict):
        raise HarnessError(f"{place} is not {what}", hint)
    return data


def yaml_word(value: Any) -> str:
    """A value on one line, quoted where it would be read as something else."""
    stream = StringIO()
    yaml = _yaml()
    yaml.default_flow_style, yaml.width = True, 1 << 20
    yaml.dump(value, stream)
    return stream.getvalue().splitlines()[0]


def _yaml() -> YAML:
    # The C parser of ruamel.yaml reads YAML 1.1, in which 4:00:00 is a number and `no` is false.
    return YAML(typ="safe", pure=True)
