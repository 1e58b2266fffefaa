"""`harness data init`: write a first `dataset.yaml` for a folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.builders.recognised import Recognised
    from harness.errors import HarnessError


def data_init(
    folder: Annotated[Path, typer.Argument(help="Folder with images and labels.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, if the folder is read-only.", dir_okay=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be written.")] = False,
) -> None:
    """Guess layout, classes and splits of a folder, and write them to FOLDER/dataset.yaml.

    Uncertain guesses are marked by comments in the file: read it once. Then train with `--dataset FOLDER/dataset.yaml`.

    Examples:

        harness data init ~/photos

        harness data init /shared/photos --out photos.yaml

        harness data check ~/photos/dataset.yaml

        harness sweep --methods none,kd,ka --dataset ~/photos/dataset.yaml
    """
    from harness.data.folder.config import FILE
    from harness.data.folder.guess import yaml_text
    from harness.data.folder.guess_layout import guess_layout
    from harness.errors import HarnessError
    from harness.workspace.files import write_atomic

    file = out or folder / FILE
    if file.exists() and not (force or dry_run):
        raise HarnessError(f"{file} exists already", "give --force to overwrite it, or --dry-run to only print")
    try:
        guess = guess_layout(folder)
    except HarnessError as error:
        raise _or_known(error, folder) from error
    if out is not None:
        guess.fields = {"name": guess.fields.pop("name"), "root": str(folder.resolve()), **guess.fields}
    text = yaml_text(guess)
    if dry_run:
        typer.echo(text, nl=False)
        return
    try:
        write_atomic(file, text)
    except OSError as error:
        raise HarnessError(
            f"{file} cannot be written: {error.strerror}", "name another file with --out FILE"
        ) from error
    _tell(file, folder, sum(map(len, guess.unsure.values())))


def _or_known(error: HarnessError, folder: Path) -> HarnessError:
    """The error, with the data set of the field that the folder may be as its hint."""
    from harness.builders.recognised import recognised
    from harness.errors import HarnessError

    found = recognised(folder) if folder.is_dir() else []
    if not found:
        return error
    hint = f"it may be the data set '{found[0].word}' ({found[0].summary})"
    return HarnessError(error.message, f"{hint}: harness sweep --dataset '{found[0].word}' --data-root {folder}")


def _tell(file: Path, folder: Path, unsure: int) -> None:
    """Print a summary of the written file."""
    from harness.builders.datasets import open_dataset
    from harness.builders.recognised import recognised

    typer.echo(
        f"wrote {file}" + (f"; {unsure} remark{'s' * (unsure != 1)} in it to look at (UNSURE)" if unsure else "")
    )
    dataset = open_dataset(str(file))
    counts = ", ".join(f"{name} {len(dataset.split(name))}" for name in dataset.splits)
    names = ", ".join(dataset.classes[:12]) + (", ..." if len(dataset.classes) > 12 else "")
    typer.echo(f"{counts}; {len(dataset.classes)} classes: {names}")
    for known in recognised(folder, dataset):
        _tell_known(known, folder)
    typer.echo(f"next:  harness data check {file}\n       harness sweep --dataset {file}")


def _tell_known(known: Recognised, folder: Path) -> None:
    """Print which data set of the field it may be, and what speaks for it."""
    typer.secho(f"this may be the data set '{known.word}': {known.summary}", bold=True)
    samples = ", ".join(f"{count} {name}" for name, count in known.samples.items())
    typer.echo(
        f"       here: {samples}. Its names of folders and files are the same, and {known.decoded} labels fit: "
        f"{known.found} of its {known.classes} classes occur in them. Another data set may look like that too."
    )
    typer.echo("       If it is that one, its classes and splits are built in:")
    typer.echo(f"       harness sweep --dataset {shlex.quote(known.word)} --data-root {folder}")
