"""YAML files, read safely and without losing anything: a key that stands twice is an error."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class UniqueLoader(yaml.SafeLoader):
    """The safe loader, which would quietly keep the last of equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: '{key}' stands there twice")
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        yaml.YAMLError: it is no YAML, or a key stands in it twice.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    return yaml.load(path.read_text(), Loader=UniqueLoader)  # noqa: S506
