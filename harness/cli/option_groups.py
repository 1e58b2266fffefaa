"""Options shared by `sweep` and `ablate`, in groups: the matrix, paths and execution, output."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from harness.cli.options import DEFAULT_WORKSPACE, AsJson, Database, Plugins, Workspace


@dataclass(frozen=True)
class Cells:
    """The matrix, without its methods."""

    strides: Annotated[str | None, typer.Option("--strides", "-s", help="Output strides of the students: 8,16,32.")] = (
        None
    )
    students: Annotated[
        str | None, typer.Option("--students", help="Student models: timm:mobilenetv2_100,smp:resnet18/pspnet.")
    ] = None
    head: Annotated[str | None, typer.Option("--head", help="Head of students that name none.")] = None
    teachers: Annotated[
        str | None, typer.Option("--teachers", "--teacher", help="Teacher models: timm:resnet50/aspp@8.")
    ] = None
    teacher_strides: Annotated[
        str | None, typer.Option("--teacher-strides", help="Output strides of teachers that name none.")
    ] = None
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Data set: shapes, shapes[size=96], camvid.")
    ] = None
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Recipe: a name or a YAML file; by default the data set's.")
    ] = None
    set: Annotated[list[str] | None, typer.Option("--set", help="Change the recipe: --set student.iterations=500.")] = (
        None
    )
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds of the students: 0,1,2.")] = None
    teacher_seed: Annotated[int | None, typer.Option("--teacher-seed", help="Seed of teachers and translators.")] = None
    weights: Annotated[
        str | None, typer.Option("--weights", help="Initial weights of students: auto, random, imagenet or a file.")
    ] = None
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            "--teacher-weights",
            help="Initial weights of teachers, or a file of a whole trained teacher, which is imported.",
        ),
    ] = None
    teacher_classes: Annotated[
        str | None,
        typer.Option(
            "--teacher-classes", help="YAML file that maps each class of the data set to its index in the teacher."
        ),
    ] = None
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="YAML file with these options; flags override it.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """The keywords of `harness.sweep`."""
        return dict(vars(self))


@dataclass(frozen=True)
class Running:
    """Paths, and how stages are run."""

    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir", envvar="HARNESS_WEIGHTS", help="Folder of ImageNet weights (ENCODER*.safetensors)."
        ),
    ] = None
    data_root: Annotated[
        Path | None, typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder of the data set.")
    ] = None
    plugin: Plugins = None
    launcher: Annotated[
        str, typer.Option("--launcher", "-l", help="Where stages run: local, slurm, ... (harness launchers).")
    ] = "local"
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="A setting of the launcher: -o time=4:00:00.")
    ] = None
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-n",
            min=0,
            help="Stages at once on this machine; 0: one per device (per core, without a GPU).",
        ),
    ] = 0
    cohort: Annotated[
        str,
        typer.Option(
            "--cohort",
            help="Train students with the same teacher and seed in lock-step, with one teacher pass for all: auto "
            "(fill devices first, then group), off, or the maximum size of a group.",
        ),
    ] = "auto"
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads per stage; 0: one on CPUs.")] = 0
    loader_workers: Annotated[
        str,
        typer.Option(
            "--loader-workers",
            help="Data-loading processes per stage; auto: 0 on a CPU, with a GPU the number of cores minus one.",
        ),
    ] = "auto"
    loader_timeout_s: Annotated[
        float,
        typer.Option(
            "--loader-timeout",
            min=0,
            help="Abort loader processes, or the run, after so many seconds without a batch; 0: never.",
        ),
    ] = 600.0
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=0, help="Iterations between checkpoints.")
    ] = 100
    gradients_every: Annotated[
        int,
        typer.Option(
            "--gradients-every",
            min=0,
            help="Record the gradient of each term every so many iterations (harness gradients); 0: never.",
        ),
    ] = 0
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            min=0,
            help="Images whose predictions are kept as pictures, the same in every run; and half as many of the worst.",
        ),
    ] = 4
    log: Annotated[
        list[str] | None,
        typer.Option("--log", help="Mirror the curves elsewhere, too: tensorboard, mlflow, wandb (offline)."),
    ] = None
    workspace: Workspace = DEFAULT_WORKSPACE
    db: Database = None

    def keywords(self) -> dict[str, Any]:
        """The keywords of `harness.sweep`, without the launcher's settings."""
        values = {name: value for name, value in vars(self).items() if name not in ("option", "plugin")}
        return values | {"plugins": self.plugin or ()}


@dataclass(frozen=True)
class Output:
    """What is printed."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and what exists already; run nothing.")] = (
        False
    )
    as_json: AsJson = False


def sweep_keywords(cells: Cells, running: Running, output: Output) -> dict[str, Any]:
    """All groups as keywords of `harness.sweep`."""
    from harness.specs.values import parse_pairs

    settings = parse_pairs(running.option or [], "--option")
    return cells.keywords() | running.keywords() | {"settings": settings, "progress": not output.as_json}


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: typer sees each field of a group as an option."""
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        group: Any = parameter.annotation
        groups[parameter.name] = group
        hints = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
            for f in fields(group)
        ]

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return flat
