"""`harness recipes`: what recipes there are, and what one says."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import AsJson


def recipes(
    name: Annotated[str, typer.Argument(help="A recipe's name, or the path of a YAML file.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the recipes, or show one resolved for every kind of stage.

    Examples:

        harness recipes

        harness recipes camvid --json
    """
    from harness.specs.recipes import KINDS, load_recipe, recipe_names

    found = [load_recipe(n) for n in ([name] if name else recipe_names())]
    if as_json:
        data = [
            {"name": r.name, "summary": r.summary, **{k: r.for_kind(k).model_dump(mode="json") for k in KINDS}}
            for r in found
        ]
        typer.echo(json.dumps(data[0] if name else data, indent=1))
        return
    for recipe in found:
        typer.secho(recipe.name, bold=True, nl=False)
        typer.echo(f"  {recipe.summary}")
        if name:
            for kind in KINDS:
                typer.echo(f"{kind}: {recipe.for_kind(kind).model_dump_json()}")
