"""`harness methods`: list the methods, or show one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, Plugins
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.plugins.registry import Entry
    from methods.base import Method


def methods(
    name: Annotated[str, typer.Argument(help="Name of a method; by default, list all.")] = "",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the methods with their terms, or show all details of one.

    In an expression, the name or the symbol of a term sets its weight: ka[beta=10], ka[adapt=10].

    Examples:

        harness methods

        harness methods ka

        harness methods --json | jq '.[] | select(.discriminator) | .name'
    """
    from harness.plugins.file_plugin import stdout_to_stderr
    from harness.plugins.load import load_plugins
    from harness.plugins.registries import METHODS

    load_plugins(plugin or [])
    entries = [METHODS.entry(name)] if name else list(METHODS)
    with stdout_to_stderr():
        found = [describe(entry) for entry in entries]
    if as_json:
        typer.echo(json.dumps(found[0] if name else found, indent=1))
    elif name:
        _show(found[0])
    else:
        _list(found)


def describe(entry: Entry[Method]) -> dict[str, Any]:
    """All declarations of a method, as JSON."""
    from harness.builders.expression import validated

    cls = entry.cls
    defaults = validated(cls, {})
    weights = cls.weights(defaults)
    stages, fault = _stages(cls)
    return {
        "name": cls.name,
        "summary": cls.summary,
        "paper": cls.paper,
        "version": cls.version,
        "origin": entry.origin,
        "terms": {
            term: {"weight": weights[term], "symbol": declared.symbol, "summary": declared.summary}
            for term, declared in cls.terms.items()
        },
        "reads": sorted(cls.reads),
        "stages": stages,
        "fault": fault,
        "discriminator": cls.get_discriminator is not _base().get_discriminator,
        "permutable": cls.permutable,
        "exact_gradients": cls.exact_gradients,
        "cost": cls.cost,
        "params": _params(cls, defaults.model_dump(mode="json")),
    }


def _stages(cls: type[Method]) -> tuple[list[str], str]:
    """The kinds of stages that a method needs, and an error message if its code raises."""
    from harness.builders.distiller import skip_reason, translator_specs
    from harness.conformance import CASES, MethodUnderTest

    subject, learns, fault = MethodUnderTest(cls), False, ""
    try:
        fitting = [c for c in CASES if not skip_reason(subject.full, c.student, subject.teacher(c))]
        learns = any(translator_specs(subject.full, c.student, subject.teacher(c)) for c in fitting)
    except HarnessError as error:
        fault = str(error)
    return [*(["teacher"] if cls.needs_teacher else []), *(["translator"] if learns else []), "student"], fault


def _base() -> type[Method]:
    from methods.base import Method

    return Method


def _params(cls: type[Method], defaults: dict[str, Any]) -> dict[str, Any]:
    from harness.specs.values import value_text

    schema = cls.Params.model_json_schema()["properties"] if cls.Params.model_fields else {}
    return {
        field: {
            "default": defaults[field],
            "text": value_text(defaults[field]),
            "values": _values(schema[field]),
            "summary": schema[field].get("description", ""),
        }
        for field in cls.Params.model_fields
    }


def _values(schema: dict[str, Any]) -> str:
    """The values that a parameter accepts, in short form: `row|squared`, `number >= 1`."""
    if "enum" in schema:
        return "|".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return "|".join(_values(option) for option in schema["anyOf"])
    kind = {"string": "word", "boolean": "true|false", "array": "(...)"}.get(schema.get("type", ""), schema.get("type"))
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return " ".join([str(schema.get("const", kind or "any")), ", ".join(limits)]).strip()


def _list(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 1, 0))
    for item in found:
        lines = [escape(item["summary"])]
        if item["terms"]:
            lines.append("terms  " + ", ".join(_term_text(term, data) for term, data in item["terms"].items()))
        lines.append("stages " + ", ".join(item["stages"]))
        lines += [f"[dim]{escape(item['paper'])}[/dim]"] if item["paper"] else []
        lines += [f"[dim]from {escape(item['origin'])}[/dim]"] if item["origin"] != "built-in" else []
        lines += [f"[red]{escape(item['fault'])}[/red]"] if item["fault"] else []
        table.add_row(f"[bold]{item['name']}[/bold]", "\n".join(lines))
    Console(highlight=False).print(table)


def _term_text(name: str, data: dict[str, Any]) -> str:
    """`adapt 50 (beta)`."""
    symbol = f" ({data['symbol']})" if data["symbol"] else ""
    return f"{name} {data['weight']:g}{symbol}"


def _show(item: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{item['name']}[/bold]  {escape(item['summary'])}", highlight=False)
    for label in ("paper", "origin", "cost", "fault"):
        if item[label]:
            console.print(f"{label:8} {item[label]}", highlight=False, markup=False)
    discriminator = ", and trains a discriminator with the student" if item["discriminator"] else ""
    console.print(f"reads    {', '.join(item['reads']) or 'nothing'}", highlight=False)
    console.print(f"stages   {', '.join(item['stages'])}{discriminator}", highlight=False)
    if item["terms"]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("term", "symbol", "weight", "what it compares"):
            table.add_column(column)
        for name, data in item["terms"].items():
            table.add_row(name, data["symbol"], f"{data['weight']:g}", escape(data["summary"]))
        console.print(table)
    if item["params"]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("parameter", "default", "values", "meaning"):
            table.add_column(column, overflow="fold")
        for name, data in item["params"].items():
            table.add_row(name, data["text"], data["values"], escape(data["summary"]))
        console.print(table)
