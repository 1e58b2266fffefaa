"""YAML files: equal keys are refused, and all else that is YAML goes on working."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.specs.yaml_files import read_yaml


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    return read_yaml(file)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x: {a: 1, a: 1}\n", "- {b: 1}\n- a: 1\n  a: 2\n"])
def test_equal_keys_are_refused_with_their_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"^line \d+: 'a' stands there twice$"):
        read(tmp_path, text)


def test_merge_keys_work_and_may_be_overridden(tmp_path: Path) -> None:
    found = read(tmp_path, "base: &t {a: 1, b: 2}\nmore: {<<: *t, b: 3}\n")
    assert found["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize("text", ["{{ a }}: 1\n", "? [1, 2]\n: 3\n", "a: [\n", "!!python/object:os.system x\n"])
def test_what_is_no_plain_yaml_is_a_yaml_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read(tmp_path, text)
