"""`harness recipes`: list the recipes, show one, or compare two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.specs.recipes import RecipeFile


def recipes(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[show] [NAME]", help="Name of a recipe, or path of a YAML file."),
    ] = None,
    diff: Annotated[str, typer.Option("--diff", help="Show the differences to this other recipe only.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the recipes, show one resolved for every kind of stage, or compare two.

    Examples:

        harness recipes

        harness recipes show camvid

        harness recipes show ka-cityscapes --diff cirkd-cityscapes
    """
    from harness.specs.recipes import load_recipe, recipe_names

    name = _name(words or [])
    if diff:
        if not name:
            raise HarnessError("--diff compares two recipes", "harness recipes show NAME --diff OTHER")
        _compare(load_recipe(name), load_recipe(diff), as_json)
        return
    found = [load_recipe(n) for n in ([name] if name else recipe_names())]
    if as_json:
        typer.echo(json.dumps(_described(found[0]) if name else [_described(r) for r in found], indent=1))
        return
    for recipe in found:
        typer.secho(recipe.name, bold=True, nl=False)
        typer.echo(f"  {recipe.summary}")
        if name:
            _show(recipe)


def _name(words: list[str]) -> str:
    """The name in `NAME` or `show NAME`."""
    rest = words[1:] if words[:1] == ["show"] and len(words) > 1 else words
    if len(rest) > 1:
        raise HarnessError(f"harness recipes takes one name, not {' '.join(rest)}", "harness recipes show NAME")
    return rest[0] if rest else ""


def _described(recipe: RecipeFile) -> dict[str, Any]:
    from harness.specs.recipes import KINDS

    kinds = {kind: recipe.for_kind(kind).model_dump(mode="json") for kind in KINDS}
    return {"name": recipe.name, "summary": recipe.summary, **kinds}


def _show(recipe: RecipeFile) -> None:
    from harness.specs.recipes import fields

    for path, by_kind in fields(recipe).items():
        values = {kind: json.dumps(value) for kind, value in by_kind.items()}
        alike = set(values.values())
        said = alike.pop() if len(alike) == 1 else ", ".join(f"{kind} {value}" for kind, value in values.items())
        typer.echo(f"  {path}: {said}")


def _compare(one: RecipeFile, other: RecipeFile, as_json: bool) -> None:
    from harness.specs.recipes import differences

    rows = differences(one, other)
    if as_json:
        typer.echo(json.dumps([{"field": f, one.name: a, other.name: b} for f, a, b in rows], indent=1))
        return
    typer.echo(f"{one.name} -> {other.name}" + ("" if rows else ": equal"))
    for field, first, second in rows:
        typer.echo(f"  {field}: {json.dumps(first)} -> {json.dumps(second)}")
