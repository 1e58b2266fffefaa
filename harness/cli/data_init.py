"""`harness data init`: write a first `dataset.yaml` for a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    guess = guess_layout(folder)
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
    _tell(file, sum(map(len, guess.unsure.values())))


def _tell(file: Path, unsure: int) -> None:
    """Print a summary of the written file."""
    from harness.builders.datasets import open_dataset

    typer.echo(
        f"wrote {file}" + (f"; {unsure} remark{'s' * (unsure != 1)} in it to look at (UNSURE)" if unsure else "")
    )
    dataset = open_dataset(str(file))
    counts = ", ".join(f"{name} {len(dataset.split(name))}" for name in dataset.splits)
    names = ", ".join(dataset.classes[:12]) + (", ..." if len(dataset.classes) > 12 else "")
    typer.echo(f"{counts}; {len(dataset.classes)} classes: {names}")
    for name in _known(file.parent):
        typer.secho(
            f"this is the layout of the data set '{name}', which has its classes and splits built in:", bold=True
        )
        typer.echo(f"       harness sweep --dataset {name} --data-root {file.parent}")
    typer.echo(f"next:  harness data check {file}\n       harness sweep --dataset {file}")


def _known(folder: Path) -> list[str]:
    """Built-in data sets whose layout the folder matches."""
    from harness.errors import HarnessError
    from harness.plugins.registries import DATASETS

    found = []
    for entry in DATASETS:
        if entry.cls.needs_root and entry.name != "folder":
            try:
                dataset = entry.cls(entry.cls.Params(), folder)
                found += [entry.name] if not dataset.check(full=False) else []
            except (HarnessError, OSError):
                continue
    return found
