"""Specifications of sweeps and stages: frozen, validated values with one canonical JSON form.

The sha256 of a stage's canonical JSON is its *key*. It covers everything that changes the result (recipe, manifest of
the data, parent keys, method parameters, seed) and nothing else (launcher, workspace, number of workers).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.errors import HarnessError

Kind = Literal["teacher", "translator", "student"]
Precision = Literal["fp32", "bf16", "fp16"]
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Side = Annotated[int, Field(gt=0, le=65536)]
"""Height or width of an image in pixels."""
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""The maximum of a signed 64-bit database column."""


class Frozen(BaseModel):
    """Base class: immutable, rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"{str(value).lower()} is not a number")
        return value


def canonical_json(value: BaseModel | dict[str, Any]) -> str:
    """The unique JSON of a value: sorted keys, no spaces, shortest floats."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: BaseModel | dict[str, Any]) -> str:
    """sha256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class WeightsSpec(Frozen):
    """Initial weights: random, ImageNet, a file for the encoder, or a whole network. Files are named by sha256."""

    source: Literal["random", "imagenet", "file", "network"] = "random"
    sha256: str = ""
    classes: tuple[int, ...] = ()
    """For a whole network: the index in the file of each class of the data set; empty if the classes are equal."""


_WORD = re.compile(
    r"^(?P<family>[A-Za-z_][\w-]*):(?P<encoder>[\w.\-]+)(?:/(?P<head>[\w\-]+))?(?:@(?P<stride>\d{1,9}))?$"
)


class ModelSpec(Frozen):
    """A model, written as one word: `family:encoder/head@stride`."""

    family: str
    encoder: str
    head: str
    stride: Positive
    weights: WeightsSpec = WeightsSpec()
    source: str = ""
    """sha256 of the plugin files of backbone and head; empty for built-in ones."""
    options: str = ""
    """For a whole network: its configuration in addition to the name, as canonical JSON."""

    @property
    def word(self) -> str:
        """The model as one word."""
        return f"{self.family}:{self.encoder}/{self.head}@{self.stride}"

    @property
    def label(self) -> str:
        """The word without the stride, by which tables group."""
        return f"{self.family}:{self.encoder}/{self.head}"


def parse_model(word: str, head: str | None = None, stride: int | None = None) -> ModelSpec:
    """Parse a model's word; `head` and `stride` are defaults for what the word omits.

    Raises:
        HarnessError: the word is malformed, or head or stride is missing.
    """
    match = _WORD.match(word.strip())
    if not match:
        raise HarnessError(
            f"'{word}' is not a model", "write family:encoder/head@stride, as in timm:mobilenetv2_100/linear@16"
        )
    found_head, found_stride = match["head"] or head, match["stride"] or stride
    if not found_head:
        raise HarnessError(f"model '{word}' names no head", "write it as ENCODER/HEAD, or give --head")
    if not found_stride:
        raise HarnessError(f"model '{word}' names no output stride", "write it as MODEL@16, or give --strides")
    if not int(found_stride):
        raise HarnessError(f"model '{word}': there is no output stride {found_stride}", "write it as MODEL@16")
    return ModelSpec(family=match["family"], encoder=match["encoder"], head=found_head, stride=int(found_stride))


class DatasetSpec(Frozen):
    """A data set: its name, parameters, and the digest of its content."""

    name: str
    params: dict[str, Any] = {}
    manifest: str = ""
    source: str = ""
    """sha256 of the plugin's file; empty for built-in ones."""

    @property
    def label(self) -> str:
        """The name with the parameters that differ from the defaults: `shapes[size=96]`."""
        if not self.params:
            return self.name
        return f"{self.name}[{','.join(f'{k}={v}' for k, v in sorted(self.params.items()))}]"


class MethodPart(Frozen):
    """One method of an expression, fully resolved: all parameters, and the weight of every active term."""

    name: str
    version: int = 1
    params: dict[str, Any] = {}
    weights: dict[str, float] = {}
    source: str = ""
    """sha256 of the plugin's file; empty for built-in ones."""


class MethodSpec(Frozen):
    """A sum of the terms of methods. Without parts it is `none`."""

    expression: str = "none"
    """The canonical expression, shown in tables."""
    parts: tuple[MethodPart, ...] = ()


class TranslatorSpec(Frozen):
    """The translator that a method learns from its teacher before any student."""

    method: str
    version: int = 1
    params: dict[str, Any] = {}
    source: str = ""


class Optimizer(Frozen):
    """SGD or AdamW."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.007
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    betas: tuple[float, float] = (0.9, 0.999)
    head_lr: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of heads and adapters, as a multiple of the backbone's."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer of the backbone learns at so much of the rate of the one after it; the last, at so much of `lr`."""


class Schedule(Frozen):
    """Learning-rate schedule over iterations, after a linear warm-up."""

    name: Literal["poly", "cosine", "onecycle", "constant"] = "poly"
    power: float = 0.9
    warmup: Annotated[int, Field(ge=0)] = 0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Lowest learning rate, as a fraction of the highest."""


class Augment(Frozen):
    """Random scale, crop, flip and colour jitter, applied jointly to image and label."""

    scale: tuple[float, float] = (0.5, 2.0)
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Strength of brightness, contrast and saturation changes."""


Scale = Annotated[float, Field(gt=0, le=8)]
_OVERLAP = 1 / 3


