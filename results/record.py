"""The record: the JSON file in which a finished stage says all that is known of it. Databases only index it.

Numbers carry their units in their names: `_s` seconds, `_ms` milliseconds, `_bytes`, MACs are multiply-adds
(one MAC is two FLOPs). mIoU and accuracies are fractions in [0, 1]; only tables and pages show per cent.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cell(_Part):
    """Where a run stands in the matrix. `teacher` is empty for methods that use none."""

    dataset: str
    student: str
    """Model word without the stride: timm:mobilenetv2_100/linear."""
    stride: int
    method: str
    """Canonical expression: ka, kd+ka.affinity, none."""
    teacher: str = ""
    """Full model word: timm:resnet18/aspp@8."""
    recipe: str
    """Name of the recipe, with a short digest of its content: quick-1a2b3c."""
    weights: str = "random"
    seed: int


class Best(_Part):
    """Best evaluation seen while training. Picked on the validation split, so optimistic: never the headline."""

    split: str
    miou: float
    iteration: int


class Metrics(_Part):
    """Accuracy of the last checkpoint over a whole split, from one confusion matrix at the labels' resolution."""

    split: str
    images: int
    miou: float
    pixel_accuracy: float
    per_class_iou: dict[str, float | None]
    """None for a class that neither labels nor predictions contain."""
    best: Best | None = None


class TermLog(_Part):
    """A term over training: mean of the first and of the last tenth of the iterations, unweighted."""

    weight: float
    first: float
    last: float


class Training(_Part):
    """How the stage was trained, as measured."""

    iterations: int
    samples_seen: int
    seconds: float
    """Seconds of training over all attempts, without evaluation, as if the stage had been trained alone."""
    step_ms: float
    """Median milliseconds of an iteration as if the stage had been trained alone, its teacher and data loading
    included."""
    loss_first: float
    loss_last: float
    terms: dict[str, TermLog] = {}
    health: dict[str, float] = {}
    precision_asked: str
    precision: str
    channels_last: bool
    numerics: str = ""
    """Why precision or layout differ from what the recipe asked, when they do."""
    kernels: str = ""
    """Which convolutions were trained with gradients of the harness's own, and whether torch's are wrong there."""
    workers_beside: int = 0
    """Other workers of the launcher on the same machine: timings beside them are noisier."""
    own_ms: float | None = None
    """Of `step_ms`: the stage's own forward and backward pass, terms and optimisers. None in records that do not tell
    them apart."""
    teacher_ms: float | None = None
    """Of `step_ms`: the teacher's forward pass, and what was computed from its maps alone."""
    loading_ms: float | None = None
    """Of `step_ms`: waiting for a batch, and all else."""
    shared_by: int = 1
    """Students that were trained together, and shared teacher and loading."""
    paid_s: float | None = None
    """Seconds of training, what was shared divided among those who shared it: what the stage did cost."""


class Latency(_Part):
    """Inference time of one image, after a warm-up."""

    median_ms: float
    p95_ms: float
    runs: int
    device: str
    precision: str
    batch: int = 1
    threads: int = 0


class Cost(_Part):
    """What the model costs at one input size."""

    input_size: tuple[int, int]
    macs: float
    """Headline: multiply-adds of convolutions and matrix products, for one image."""
    macs_by_operator: dict[str, float]
    """Every operator counted, headline ones included."""
    uncounted: dict[str, int] = {}
    """Operators without a count, and how often they ran: never silently zero."""
    parameters: int
    latency: Latency | None = None
    peak_memory_bytes: int | None = None
    dilation: str = ""
    """Which path built the output stride."""


class Environment(_Part):
    """Recorded beside the key, never in it."""

    revision: str
    dirty: bool = False
    versions: dict[str, str]
    host: str
    device: str
    threads: int
    launcher: str = "local"
    job: str = ""


class Attempt(_Part):
    """One try at the stage."""

    number: int
    started: str
    ended: str = ""
    outcome: Literal["done", "failed", "interrupted", "preempted", "timeout", "unknown"] = "unknown"
    reason: str = ""
    resumed_at: int = 0
    """Iteration of the checkpoint that it began from."""


class Record(_Part):
    """All that is known of a finished stage."""

    schema_version: Literal[1] = 1
    key: str
    kind: Literal["teacher", "translator", "student"]
    name: str
    cell: Cell | None = None
    """Set for students and, with method "teacher", for teachers; None for translators."""
    spec: dict[str, Any]
    parents: dict[str, str] = {}
    """Role -> key."""
    parent_weights: dict[str, str] = {}
    """Role -> sha256 of the weights that were read."""
    metrics: Metrics | None = None
    training: Training
    cost: Cost | None = None
    environment: Environment
    attempts: list[Attempt]
    artefacts: dict[str, str] = {}
    """File in the stage folder -> sha256."""
    reproduce: str
    """The command that makes this row again."""
    started: str
    finished: str


def schema_version(content: bytes) -> int:
    """The version that a record says it has, valid or not; 0 if it says none."""
    try:
        found = json.loads(content)
    except ValueError:
        return 0
    version = found.get("schema_version") if isinstance(found, dict) else None
    return version if isinstance(version, int) else 0
