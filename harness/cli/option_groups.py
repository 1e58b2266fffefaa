"""Options that `sweep` and `ablate` share, in groups: what is asked for, where it is found, how it is run."""

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
    """The matrix, its methods apart."""

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
            help="Initial weights of teachers, or a file of a whole trained teacher, which then comes as it is.",
        ),
    ] = None
    teacher_classes: Annotated[
        str | None,
        typer.Option("--teacher-classes", help="YAML file: each class of the data set: its number in the teacher."),
    ] = None
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="YAML file with the same words; flags go before it.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """As `harness.sweep` takes them."""
        return dict(vars(self))


@dataclass(frozen=True)
class Running:
    """Where things are found, and how stages are run."""

    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir", envvar="HARNESS_WEIGHTS", help="Folder of ImageNet weights (ENCODER*.safetensors)."
        ),
    ] = None
    data_root: Annotated[
        Path | None, typer.Option("--data-root", envvar="HARNESS_DATA", help="Folder that holds the data set.")
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
            help="Stages at once on this machine; 0: one a device (a core, where there is no GPU).",
        ),
    ] = 0
    cohort: Annotated[
        str,
        typer.Option(
            "--cohort",
            help="Students of one teacher and seed that are trained in lock-step, the teacher asked once for all: auto "
            "(fills the devices first, then groups), off, or the most of one group.",
        ),
    ] = "auto"
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads of a stage; 0: one on CPUs.")] = 0
    loader_workers: Annotated[
        str,
        typer.Option(
            "--loader-workers",
            help="Processes that load data, for each stage; auto: none on a CPU, with a GPU all its cores but one.",
        ),
    ] = "auto"
    loader_timeout_s: Annotated[
        float,
        typer.Option(
            "--loader-timeout",
            min=0,
            help="Seconds without a batch after which loader processes are given up, or the run; 0: never.",
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
            help="Iterations between two looks at the gradient of each term (harness gradients); 0: none.",
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
        """As `harness.sweep` takes them; the launcher's settings are not among them."""
        values = {name: value for name, value in vars(self).items() if name not in ("option", "plugin")}
        return values | {"plugins": self.plugin or ()}


@dataclass(frozen=True)
class Output:
    """What is shown."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and what exists already; run nothing.")] = (
        False
    )
    as_json: AsJson = False


def sweep_keywords(cells: Cells, running: Running, output: Output) -> dict[str, Any]:
    """All groups as the keywords of `harness.sweep`."""
    from harness.specs.values import parse_pairs

    settings = parse_pairs(running.option or [], "--option")
    return cells.keywords() | running.keywords() | {"settings": settings, "progress": not output.as_json}


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: for typer, each field of a group is an option of its own."""
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
