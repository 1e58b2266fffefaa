"""`harness datasets`: list the data sets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from harness.cli.options import AsJson, Plugins

if TYPE_CHECKING:
    from harness.data.base import Dataset
    from harness.plugins.registry import Entry


def datasets(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """List the data sets: classes, splits, and parameters with their defaults.

    Examples:

        harness datasets

        harness datasets --json
    """
    from harness.plugins.load import load_plugins
    from harness.plugins.registries import DATASETS

    load_plugins(plugin or [])
    found = [_describe(entry) for entry in DATASETS]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for data in found:
        typer.secho(data["name"], bold=True, nl=False)
        typer.echo(f"  {data['summary']}")
        typer.echo(f"  {len(data['classes'])} classes: {', '.join(data['classes'])}")
        size = "x".join(str(side) for side in data["eval_size"])
        typer.echo(f"  splits {', '.join(data['splits'])}; {size} pixels; weights {data['weights']}; {_where(data)}")
        for name, field in data["params"].items():
            typer.echo(f"    {name} = {field['default']}  {field['summary']}")


def _describe(entry: Entry[Dataset]) -> dict[str, Any]:
    cls = entry.cls
    dataset = cls(cls.Params())
    params = {
        name: {"default": field.default, "summary": field.description or ""}
        for name, field in cls.Params.model_fields.items()
    }
    return {
        "name": entry.name,
        "summary": cls.summary,
        "classes": list(cls.classes),
        "splits": list(dataset.splits),
        "eval_size": list(dataset.eval_size),
        "weights": cls.weights,
        "recipe": cls.recipe,
        "needs_root": cls.needs_root,
        "params": params,
        "origin": entry.origin,
    }


def _where(data: dict[str, Any]) -> str:
    return "files under --data-root or HARNESS_DATA" if data["needs_root"] else "no files"
