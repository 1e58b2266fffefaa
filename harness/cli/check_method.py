"""`harness check-method`: run the conformance suite on a method."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from harness.cli.options import AsJson, Plugins
from harness.errors import Exit


def check_method(
    name: Annotated[str, typer.Argument(help="A method's name.")],
    plugin: Plugins = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Check this property only; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance suite on a method: terms, gradients, determinism, saved state, precision, cost.

    Takes seconds, and needs no data and no training. Exit code 1 if a property fails.

    Examples:

        harness check-method ka

        harness check-method my_method --plugin my_method.py

        harness check-method my_method --plugin my_method.py --only gradients --only cost
    """
    from harness.conformance import PROPERTIES, check
    from harness.plugins.file_plugin import stdout_to_stderr
    from harness.plugins.load import load_plugins

    load_plugins(plugin or [])
    with stdout_to_stderr():
        results = check(name, only or [])
    failed = [result for result in results if result.outcome == "fail"]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(result) for result in results], indent=1))
    else:
        from rich import box
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("property", "", "requirement, or reason"):
            table.add_column(column, overflow="fold")
        styles = {"pass": "green", "fail": "red", "skip": "yellow"}
        asked = {item.name: item.summary for item in PROPERTIES}
        for result in results:
            mark = f"[{styles[result.outcome]}]{result.outcome}[/]"
            text = asked[result.property] if result.outcome == "pass" else ""
            table.add_row(result.property, mark, escape("\n".join(filter(None, (text, result.reason)))))
        console = Console()
        console.print(table)
        passed = sum(result.outcome == "pass" for result in results)
        console.print(f"{name}: {passed} passed, {len(failed)} failed, {len(results) - passed - len(failed)} skipped")
    if failed:
        raise typer.Exit(Exit.FAILED)
