"""`harness plot`: a figure of the board as a file, fit for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.board_options import Rows, hidden_keys, measured, tell_hidden
from harness.cli.option_groups import with_groups
from harness.cli.options import DEFAULT_WORKSPACE, Database, Workspace, database
from harness.errors import HarnessError, did_you_mean

OVER = ("stride", "macs", "latency_ms", "parameters", "training_s")


@with_groups
def plot(
    name: Annotated[
        str, typer.Argument(help="tradeoff, strides, gains, lengths, classes, class-gains, boundary or ablation.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .svg, .pdf or .png.")],
    over: Annotated[
        str,
        typer.Option(
            "--over",
            help="Along the axis of strides and tradeoff: stride, macs, latency_ms, parameters or training_s.",
            show_default="stride; of tradeoff macs",
        ),
    ] = "stride",
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = None,
    *,
    rows: Rows,
) -> None:
    """Write a figure, drawn as the board's pages draw it, with its legend inside.

    tradeoff: the metric against a cost, with intervals, the frontier, and how sure that is (filled: on it, pale:
    perhaps, hollow: off). strides: a line a method over the output stride. gains: the differences to `none` as a map.
    lengths: the differences to `none` over the iterations of training, of recipes that differ in nothing else. classes,
    class-gains: a row's score by class, and its differences to `none`. boundary: these differences at the outlines of
    each class and inside. ablation: what each term contributes.

    Examples:

        harness plot strides --out strides.pdf

        harness plot tradeoff --over latency_ms --methods none,kd,ka --out tradeoff.svg

        harness plot lengths --student mobilenetv2_050 --stride 16 --out lengths.png

        harness plot class-gains --method ka --stride 16 --out classes.pdf

        harness plot boundary --method ka --stride 16 --out boundary.pdf
    """
    from results.figures.files import save
    from results.figures.named import FIGURES, draw
    from results.store import open_store

    if name not in FIGURES:
        raise HarnessError(f"there is no figure '{name}'", did_you_mean(name, FIGURES))
    if over not in OVER:
        raise HarnessError(f"nothing is drawn over '{over}'", did_you_mean(over, OVER))
    target = database(workspace, db)
    board = measured(workspace, target, rows)
    tell_hidden(board)
    if not len(board):
        raise HarnessError("no row fits", "take a filter off, or look at harness leaderboard")
    try:
        with open_store(target, readonly=True) as store:
            chart = draw(store, name, board, over, hidden_keys(workspace, rows))
        save(chart, out)
    except ValueError as error:
        raise HarnessError(str(error)) from error
    except OSError as error:
        raise HarnessError(f"{out} cannot be written: {error.strerror or error}") from error
    typer.echo(f"{out}: {out.stat().st_size / 1024:.0f} KiB")
