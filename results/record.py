"""The record: the JSON file in which a finished stage says all that is known of it. Databases only index it.

Numbers carry their units in their names: `_s` seconds, `_ms` milliseconds, `_bytes`, MACs are multiply-adds
(one MAC is two FLOPs). mIoU and accuracies are fractions in [0, 1]; only tables and pages show per cent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from results.columns import refuse_name

SCHEMA_VERSION = 1


def _to_json(value: float) -> float | str | None:
    """JSON has no NaN and no infinity: null, and a word that reads as a number again."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _is_fraction(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError(f"{value} is not a fraction in [0, 1]")
    return value


def _is_count(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value} is not a count")
    return value


Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(_to_json, when_used="json"),
]
"""A number; NaN where it is not known (a mean over nothing), which is null in the file."""
Fraction = Annotated[Number, AfterValidator(_is_fraction)]
"""In [0, 1], or NaN."""
Amount = Annotated[Number, AfterValidator(_is_count)]
"""Finite, zero or more."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""What any database can hold."""
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cell(_Part):
    """Where a run stands in the matrix. `teacher` is empty for methods that use none."""

    dataset: str
    student: str
    """Model word without the stride: timm:mobilenetv2_100/linear."""
    stride: Count
    method: str
    """Canonical expression: ka, kd+ka.affinity, none."""
    teacher: str = ""
    """Full model word: timm:resnet18/aspp@8."""
    recipe: str
    """Name of the recipe, with a short digest of its content: quick-1a2b3c."""
    weights: str = "random"
    seed: Count


class Best(_Part):
    """Best evaluation seen while training. Picked on the validation split, so optimistic: never the headline."""

    split: str
    miou: Fraction
    iteration: Count


class MetricValue(_Part):
    """A metric of the last checkpoint over the whole split, with what the metric declares about itself."""

    value: float | None
    """A fraction where the unit is "%"; None where it is not defined (no pixel counts)."""
    heading: str
    unit: str = ""
    direction: Literal["higher", "lower"] = "higher"
    digits: Annotated[int, Field(ge=0, le=12)] = 1
    summary: str = ""

    @model_validator(mode="after")
    def _in_range(self) -> MetricValue:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.value} is not a value")
        if self.value is not None and self.unit == "%":
            _is_fraction(self.value)
        return self


def _metric_names(values: dict[str, MetricValue]) -> dict[str, MetricValue]:
    for name in values:
        if reason := refuse_name(name):
            raise ValueError(f"metric {name!r}: {reason}")
    return values


class Metrics(_Part):
    """Accuracy of the last checkpoint over a whole split, from one confusion matrix at the labels' resolution."""

    split: str
    images: Count
    eval_batch: Count = 0
    """Most images that went through the network at once. 0 in records that do not tell."""
    tiled: Count = 0
    """Images that were too large for memory and went through in tiles, whose seams a network that sees further than
    their margin may show."""
    miou: Fraction
    pixel_accuracy: Fraction
    per_class_iou: dict[str, Annotated[float, Field(ge=0, le=1)] | None]
    """None for a class that the labels do not contain."""
    classes: list[str] = []
    """The classes that the labels of the split contain: means over classes are over these. Empty in records written
    before that was so; their mIoU is also over classes that were only predicted."""
    predicted_absent: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Class that the labels do not contain -> share of the pixels that count which were called so."""
    best: Best | None = None
    values: Annotated[dict[str, MetricValue], AfterValidator(_metric_names)] = {}
    """Every metric by name, those above included; empty in records written before metrics were plugins."""


class TermLog(_Part):
    """A term over training: mean of the first and of the last tenth of the iterations, unweighted."""

    weight: Number
    first: Number
    last: Number


class Training(_Part):
    """How the stage was trained, as measured."""

    iterations: Count
    samples_seen: Count
    seconds: Number
    """Seconds of training over all attempts, without evaluation, as if the stage had been trained alone."""
    step_ms: Number
    """Median milliseconds of an iteration as if the stage had been trained alone, its teacher and data loading
    included."""
    loss_first: Number
    loss_last: Number
    terms: dict[Annotated[str, Field(pattern=r"^[^\x00]*$")], TermLog] = {}
    health: dict[str, Number] = {}
    precision_asked: str
    precision: str
    channels_last: bool
    numerics: str = ""
    """Why precision or layout differ from what the recipe asked, when they do."""
    kernels: str = ""
    """Which convolutions were trained with gradients of the harness's own, and whether torch's are wrong there."""
    workers_beside: Count = 0
    """Other workers of the launcher on the same machine: timings beside them are noisier."""
    own_ms: Finite | None = None
    """Of `step_ms`: the stage's own forward and backward pass, terms and optimisers. None in records that do not tell
    them apart."""
    teacher_ms: Finite | None = None
    """Of `step_ms`: the teacher's forward pass, and what was computed from its maps alone."""
    loading_ms: Finite | None = None
    """Of `step_ms`: waiting for a batch, and all else."""
    shared_by: Count = 1
    """Students that were trained together, and shared teacher and loading."""
    paid_s: Finite | None = None
    """Seconds of training, what was shared divided among those who shared it: what the stage did cost."""


