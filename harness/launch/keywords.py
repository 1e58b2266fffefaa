"""What a sweep takes, from Python and from the command line: one list of names for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

Names = str | Sequence[str]
"""A text with commas, or a list."""
Numbers = str | int | Sequence[int]
"""A number, a text with commas, or a list."""
File = str | Path


class AskedKeywords(TypedDict, total=False):
    """What is asked for: the fields of a sweep. What is left out, or None, keeps its default."""

    strides: Numbers | None
    """Output strides of the students: "8,16,32" or [8, 16, 32]."""
    students: Names | None
    """Student models: "timm:mobilenetv2_100", "smp:resnet18/pspnet@16"."""
    head: str | None
    """Head of students that name none."""
    teachers: Names | None
    """Teacher models: "timm:resnet50/aspp@8"."""
    teacher_head: str | None
    """Head of teachers that name none."""
    teacher_strides: Numbers | None
    """Output strides of teachers that name none."""
    dataset: str | None
    """Data set: "shapes", "shapes[size=96]", "camvid"."""
    recipe: str | None
    """Recipe: a name or a YAML file; by default the data set's."""
    set: Mapping[str, Any] | Sequence[str] | None
    """Changes to the recipe: {"student.iterations": 500}, or ["student.iterations=500"]."""
    seeds: Numbers | None
    """Seeds of the students."""
    teacher_seed: int | None
    """Seed of teachers and translators."""
    weights: str | None
    """Initial weights of students: auto, random, imagenet or a file."""
    teacher_weights: str | None
    """Initial weights of teachers' encoders, or a file of a whole trained teacher, which is then not trained again."""
    teacher_classes: str | None
    """YAML file: name of each class of the data set -> its number in the teacher's file."""


class SweepKeywords(AskedKeywords, total=False):
    """What is asked for, where it is found and how it is run."""

    file: File | None
    """YAML file with the fields of a sweep; what is given beside it goes before it."""
    plugins: Sequence[File]
    """Python files that register methods, backbones, heads, data sets, ..."""
    workspace: File
    """Folder in which everything happens: "runs"."""
    db: str | None
    """Database, a file or a URL; by default the workspace's own."""
    data_root: File | None
    """Folder that holds the data set; by default the variable HARNESS_DATA."""
    weights_dir: File | None
    """Folder of ImageNet weights; by default the variable HARNESS_WEIGHTS."""
    launcher: str
    """Where stages run: "local" or "slurm"."""
    settings: Mapping[str, Any]
    """The launcher's own: {"partition": "gpu", "time": "4:00:00"}."""
    device: str
    """auto, cpu, cuda, cuda:1, ..."""
    workers: int
    """Stages at once on this machine; 0: one a device (a core, where there is no GPU)."""
    threads: int
    """CPU threads of a stage; 0: one on CPUs."""
    cohort: str | int
    """Students of one teacher and seed trained in lock-step: "auto" (fills the devices first, then groups), "off", or
    the most of one group."""
    loader_workers: str | int
    """Processes that load data, for each stage; "auto": none on a CPU, with a GPU all its cores but one."""
    loader_timeout_s: float
    """Seconds without a batch after which loader processes are given up, or the run; 0: never."""
    checkpoint_every: int
    """Iterations between checkpoints."""
    gradients_every: int
    """Iterations between two looks at the gradient of each term (`harness gradients`); 0: none."""
    samples: int
    """Images whose predictions are kept as pictures, the same in every run; besides them half as many of the worst."""
    log: Names | None
    """Mirror the curves elsewhere, too: "tensorboard", "mlflow", "wandb"."""
    progress: bool
    """Show how far it is: a bar in a terminal or a notebook, lines elsewhere."""


ASKED = tuple(AskedKeywords.__annotations__)
"""Names of what is asked for; the rest says how it is run."""
KEYWORDS = ("methods", *SweepKeywords.__annotations__)
