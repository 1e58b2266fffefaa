"""The command line: registration of commands and printing of errors. Importing it does not import torch."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable

import typer

from harness import __version__
from harness.cli.ablate import ablate
from harness.cli.backbones import backbones
from harness.cli.cancel import cancel
from harness.cli.check_method import check_method
from harness.cli.collect import collect
from harness.cli.compare import compare
from harness.cli.cost import cost
from harness.cli.dashboard import dashboard
from harness.cli.data import data_check
from harness.cli.data_cache import data_cache
from harness.cli.data_init import data_init
from harness.cli.datasets import datasets
from harness.cli.doctor import doctor
from harness.cli.evaluate import evaluate
from harness.cli.export_board import export_board
from harness.cli.gradients import gradients
from harness.cli.hide import hide
from harness.cli.launcher_flags import LauncherCommand
from harness.cli.launchers import launchers
from harness.cli.leaderboard import leaderboard
from harness.cli.logs import logs
from harness.cli.merge import merge
from harness.cli.methods import methods
from harness.cli.mirror import mirror
from harness.cli.new_method import new_method
from harness.cli.plot import plot
from harness.cli.prune import prune
from harness.cli.recipes import recipes
from harness.cli.rerun import rerun
from harness.cli.retry import retry
from harness.cli.show import show
from harness.cli.slurm import slurm_init
from harness.cli.status import status
from harness.cli.sweep import sweep
from harness.cli.tag import tag
from harness.cli.teacher_list import teacher_list
from harness.cli.teacher_run import teacher_run
from harness.cli.terms import terms
from harness.cli.verify import verify
from harness.errors import Exit, HarnessError, refuse_undecodable, surroundings

# BadParameter is a UsageError, which is a ClickException; this also works if typer bundles its own click.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="harness",
    help="Compare knowledge-distillation methods for semantic segmentation: accuracy with intervals, and cost.",
    epilog="Start with:  harness sweep --methods ka,kd --strides 8,16,32",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
    ),
) -> None:
    if debug:
        os.environ["HARNESS_DEBUG"] = "1"


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (sweep, ablate, status, retry, cancel, logs),
    "Look": (leaderboard, plot, dashboard, show, compare, gradients, collect, mirror),
    "Keep": (verify, evaluate, rerun, hide, tag, merge, prune),
    "Know": (methods, backbones, datasets, recipes, launchers, cost, doctor),
    "Add": (new_method, check_method, terms),
}
_TAKES_SETTINGS = (sweep, ablate, retry)
"""Commands that accept the flags of launchers."""
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _cls = LauncherCommand if _command in _TAKES_SETTINGS else None
        app.command(rich_help_panel=_panel, cls=_cls)(_command)

_data = typer.Typer(help="Prepare and check data sets.", no_args_is_help=True)
_data.command("init")(data_init)
_data.command("check")(data_check)
_data.command("cache")(data_cache)
app.add_typer(_data, name="data", rich_help_panel="Know")
_teacher = typer.Typer(help="Train, import and list teachers.", no_args_is_help=True)
_teacher.command("run", cls=LauncherCommand)(teacher_run)
_teacher.command("list")(teacher_list)
app.add_typer(_teacher, name="teacher", rich_help_panel="Run")
_export = typer.Typer(help="Export results.", no_args_is_help=True)
_export.command("board")(export_board)
app.add_typer(_export, name="export", rich_help_panel="Look")
_slurm = typer.Typer(help="Set up a SLURM cluster.", no_args_is_help=True)
_slurm.command("init")(slurm_init)
app.add_typer(_slurm, name="slurm", rich_help_panel="Run")


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code (`harness.errors.Exit`)."""
    # Warnings of torch about timm, on which a user cannot act.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from harness.system.guard import listen_to_ctrl_c

    listen_to_ctrl_c()
    _print_what_the_terminal_can_show()
    try:
        for word in arguments:
            refuse_undecodable(word)
        return app(arguments, standalone_mode=False) or 0
    except HarnessError as error:
        _tell(error.message, error.hint)
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except ClickException as error:
        error.show()  # type: ignore[attr-defined]
        return Exit.USAGE
    except (KeyboardInterrupt, typer.Abort) as error:
        # An unexpected end of input is an Abort, too.
        if isinstance(error.__cause__, EOFError):
            return _fault(error.__cause__)
        _tell("interrupted", "run the same command again to resume")
        return Exit.INTERRUPTED
    except (Exception, SystemExit) as error:
        if _reader_has_gone(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE
        return _fault(error)


def _print_what_the_terminal_can_show() -> None:
    """Print `?` for characters that the output's encoding lacks (Δ in Latin-1), instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _reader_has_gone(error: BaseException) -> bool:
    """Whether the reader of our output (head, less) has gone, which is no error. Click and rich raise SystemExit."""
    return any(isinstance(cause, BrokenPipeError) for cause in (error, error.__cause__, error.__context__))


def _fault(error: BaseException) -> int:
    """Print an unexpected error: whether it is a bug of the harness or of a plugin, and how to see more."""
    from harness.plugins.registry import plugin_place

    if around := surroundings(error):
        _tell(around.message, around.hint)
        return around.exit_code
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if place := plugin_place(error):
        _tell(f"plugin {place}: {text}", "fix the plugin; --debug shows the traceback")
    else:
        _tell(text, "run with --debug for the traceback; this is a bug of the harness")
    return Exit.FAILED


def _tell(message: str, hint: str) -> None:
    if os.environ.get("HARNESS_DEBUG") == "1":
        traceback.print_exc()
    from results import sinks

    typer.secho(f"error: {sinks.terminal_lines(message)}", fg="red", err=True)
    if hint:
        typer.secho(f"hint:  {sinks.terminal_lines(hint)}", err=True)