class Latency(_Part):
    """Inference time of one image, after a warm-up."""

    median_ms: Number
    p95_ms: Number
    runs: Count
    device: str
    precision: str
    batch: Count = 1
    threads: Count = 0


class Cost(_Part):
    """What the model costs at one input size."""

    input_size: tuple[Count, Count]
    macs: Amount
    """Headline: multiply-adds of convolutions and matrix products, for one image."""
    macs_by_operator: dict[str, Amount]
    """Every operator counted, headline ones included."""
    uncounted: dict[str, Count] = {}
    """Operators without a count, and how often they ran: never silently zero."""
    parameters: Count
    latency: Latency | None = None
    peak_memory_bytes: Count | None = None
    dilation: str = ""
    """Which path built the output stride."""


class Environment(_Part):
    """Recorded beside the key, never in it."""

    revision: str
    dirty: bool = False
    versions: dict[str, str]
    host: str
    device: str
    threads: Count
    launcher: str = "local"
    job: str = ""


class Attempt(_Part):
    """One try at the stage."""

    number: Count
    started: str
    ended: str = ""
    outcome: Literal["done", "failed", "interrupted", "preempted", "timeout", "unknown"] = "unknown"
    reason: str = ""
    resumed_at: Count = 0
    """Iteration of the checkpoint that it began from."""
    code: str = ""
    """Digest of the harness's source files that it ran; empty in records that do not tell."""


def codes_behind(attempts: Sequence[Attempt]) -> list[str]:
    """The different codes under which the iterations behind a result were trained, the first one first.

    Attempts that began at iteration 0 undo those before them; what came after the checkpoint that the next attempt
    went on from is lost, so an attempt that saved none does not count.

    Args:
        attempts: in order.
    """
    found: list[str] = []
    for attempt, following in zip(attempts, [*attempts[1:], None], strict=False):
        if attempt.resumed_at == 0:
            found = []
        if following is None or following.resumed_at > attempt.resumed_at:
            found.append(attempt.code)
    return [code for code in dict.fromkeys(found) if code]


class Record(_Part):
    """All that is known of a finished stage."""

    schema_version: Literal[1] = 1
    key: Key
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

    @model_validator(mode="after")
    def _attempts_differ(self) -> Record:
        if len({attempt.number for attempt in self.attempts}) != len(self.attempts):
            raise ValueError("attempts: two have the same number")
        return self


def schema_version(content: bytes) -> int:
    """The version that a record says it has, valid or not; 0 if it says none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return 0
    version = found.get("schema_version") if isinstance(found, dict) else None
    return version if isinstance(version, int) else 0
