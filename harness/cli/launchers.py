"""`harness launchers`: list the launchers and their settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, Plugins, load_given

if TYPE_CHECKING:
    from harness.launch.base import Launcher
    from harness.plugins.registry import Entry


def launchers(
    name: Annotated[str, typer.Argument(help="Name of a launcher; by default, list all.")] = "",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the launchers, or show all settings of one: type, default, flags, meaning.

    Give a setting as -o NAME=VALUE, by its flag if it has one, or in the site's file: ./harness-LAUNCHER.yaml,
    ~/.config/harness/LAUNCHER.yaml, the variable HARNESS_LAUNCHER_CONFIG, or -o config=FILE.

    Examples:

        harness launchers

        harness launchers slurm

        harness launchers --json | jq '.[] | .settings[] | .name'
    """
    from harness.launch.launchers import LAUNCHERS, find_launcher

    load_given(plugin)
    if name:
        find_launcher(name)
    found = [_describe(entry) for entry in LAUNCHERS if entry.name == name or not name]
    if as_json:
        typer.echo(json.dumps(found[0] if name else found, indent=1))
        return
    for launcher in found:
        typer.secho(launcher["name"], bold=True, nl=False)
        typer.echo(
            f"  {launcher['summary']}" + ("" if launcher["origin"] == "built-in" else f"  [{launcher['origin']}]")
        )
        if name:
            _show(launcher["settings"])


def _describe(entry: Entry[Launcher]) -> dict[str, Any]:
    from harness.launch.base import describe_settings

    cls = entry.cls
    return {
        "name": cls.name,
        "summary": cls.summary,
        "origin": entry.origin,
        "settings": describe_settings(cls),
    }


def _show(settings: list[dict[str, Any]]) -> None:
    for one in settings:
        default = one["default"] if isinstance(one["default"], str) else json.dumps(one["default"])
        typer.echo(
            f"\n  {one['name']} = {default or chr(39) * 2}   {one['type']}{''.join(f', {f}' for f in one['flags'])}"
        )
        typer.secho(f"      {one['help']}", dim=True)
