"""Build a validated `SweepSpec` from flags, Python arguments and YAML files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, did_you_mean
from harness.specs.values import parse_pairs

if TYPE_CHECKING:
    from harness.specs.spec import SweepSpec

_LISTS = ("methods", "students", "teachers")
_NUMBERS = ("strides", "teacher_strides", "seeds")
_QUOTE = "quote values with brackets or colons:  methods: [none, 'ka[beta=1|10]']"


def sweep_spec(
    words: Mapping[str, Any], file: Path | None, plugins: list[Path] | None = None, place: str = "--"
) -> SweepSpec:
    """The sweep that words and a file describe; words override the file, the file overrides the defaults.

    Args:
        words: field -> comma-separated text, list or value; None if not given.
        place: prefix of field names in error messages: "--" for flags.

    Raises:
        HarnessError: an unknown field or an invalid value; the message says where it was given.
    """
    from pydantic import ValidationError

    from harness.plugins.load import load_plugins
    from harness.specs.spec import SweepSpec
    from results.invalid import first_invalid

    load_plugins(plugins or [])
    given = {name: value for name, value in words.items() if value is not None}
    values = _checked(_from_file(file), f"--file {file}: ") | _checked(given, place)
    try:
        return SweepSpec.model_validate(values)
    except ValidationError as error:
        raise HarnessError(f"sweep: {first_invalid(error)}", "see harness sweep --help") from error


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    from harness.specs.yaml_files import read_mapping

    return read_mapping(file, "a sweep", f"write fields, and {_QUOTE}", f"--file {file}")


def _checked(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values with comma lists split, numbers parsed and changes as a mapping; `place` prefixes error messages."""
    from harness.builders.expression import split_list
    from harness.specs.spec import SweepSpec

    checked: dict[str, Any] = {}
    for name, value in values.items():
        where = place + (name.replace("_", "-") if place == "--" else str(name))
        if name not in SweepSpec.model_fields:
            raise HarnessError(
                f"{where}: a sweep has no field '{name}'", did_you_mean(str(name), SweepSpec.model_fields)
            )
        if value is None:
            raise HarnessError(f"{where} has no value", "write one, or leave the field out")
        if name in _LISTS:
            checked[name] = _words(value, where, split_list if name == "methods" else _comma)
        elif name in _NUMBERS:
            checked[name] = [_number(word, where) for word in _items(value, where, (str, Integral), "8,16,32")]
        elif name == "set":
            checked[name] = _changes(value, where)
        elif name == "teacher_seed":
            checked[name] = _number(value, where)
        elif not isinstance(value, str):
            raise HarnessError(f"{where}: {value!r} is not text", _QUOTE)
        else:
            checked[name] = value
    return checked


def _words(value: Any, where: str, split: Callable[[str], list[str]]) -> list[str]:
    items = [value] if isinstance(value, str) else _items(value, where, (str,), "")
    return [word for item in items for word in split(item)]


def _items(value: Any, where: str, kinds: tuple[type, ...], example: str) -> list[Any]:
    """The items of a list, a single value, or a comma-separated text."""
    if isinstance(value, str):
        return _comma(value)
    items = list(value) if isinstance(value, (list, tuple, range)) else [value]
    for item in items:
        if not isinstance(item, kinds) or isinstance(item, bool):
            raise HarnessError(f"{where}: {item!r} is not valid here", f"write {example}" if example else _QUOTE)
    return items


def _comma(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(value: Any, where: str) -> int:
    try:
        if isinstance(value, bool):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise HarnessError(f"{where}: '{value}' is not a whole number", "write whole numbers: 8,16,32") from None


def _changes(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value):
        return _flat(parse_pairs(value, "--set"), where)
    if not isinstance(value, Mapping) or not all(isinstance(path, str) for path in value):
        raise HarnessError(f"{where}: {value!r} is not a change", "write  set: {student.iterations: 500}")
    return _flat(value, where)


def _flat(value: Mapping[str, Any], where: str, above: str = "") -> dict[str, Any]:
    """Nested changes flattened to dotted paths, as flags give them."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        path = f"{above}{name}"
        found = _flat(inner, where, f"{path}.") if isinstance(inner, dict) and inner else {path: inner}
        if twice := sorted(found.keys() & flat.keys()):
            raise HarnessError(f"{where}: '{twice[0]}' is set twice", "set it once")
        flat |= found
    return flat
