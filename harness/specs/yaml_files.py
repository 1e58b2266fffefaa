"""Safe loading of YAML 1.2: no custom objects, and duplicate keys are an error."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.errors import HarnessError

LARGEST = 1 << 24
"""Bytes of a YAML file that are read; a device would never end."""


class InvalidYaml(ValueError):
    """The text is not valid YAML; the message gives the error and its position in one line."""


def parse_yaml(text: str) -> Any:
    """Parse a YAML text into mappings, lists, strings, numbers, booleans, None.

    Raises:
        InvalidYaml: the text is not YAML, or has a duplicate key.
    """
    try:
        return _yaml().load(text)
    except MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidYaml(f"{where}{' '.join(str(problem).split())}") from error
    except (YAMLError, ValueError, TypeError) as error:  # for example an invalid date, or a mapping as a key
        raise InvalidYaml(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise InvalidYaml("it is nested too deeply") from error


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        InvalidYaml: the text is not YAML, or has a duplicate key.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InvalidYaml(f"it is larger than {LARGEST >> 20} MiB")
    try:
        return parse_yaml(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidYaml(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from error


def read_mapping(path: Path, what: str, hint: str, place: str = "", empty: bool = False) -> dict[Any, Any]:
    """Read the fields of a YAML file.

    Args:
        what: the expected content, for error messages: "a recipe".
        hint: how to write such a file.
        place: prefix of error messages, instead of the path.
        empty: allow an empty file.

    Raises:
        HarnessError: the file is missing, unreadable, not YAML, or not a mapping.
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
    """A value as YAML on one line, quoted where necessary."""
    stream = StringIO()
    yaml = _yaml()
    yaml.default_flow_style, yaml.width = True, 1 << 20
    yaml.dump(value, stream)
    return stream.getvalue().splitlines()[0]


def _yaml() -> YAML:
    # The C parser of ruamel.yaml implements YAML 1.1, in which 4:00:00 is a number and `no` is false.
    return YAML(typ="safe", pure=True)
