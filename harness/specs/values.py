"""The syntax of values in `ka[beta=10]`, `shapes[size=96]`, `--set`, `--option` and `--param`.

    value   := number | true | false | null | word | "text" | list | mapping
    list    := "(" value, ... ")"  |  "[" value, ... "]"
    mapping := "{" name: value, ... "}"

A standalone value (after `name=` of a flag) may also be plain text without quotes: a path, `4:00:00`, `8G`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from harness.errors import HarnessError

_TEXT = re.compile(r"[A-Za-z_][\w.\-]*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "None"), None),
}
_BRACKETS = {"(": ")", "[": "]"}
_DEEPEST = 40
"""Brackets within brackets."""
_LONGEST = 400
"""Characters of a number."""


class ValueParser:
    """Recursive-descent parser of values; grammars that contain values extend it."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self._depth = 0

    def value(self) -> Any:
        """Parse the value at the current position."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.error("too many brackets within brackets", f"at most {_DEEPEST}")
        try:
            return self._value()
        finally:
            self._depth -= 1

    def _value(self) -> Any:
        for opening, closing in _BRACKETS.items():
            if self.take(opening):
                items = self.items(closing)
                return tuple(items) if opening == "(" else items
        if self.take("{"):
            return self.pairs()
        if match := self.match(_NUMBER):
            if len(match) > _LONGEST:
                raise self.error("the number is too long", f"write it with at most {_LONGEST} characters")
            return int(match) if re.fullmatch(r"[+-]?\d+", match) else float(match)
        at = self.at
        if match := self.match(_QUOTED):
            try:
                return json.loads(match)
            except ValueError as error:
                raise self.error("invalid quoted text", 'quote text as in JSON: "a b"', at) from error
        if match := self.match(_TEXT):
            return _CONSTANTS.get(match, match)
        if self.peek("'"):
            raise self.error("single quotes are not supported", 'write tau=4, or quote text as in JSON: "a b"')
        raise self.error("a value is missing", "give a number, true, false, null, a word, or a tuple like (1,2,3)")

    def items(self, closing: str) -> list[Any]:
        """Parse the items up to the closing bracket."""
        items: list[Any] = []
        while not self.take(closing):
            items.append(self.value())
            if not self.take(",") and not self.peek(closing):
                raise self.error(f"',' or '{closing}' is expected here", "as in (1,2,3)")
        return items

    def pairs(self) -> dict[str, Any]:
        """Parse the pairs up to the closing brace."""
        pairs: dict[str, Any] = {}
        while not self.take("}"):
            at = self.at
            name = self.match(_QUOTED) or self.match(_TEXT)
            if not name or not self.take(":"):
                raise self.error("'name: value' is expected here", "as in {lr: 0.5, name: sgd}")
            name = str(json.loads(name)) if name.startswith('"') else name
            if name in pairs:
                raise self.error(f"'{name}' is set twice", "set it once", at)
            pairs[name] = self.value()
            if not self.take(",") and not self.peek("}"):
                raise self.error("',' or '}' is expected here", "as in {lr: 0.5, name: sgd}")
        return pairs

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Consume a match of the pattern at the current position; None if there is none."""
        self.space()
        found = pattern.match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        return found.group()

    def peek(self, mark: str) -> bool:
        """Whether the mark is next."""
        self.space()
        return self.text.startswith(mark, self.at)

    def take(self, mark: str) -> bool:
        """Consume the mark if it is next; return whether it was."""
        if not self.peek(mark):
            return False
        self.at += len(mark)
        return True

    def space(self) -> None:
        """Skip spaces."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def ended(self) -> bool:
        """Whether only spaces are left."""
        self.space()
        return self.at == len(self.text)

    def error(self, what: str, hint: str, at: int | None = None) -> HarnessError:
        """An error that names the position."""
        return HarnessError(f"column {(self.at if at is None else at) + 1} of '{self.text}': {what}", hint)


def parse_value(text: str) -> Any:
    """Parse a standalone value; empty text is null, and anything that is not another value is text.

    Raises:
        HarnessError: a bracket or a quote is not closed.
    """
    text = text.strip()
    if not text:
        return None
    parser = ValueParser(text)
    try:
        value = parser.value()
    except HarnessError:
        if text[0] in "([{\"'":
            raise
        return text
    if parser.ended():
        return value
    if text[0] in '([{"':
        raise parser.error("unexpected text after the value", "remove it, or quote the whole value")
    return text


def value_text(value: Any) -> str:
    """The text of a value; `parse_value` is the inverse.

    Raises:
        HarnessError: the value has no text form.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return value if _TEXT.fullmatch(value) and value not in _CONSTANTS else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"({','.join(value_text(item) for item in value)})"
    if isinstance(value, dict):
        pairs = (f"{value_text(str(name))}: {value_text(inner)}" for name, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    raise HarnessError(f"a parameter with the value {value!r} cannot be written in an expression")


def parse_pairs(words: Iterable[str], flag: str) -> dict[str, Any]:
    """Parse `name=value` words into a mapping.

    Raises:
        HarnessError: a word without `=`, or with an invalid value; the message begins with `flag`.
    """
    pairs: dict[str, Any] = {}
    for word in words:
        name, found, value = word.partition("=")
        if not found or not name.strip():
            raise HarnessError(
                f"{flag} {word} is not name=value", f"write {flag} name=value, as in student.iterations=500"
            )
        try:
            pairs[name.strip()] = parse_value(value)
        except HarnessError as error:
            hint = f"{error.message}; is a bracket or a quote not closed?"
            raise HarnessError(f"{flag} {word}: '{value}' is not a valid value", hint) from error
    return pairs
