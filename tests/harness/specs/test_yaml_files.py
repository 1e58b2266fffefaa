"""YAML files: version 1.2, equal keys are refused, and what is no YAML is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.specs.recipes import load_recipe
from harness.specs.spec import digest
from harness.specs.yaml_files import InvalidYaml, parse_yaml, read_yaml, yaml_word


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x: {a: 1, a: 1}\n", "- {b: 1}\n- a: 1\n  a: 2\n"])
def test_equal_keys_are_refused_with_their_line(text: str) -> None:
    with pytest.raises(InvalidYaml, match=r'^line \d+: found duplicate key "a"'):
        parse_yaml(text)


def test_merge_keys_work_and_may_be_overridden() -> None:
    found = parse_yaml("base: &t {a: 1, b: 2}\nmore: {<<: *t, b: 3}\n")
    assert found["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "text", ["{{ a }}: 1\n", "a: [\n", "!!python/object:os.system x\n", "2024-13-45", "a: *b", "--- a\n--- b", "\0"]
)
def test_what_is_no_plain_yaml_is_told_in_one_line(text: str) -> None:
    with pytest.raises(InvalidYaml) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(InvalidYaml, match="not UTF-8 text"):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4:00:00", "4:00:00"), ("1:30", "1:30"), ("1e-3", 1e-3), ("1.0e-3", 1e-3), ("1e5", 1e5), ("010", 10),
        ("0o10", 8), ("no", "no"), ("on", "on"), ("true", True), ("~", None), ("", None),
        ("ka[beta=1|10]", "ka[beta=1|10]"),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "word", ["a", "no", "4:00:00", "1e3", "a, b", "x: y", "", "#a", "*", "gpu-01", "12", "é" * 200]
)
def test_a_word_is_read_as_it_was_written(word: str) -> None:
    assert parse_yaml(f"key: {yaml_word(word)}") == {"key": word}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("channels_last: no", "channels_last: false"), ("deterministic: on", "deterministic: true"),
        ("optimizer: {lr: 1e-3}", "optimizer: {lr: 0.001}"), ("clip_grad: ~", "clip_grad: null"),
        ("iterations: 1e3", "iterations: 1000"),
    ],
)  # fmt: skip
def test_recipes_written_for_yaml_1_1_are_keyed_as_before(tmp_path: Path, new: str, old: str) -> None:
    """`yes`, `no` and `on` are texts now; a field that is true or false takes them as before."""
    digests = []
    for number, text in enumerate((new, old)):
        (file := tmp_path / f"{number}.yaml").write_text(text + "\n")
        digests.append(digest(load_recipe(str(file)).for_kind("student").content))
    assert digests[0] == digests[1]
