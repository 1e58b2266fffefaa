"""Keywords of a sweep, shared by Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

Names = str | Sequence[str]
"""A comma-separated text, or a list."""
Numbers = str | int | Sequence[int]
"""A number, a comma-separated text, or a list."""
File = str | Path


class AskedKeywords(TypedDict, total=False):
    """The fields of a sweep. Missing ones, and None, keep their defaults."""

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
    """YAML file: name of each class of the data set -> its index in the teacher's file."""


class SweepKeywords(AskedKeywords, total=False):
    """The fields of a sweep, paths, and how it is run."""

    file: File | None
    """YAML file with the fields of a sweep; other keywords override it."""
    plugins: Sequence[File]
    """Python files that register methods, backbones, heads, data sets, ..."""
    workspace: File
    """Workspace folder: "runs"."""
    db: str | None
    """Database, a file or a URL; by default the workspace's."""
    data_root: File | None
    """Folder of the data set; by default the variable HARNESS_DATA."""
    weights_dir: File | None
    """Folder of ImageNet weights; by default the variable HARNESS_WEIGHTS."""
    launcher: str
    """Where stages run: "local" or "slurm"."""
    settings: Mapping[str, Any]
    """Settings of the launcher: {"partition": "gpu", "time": "4:00:00"}."""
    device: str
    """auto, cpu, cuda, cuda:1, ..."""
    workers: int
    """Stages at once on this machine; 0: one per device (per core, without a GPU)."""
    threads: int
    """CPU threads per stage; 0: one on CPUs."""
    cohort: str | int
    """Train students with the same teacher and seed in lock-step: "auto" (fill devices first, then group), "off", or
    the maximum size of a group."""
    loader_workers: str | int
    """Data-loading processes per stage; "auto": 0 on a CPU, with a GPU the number of cores minus one."""
    loader_timeout_s: float
    """Seconds without a batch after which loader processes, or the run, are aborted; 0: never."""
    checkpoint_every: int
    """Iterations between checkpoints."""
    gradients_every: int
    """Iterations between records of each term's gradient (`harness gradients`); 0: none."""
    samples: int
    """Number of images whose predictions are saved, the same in every run, plus half as many of the worst ones."""
    log: Names | None
    """Also log curves to: "tensorboard", "mlflow", "wandb"."""
    progress: bool
    """Show progress: a bar in a terminal or a notebook, lines elsewhere."""


ASKED = tuple(AskedKeywords.__annotations__)
"""Names of the fields of a sweep; the other keywords say how it is run."""
KEYWORDS = ("methods", *SweepKeywords.__annotations__)
