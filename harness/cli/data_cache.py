"""`harness data cache`: a data set's training split decoded once, so that loaders only read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Plugins
from harness.errors import HarnessError

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder that holds the data set, or the one above it."),
]


def data_cache(
    dataset: Annotated[str, typer.Argument(help="A data set: camvid, DIR/dataset.yaml.")],
    data_root: DataRoot = None,
    size: Annotated[bool, typer.Option("--size", help="Only say how much room it takes, and where.")] = False,
    plugin: Plugins = None,
) -> None:
    """Decode the training split into one file that runs map into memory: worth it where decoding is what a GPU waits
    for, and there is room. Batches are bit for bit the same. Runs find it by the data's content, and never read it once
    a file has changed. It lies in the user's cache, or where HARNESS_DECODED says; delete it whenever you like.

    Examples:

        harness data cache cityscapes --data-root ~/data --size

        HARNESS_DECODED=/local harness data cache cityscapes --data-root ~/data
    """
    from harness.builders.datasets import open_dataset, parse_dataset
    from harness.data.decoded import bytes_of, decoded, keep, place_of
    from harness.launch.progress import counting
    from harness.plugins.load import load_plugins

    load_plugins(plugin or [])
    opened, spec = open_dataset(dataset, data_root), parse_dataset(dataset, data_root)
    split, place = opened.split("train"), place_of(spec, "train")
    if place is None:
        raise HarnessError("HARNESS_CACHE is empty: nothing is to be kept", "name a folder: HARNESS_DECODED=FOLDER")
    needed = bytes_of(split)
    typer.echo(f"{len(split)} samples decoded take {needed / 1e9:.3g} GB: {place.data}")
    if size:
        return
    if decoded(split, spec, "train") is not split:
        typer.echo("they are there already")
        return
    with counting("decoding") as progress:
        keep(split, place, needed, progress)
    typer.echo("done; runs on this machine read them from now on")
