"""`harness backbones`: encoders and heads, and the output strides that they support."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, Plugins, parse_strides

if TYPE_CHECKING:
    from backbones.base import BackboneFamily

MOST = 30
"""Strides are not verified for more names than this, because each takes a fraction of a second."""


def backbones(
    pattern: Annotated[
        str, typer.Argument(metavar="FILTER", help="Part of a name, may contain * and ?: timm:mobilenet*.")
    ] = "",
    strides: Annotated[str, typer.Option("--strides", "-s", help="Output strides to verify.")] = "4,8,16,32",
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List heads and encoders; if the filter matches 30 names or fewer, also the output strides that each supports.

    Examples:

        harness backbones

        harness backbones timm:mobilenetv2

        harness backbones smp:resnet --strides 4,8 --json
    """
    from harness.plugins.load import load_plugins
    from harness.plugins.registries import FAMILIES, HEADS

    load_plugins(plugin or [])
    wanted = parse_strides(strides)
    families = {entry.name: entry.cls() for entry in FAMILIES}
    names = {name: _matching(family, pattern) for name, family in families.items()}
    few = bool(pattern) and sum(len(found) for found in names.values()) <= MOST
    data = {
        "heads": [{"name": entry.name, "summary": entry.cls.summary, "origin": entry.origin} for entry in HEADS],
        "families": [
            {
                "name": name,
                "summary": family.summary,
                "encoders": [_encoder(family, encoder, wanted if few else []) for encoder in names[name]],
            }
            for name, family in families.items()
        ],
        "verified": few,
    }
    if as_json:
        typer.echo(json.dumps(data, indent=1))
    else:
        _print(data, pattern)


def _matching(family: BackboneFamily, pattern: str) -> list[str]:
    """Encoders whose `family:name` matches the pattern; a full name is accepted even if it is not listed."""
    from fnmatch import fnmatchcase

    found = [name for name in family.encoders() if fnmatchcase(f"{family.name}:{name}", f"*{pattern}*")]
    asked, _, encoder = pattern.partition(":")
    if not found and encoder and asked == family.name and family.unsupported_reason(encoder, 32) is None:
        return [encoder]
    return found


def _encoder(family: BackboneFamily, encoder: str, strides: list[int]) -> dict[str, Any]:
    reasons = {stride: family.unsupported_reason(encoder, stride) for stride in strides}
    if not strides:
        return {"name": encoder}
    return {
        "name": encoder,
        "strides": [stride for stride, reason in reasons.items() if reason is None],
        "reasons": {str(stride): reason for stride, reason in reasons.items() if reason},
    }


def _print(data: dict[str, Any], pattern: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not pattern:
        console.print("[bold]heads[/]")
        for head in data["heads"]:
            console.print(f"  [bold]{head['name']}[/]  {escape(head['summary'])}", highlight=False)
    for family in data["families"]:
        encoders = family["encoders"]
        console.print(
            f"[bold]{family['name']}[/]  {escape(family['summary'])}; {len(encoders)} encoders", highlight=False
        )
        if data["verified"]:
            for encoder in encoders:
                can = ", ".join(str(stride) for stride in encoder["strides"]) or "none"
                console.print(f"  {family['name']}:{encoder['name']}  strides {can}", highlight=False, markup=False)
                for reason in encoder["reasons"].values():
                    console.print(f"      {reason}", style="dim", highlight=False, markup=False)
        else:
            console.print("  " + " ".join(e["name"] for e in encoders), highlight=False, markup=False)
    if not any(family["encoders"] for family in data["families"]):
        console.print(f"no encoder matches '{pattern}'", markup=False)
    elif not data["verified"]:
        console.print(
            f"\nTo see the output strides of encoders, give a filter that matches {MOST} names or fewer: "
            "`harness backbones timm:mobilenetv2`.",
            highlight=False,
        )
