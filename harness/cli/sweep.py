"""`harness sweep`: from words to a leaderboard."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Plugins, Workspace
from harness.cli.parse_sweep import parse_pairs, sweep_spec
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.launch.base import LaunchResult, Options
    from harness.planning.plan import Plan
    from harness.specs.spec import SweepSpec

Words = Annotated[str | None, typer.Option()]


def sweep(
    methods: Annotated[
        str | None, typer.Option("--methods", "-m", help="Methods: none,kd,ka-affinity,kd[tau=2|4] or all.")
    ] = None,
    strides: Annotated[
        str | None, typer.Option("--strides", "-s", help="Output strides of the students: 8,16,32.")
    ] = None,
    students: Annotated[
        str | None, typer.Option("--students", help="Student models: timm:mobilenetv2_100,smp:resnet18/pspnet.")
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="Head of students that name none.")] = None,
    teachers: Annotated[
        str | None, typer.Option("--teachers", "--teacher", help="Teacher models: timm:resnet50/aspp@8.")
    ] = None,
    teacher_strides: Annotated[
        str | None, typer.Option("--teacher-strides", help="Output strides of teachers that name none.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Data set: shapes, shapes[size=96], camvid.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Recipe: a name or a YAML file; by default the data set's.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: --set student.iterations=500.")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds of the students: 0,1,2.")] = None,
    teacher_seed: Annotated[
        int | None, typer.Option("--teacher-seed", help="Seed of teachers and translators.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="First weights of students: auto, random, imagenet or a file.")
    ] = None,
    teacher_weights: Annotated[str | None, typer.Option("--teacher-weights", help="First weights of teachers.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="YAML file with the same words; flags go before it.")
    ] = None,
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir", envvar="HARNESS_WEIGHTS", help="Folder of ImageNet weights (ENCODER*.safetensors)."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder that holds the data set.")
    ] = None,
    plugin: Plugins = None,
    launcher: Annotated[
        str, typer.Option("--launcher", "-l", help="Where stages run: local, slurm, ... (harness launchers).")
    ] = "local",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of the launcher: -o time=4:00:00.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-n",
            min=0,
            help="Stages at once on this machine; 0: one a device (a core, where there is no GPU).",
        ),
    ] = 0,
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads of a stage; 0: one on CPUs.")] = 0,
    loader_workers: Annotated[
        int, typer.Option("--loader-workers", min=0, help="Processes that load data, for each stage.")
    ] = 0,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=0, help="Iterations between checkpoints.")
    ] = 100,
    workspace: Workspace = DEFAULT_WORKSPACE,
    db: Database = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what exists already; run nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train every method x student x output stride x seed, and print the leaderboard.

    Teachers and translators are trained once and shared. What exists already is not trained again: run the same
    command again to go on after an interruption, or with more seeds to add to it.

    Examples:

        harness sweep --methods ka,kd --strides 8,16,32

        harness sweep -m none,kd,ka -s 16 --students smp:resnet18/deeplabv3plus --teacher timm:resnet50/aspp@8 --dry-run

        harness sweep -m 'ka[beta=1|10|50]' -s 16 --seeds 0,1,2 --dataset camvid --data-root DATA --weights-dir WEIGHTS

        harness sweep -f sweep.yaml --launcher slurm --partition gpu --time 4:00:00 -o teacher.mem=64G
    """
    from harness.launch.local import warm_up

    if launcher == "local" and not dry_run:
        warm_up()
    flags = {
        "methods": methods, "strides": strides, "students": students, "head": head, "teachers": teachers,
        "teacher_strides": teacher_strides, "dataset": dataset, "recipe": recipe, "set": changes, "seeds": seeds,
        "teacher_seed": teacher_seed, "weights": weights, "teacher_weights": teacher_weights,
    }  # fmt: skip
    from harness.launch.launchers import make_options

    spec = sweep_spec(flags, file, plugin)
    options = make_options(
        workspace=workspace, db=db, data_root=data_root, plugins=plugin or [], device=device, workers=workers,
        threads=threads, loader_workers=loader_workers, checkpoint_every=checkpoint_every, quiet=as_json,
        launcher=launcher, settings=parse_pairs(option or [], "--option"),
    )  # fmt: skip
    execute(spec, options, launcher, weights_dir, dry_run=dry_run, as_json=as_json)


def execute(
    spec: SweepSpec,
    options: Options,
    launcher_name: str,
    weights_dir: Path | None,
    dry_run: bool = False,
    as_json: bool = False,
    show: Callable[[Plan, Options, bool], None] | None = None,
) -> None:
    """Plan a sweep, launch what is missing, collect, and print the leaderboard; raises typer.Exit with the code.

    Args:
        show: called when all is finished, in place of what collects and prints the leaderboard.
    """
    from harness.launch.launchers import LAUNCHERS
    from harness.planning.plan import make_plan
    from harness.plugins.file_plugin import stdout_to_stderr
    from harness.workspace.status import save_sweep

    launcher = LAUNCHERS.get(launcher_name)()
    with stdout_to_stderr():
        plan = make_plan(spec, options.data_root, weights_dir)
    if not plan.nodes:
        reasons = "; ".join(f"{s.cell}: {s.reason}" for s in plan.skips)
        raise HarnessError("nothing to do: every cell is skipped", reasons)
    missing = [key for key in plan.nodes if not options.workspace.stage(key).done()]
    if dry_run or not as_json:
        from harness.cli.print_plan import print_plan

        print_plan(plan, missing, options, launcher, as_json)
    if dry_run:
        return
    from harness.launch.preflight import prepare

    prepare(plan, missing, options)
    save_sweep(options.workspace, plan, shlex.join(["harness", *sys.argv[1:]]))
    launched = launcher.launch(plan, missing, options) if missing else None
    from harness.cli.collect_and_print import collect_and_print

    _finish(plan, missing, launched, options, as_json, show or collect_and_print)


def _finish(
    plan: Plan,
    missing: list[str],
    launched: LaunchResult | None,
    options: Options,
    as_json: bool,
    show: Callable[[Plan, Options, bool], None],
) -> None:
    if launched and not launched.finished:
        typer.echo(json.dumps({"sweep": plan.id, "message": launched.message}) if as_json else launched.message)
        return
    show(plan, options, as_json)
    failed = dict(launched.failed) if launched else {}
    blocked = dict(launched.blocked) if launched else {}
    if not as_json:
        if not missing:
            typer.echo("nothing to do: everything asked for was done already")
        for key, reason in failed.items():
            typer.secho(f"failed   {plan.nodes[key].name}: {reason}", fg="red", err=True)
        for key, reason in blocked.items():
            typer.secho(f"blocked  {plan.nodes[key].name}: {reason}", fg="yellow", err=True)
    if launched and launched.interrupted:
        typer.secho("interrupted: run the same command again to go on", err=True)
        raise typer.Exit(130)
    if failed or blocked:
        raise typer.Exit(1)
