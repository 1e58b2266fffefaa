"""`harness tag`: short words by which the board finds runs again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Workspace, database, named_runs
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.workspace.tags import Tags

Words = list[str] | None


def tag(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs or rows: keys, or words such as 'ka @16'.")
    ] = None,
    add: Annotated[Words, typer.Option("--add", "-a", help="Tags to give them: paper,ablation-2.")] = None,
    remove: Annotated[Words, typer.Option("--remove", help="Tags to take from them.")] = None,
    sweep: Annotated[
        str, typer.Option("--sweep", help="All students of this sweep (id, or its beginning), finished or not.")
    ] = "",
    listed: Annotated[
        bool, typer.Option("--list", help="List all tags and their runs, as does a call without arguments.")
    ] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Tag runs with short words, by which leaderboard, exports and board filter (--tag); or list the tags.

    A tag belongs to runs. A row of the leaderboard has the tags of all its runs, and a name that means a row tags each
    of them. Quote the words of a row; seed=0 makes it one run. Results are unchanged. --json prints the runs of each
    tag; of named runs their tags.

    Examples:

        harness tag 'ka @16' 'none @16' --add paper --remove draft

        harness tag 3f2a91 --add broken-lr

        harness tag --sweep 1c9f --add ablation-2

        harness tag --list --json

        harness leaderboard --tag paper
    """
    from harness.workspace.folders import Workspace as Folder
    from harness.workspace.status import read_sweeps
    from harness.workspace.tags import by_run, read_tags, retag
    from results import sinks

    given, taken = _words(add), _words(remove)
    if listed and (names or sweep or given or taken):
        raise HarnessError("--list lists all tags", "give it alone; harness tag RUN shows the tags of a run")
    if (given or taken) and not (names or sweep):
        raise HarnessError("name the runs to tag", "harness tag 'ka @16' --add paper")
    folder = Folder(workspace)
    named = named_runs(database(workspace, db), names) if names else {}
    students = [stage.key for stage in read_sweeps(folder, sweep) if stage.kind == "student"] if sweep else []
    keys = list(dict.fromkeys([*(key for some in named.values() for key in some), *students]))
    done = retag(folder, keys, given, taken) if given or taken else None
    tags = read_tags(folder)
    if as_json:
        of_runs = by_run(tags)
        shown = {key: of_runs.get(key, []) for key in keys}
        if not (names or sweep):
            shown = {name: sorted(runs) for name, runs in tags.items()}
        typer.echo(sinks.json(json.dumps(shown, indent=1, ensure_ascii=False)))
        return
    if done:
        runs, added = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((len(keys), "run"), (done.added, "tag")))
        typer.echo(f"{runs}: {added} added, {done.removed} removed")
    for line in _of_runs(tags, keys) if names or sweep else _of_tags(tags):
        typer.echo(sinks.terminal(line))


def _of_runs(tags: Tags, keys: Sequence[str]) -> list[str]:
    """A line a run."""
    from harness.workspace.tags import by_run

    runs = by_run(tags)
    return [f"{key}: {', '.join(runs.get(key, ())) or 'no tags'}" for key in keys]


def _of_tags(tags: Tags) -> list[str]:
    """A line a tag, with the first of its runs."""
    lines = []
    for name, keys in tags.items():
        some = ", ".join(key[:10] for key in sorted(keys)[:5]) + (", ..." if len(keys) > 5 else "")
        lines.append(f"{name}: {len(keys)} run{'' if len(keys) == 1 else 's'} ({some})")
    return lines or ["no run is tagged"]


def _words(values: Words) -> list[str]:
    """Lists with commas, and repeated flags. An empty word stays, so that it is refused."""
    return [word for value in values or () for word in value.split(",")]