class Protocol(Frozen):
    """How a network is asked for the classes of a whole image: at once or by windows, at one scale or at several."""

    window: tuple[Side, Side] | None = None
    """(height, width) of a window that slides over the image; None for the whole image at once."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = _OVERLAP
    """The least part of a window that its neighbour covers too."""
    scales: tuple[Scale, ...] = (1.0,)
    """Sizes of the image, as multiples of its own; class probabilities are averaged over them."""
    flip: bool = False
    """Average over the mirrored image too."""

    @field_validator("scales")
    @classmethod
    def _in_order(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("name one scale at least, and each once")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _overlap_is_of_windows(self) -> Protocol:
        if self.window is None and self.overlap != _OVERLAP:
            raise ValueError("an overlap without a window says nothing: set evaluation.window=[H,W] too")
        return self


class LossSpec(Frozen):
    """What the labels teach: a registered loss with its parameters, and an auxiliary head beside the network's own."""

    name: str = "cross_entropy"
    params: dict[str, Any] = {}
    auxiliary: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Weight of the same loss of an auxiliary head on the backbone's map before the last; 0 for no such head."""
    source: str = ""
    """sha256 of the file it comes from when it is a plugin."""


class Recipe(Frozen):
    """Training settings of one stage. The name is for display; only the content enters the key."""

    crop: tuple[Side, Side] = (64, 64)
    batch_size: Positive = 16
    iterations: Annotated[int, Field(ge=0, lt=2**31)] = 300
    """0 for an imported network, which is evaluated but not trained."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    precision: Precision = "fp32"
    channels_last: bool = True
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    compile: bool = False
    deterministic: bool = True
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Iterations between evaluations on the validation split; 0 for the final one only."""
    eval_size: tuple[Side, Side] | None = None
    """Size to which images, but not labels, are resized for evaluation."""
    eval_batch: Annotated[int, Field(ge=0)] = 0
    """Images per evaluation batch; 0 for 8, or 1 if sizes vary. Halved when memory runs out."""
    teacher_norm: Literal["running", "batch"] = "running"
    """Batch-norm statistics of a teacher during distillation: running averages, or those of each batch."""
    evaluation: Protocol = Protocol()
    loss: LossSpec = LossSpec()
    accumulate: Positive = 1
    """Parts in which a batch is computed, one after the other: memory is that of one part. Batch norms see a part."""
    freeze: Literal["none", "backbone"] = "none"
    """Modules that keep their initial weights and the running averages of their batch norms."""

    @model_validator(mode="after")
    def _a_part_holds_an_image(self) -> Recipe:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate: a batch of {self.batch_size} has no {self.accumulate} parts")
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The fields that enter the key: all, except fields added since the first release while at their defaults."""
        data = self.model_dump(mode="json")
        for name in _ADDED:
            if getattr(self, name) == type(self).model_fields[name].default:
                del data[name]
        if self.optimizer.layer_decay == 1:
            del data["optimizer"]["layer_decay"]
        return data


_ADDED = ("eval_batch", "teacher_norm", "evaluation", "loss", "accumulate", "freeze")
"""Fields of a recipe that the first release did not have."""


class StageSpec(Frozen):
    """One stage of training, a node of the plan. Its digest is its key."""

    kind: Kind
    dataset: DatasetSpec
    model: ModelSpec
    """The network to train; for a translator, the teacher that it reads."""
    method: MethodSpec = MethodSpec()
    translator: TranslatorSpec | None = None
    recipe: Recipe
    seed: Seed = 0
    parents: dict[str, str] = {}
    """Role -> key: "teacher", "translator:<method>"."""

    @property
    def key(self) -> str:
        """The stage's identifier: the first 20 hexadecimal digits of its digest, without display names."""
        data = self.model_dump(mode="json")
        data["method"].pop("expression")
        data["recipe"] = self.recipe.content
        # Fields added since the first release count only if they are not at their defaults.
        for part, name in (
            (data["model"], "source"),
            (data["model"], "options"),
            (data["model"]["weights"], "classes"),
            (data["dataset"], "source"),
        ):
            if not part[name]:
                del part[name]
        return digest(data)[:20]


class SweepSpec(Frozen):
    """A matrix of cells, from command-line flags or a YAML file; equal input gives equal values."""

    methods: tuple[str, ...] = ("none", "kd", "pixel_kd", "ka")
    students: tuple[str, ...] = ("timm:mobilenetv2_100",)
    head: str = "linear"
    strides: tuple[Positive, ...] = (16,)
    teachers: tuple[str, ...] = ("timm:resnet18/aspp",)
    teacher_head: str = "aspp"
    teacher_strides: tuple[Positive, ...] = (8,)
    dataset: str = "shapes"
    recipe: str = "auto"
    """A recipe: its name, a YAML file, or "auto" for the data set's default."""
    set: dict[str, Any] = {}
    """Changes to the recipe, by dotted path: {"student.iterations": 500}."""
    seeds: tuple[Seed, ...] = (0,)
    teacher_seed: Seed = 0
    weights: str = "auto"
    """Initial weights of the students: auto (the data set's default), random, imagenet, or a safetensors file."""
    teacher_weights: str = "auto"
    """Initial weights of teachers' encoders, or a file of a whole trained teacher, which is then not trained again."""
    teacher_classes: str = ""
    """A YAML file: name of each class of the data set -> its index in the teacher's file."""

    @field_validator("methods", "students", "strides", "teachers", "teacher_strides", "seeds")
    @classmethod
    def _not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("must name at least one")
        return value
