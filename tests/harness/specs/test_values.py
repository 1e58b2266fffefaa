"""Values are written in one way, wherever they stand; what is written is read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.builders.datasets import split_word
from harness.builders.expression import resolve
from harness.errors import HarnessError
from harness.specs.values import parse_pairs, parse_value, value_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-3", -3), ("+5", 5), ("010", 10), ("0.5", 0.5), (".5", 0.5), ("1e3", 1000.0), ("1E-2", 0.01),
        ("true", True), ("False", False), ("null", None), ("None", None), ("", None),
        ("poly", "poly"), ("yes", "yes"), ("4:00:00", "4:00:00"), ("1-12:00:00", "1-12:00:00"), ("64G", "64G"),
        ("/data/with space", "/data/with space"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("0x10", "0x10"),
        ("[32, 48]", [32, 48]), ("(1,2,3)", (1, 2, 3)), ("[]", []), ('"4"', "4"), ('"a b"', "a b"),
        ("{lr: 0.5, name: sgd}", {"lr": 0.5, "name": "sgd"}), ("{a: {b: [1]}}", {"a": {"b": [1]}}),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    read = parse_value(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("text", ["{", "[1", "(1,2", '"open', "[1] 2", "{a}", "{a: 1, a: 2}", "'4'", "[a b]"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match="is not a valid value"):
        parse_pairs([f"x={text}"], "--set")


@pytest.mark.parametrize("word", ["", "x", "=4", " =4"])
def test_a_word_without_a_name_or_a_value_is_refused(word: str) -> None:
    with pytest.raises(HarnessError, match="is not name=value"):
        parse_pairs([word], "--set")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(values)
def test_a_value_that_is_written_is_read_back(value: Any) -> None:
    assert _plain(parse_value(value_text(value))) == _plain(value)


def _plain(value: Any) -> Any:
    """Lists for tuples, and numbers that are equal made the same."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def test_expressions_and_data_sets_read_the_same_values() -> None:
    (method,) = resolve("kd[tau=4]")
    assert method.parts[0].params["tau"] == parse_value("4")
    assert split_word('folder[name="a, b",sizes=(1,2),number=010]') == (
        "folder",
        {"name": "a, b", "sizes": (1, 2), "number": "010"},
    )
