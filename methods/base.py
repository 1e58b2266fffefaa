"""The contract of a distillation method.

A method is a class in one file. It *declares* its terms, its parameters, what it reads and what must be learned
before any student; it *computes* named, unweighted, scalar terms. The harness multiplies by the weights, adds the
cross-entropy, logs everything, and owns every optimiser. Words: `docs/architecture.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

IGNORE = 255
"""The label of pixels that count for nothing, in every data set of the harness."""


class Maps(Protocol):
    """What a network gives for a batch of images; nothing here is upsampled."""

    @property
    def logits(self) -> Tensor:
        """(B, K, h, w): class scores at head resolution."""
        ...

    @property
    def last(self) -> Tensor:
        """(B, C, h, w): what the classifier reads."""
        ...

    @property
    def features(self) -> Sequence[Tensor]:
        """Backbone maps, shallow to deep, each (B, C_i, h_i, w_i)."""
        ...


@dataclass(frozen=True)
class Sizes:
    """Channels and strides of a network's maps, found by a dry forward and never typed by hand."""

    classes: int
    last: int
    last_stride: int
    logits_stride: int
    features: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stride(self) -> int:
        """The output stride: that of the backbone's last map."""
        return self.strides[-1]


@dataclass(frozen=True)
class Step:
    """All that a method may look at in one iteration.

    Attributes:
        student: the student's maps; gradients flow into them.
        teacher: the teacher's maps, without gradients; None for methods that need no teacher.
        images: (B, 3, H, W), normalised for the student.
        labels: (B, H, W), int64, `IGNORE` where a pixel does not count.
        iteration: counts from 0.
        iterations: how many there will be.
    """

    student: Maps
    teacher: Maps | None
    images: Tensor
    labels: Tensor
    iteration: int = 0
    iterations: int = 1

    @property
    def teacher_maps(self) -> Maps:
        """The teacher's maps.

        Raises:
            ValueError: there is no teacher, so the method should have declared `needs_teacher = False`.
        """
        if self.teacher is None:
            raise ValueError("this step has no teacher")
        return self.teacher


@dataclass(frozen=True)
class Term:
    """One named, unweighted scalar loss.

    Attributes:
        weight: default weight, the reference's.
        symbol: the paper's name of the weight, accepted in expressions: `ka[beta=10]`.
        summary: what it compares, in a few words.
    """

    weight: float
    symbol: str = ""
    summary: str = ""


class Params(BaseModel):
    """Parameters of a method: validated, immutable, with the reference's defaults. Subclass it inside the method."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"{str(value).lower()} is no number")
        return value


MethodParams = Params
"""The same class, under a name that `Method.Params` does not hide inside a method's body."""


class Translator(nn.Module, ABC):
    """What a method learns from a teacher before any student: KA's auto-encoder, MasKD's receptive tokens.

    It is trained as a stage of its own, once for all students that share the teacher and `key`; then it is frozen,
    put in eval mode and handed to the method as `self.translator`. Recipes give its budget; `recipe` what the paper
    prescribes on top (any field of a recipe: optimizer, weight_decay, ...).
    """

    terms: ClassVar[Mapping[str, Term]] = {}
    recipe: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def forward(self, teacher: Maps) -> dict[str, Tensor]:
        """The unweighted terms of the translator's own training, given the frozen teacher's maps."""

    def health(self, teacher: Maps) -> dict[str, float]:
        """Numbers worth logging about what was learned (latent variance, reconstruction error).

        Raises:
            ValueError: what was learned is useless (a dead latent); the stage fails with this sentence.
        """
        return {}


class Method(nn.Module, ABC):
    """A distillation method. Learned adapters are ordinary submodules, trained with the student and then dropped.

    A subclass declares the class variables, builds its adapters in `setup`, and computes its terms in `forward`.

    Attributes:
        params: an instance of the class's `Params`.
        active: the terms with a weight other than zero; build and compute nothing for the others.
        student: sizes of the student's maps.
        teacher: sizes of the teacher's maps, or None.
        translator: the frozen result of the method's translator stage, or None.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    """Part of every key: raise it when the method's meaning changes, so that old rows are not taken for new ones."""
    terms: ClassVar[Mapping[str, Term]] = {}
    reads: ClassVar[frozenset[str]] = frozenset()
    """Which of "logits", "last", "features", "images", "labels" it looks at."""
    needs_teacher: ClassVar[bool] = True
    permutable: ClassVar[bool] = True
    """The terms do not change when the images of a batch are permuted."""
    exact_gradients: ClassVar[bool] = True
    """The gradients are the terms' derivatives: nothing that depends on the student is detached."""
    cost: ClassVar[str] = "linear"
    """How time and memory grow with the number of positions: "linear", or what else ("quadratic in pooled nodes").

    It begins with "linear", "linearithmic", "quadratic" or "cubic".
    """
    Params: ClassVar[type[MethodParams]] = MethodParams

    def __init__(
        self,
        params: MethodParams,
        active: frozenset[str],
        student: Sizes,
        teacher: Sizes | None,
        translator: Translator | None = None,
    ) -> None:
        super().__init__()
        self.params = params
        self.active = active
        self.student = student
        self.teacher = teacher
        # Held in a tuple so that it is no submodule: it is neither trained nor saved with the method.
        self._translator = (translator,)
        self.setup()

    @property
    def translator(self) -> Translator | None:
        """The frozen translator, or None for a method that declares none."""
        return self._translator[0]

    def setup(self) -> None:
        """Build adapters, memories and discriminators for the active terms. Nothing by default."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """The active terms, each an unweighted scalar."""

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """Default weight of every term. Override where a variant of the method brings weights of its own."""
        return {name: term.weight for name, term in cls.terms.items()}

    @classmethod
    def skip(cls, params: MethodParams, student: Sizes, teacher: Sizes | None) -> str | None:
        """Why the method does not fit this cell, or None when it does. Shown in the plan."""
        return None

    @classmethod
    def translator_key(
        cls, params: MethodParams, active: frozenset[str], student: Sizes, teacher: Sizes
    ) -> dict[str, Any] | None:
        """What the translator stage depends on besides the teacher, or None when there is nothing to learn first.

        Cells with equal keys share one stage: leave out whatever does not change the translator.
        """
        return None

    @classmethod
    def build_translator(cls, key: Mapping[str, Any], teacher: Sizes) -> Translator:
        """The untrained translator for a key given by `translator_key`."""
        raise NotImplementedError(f"{cls.name} declares no translator")

    def get_discriminator(self) -> nn.Module | None:
        """The discriminator, a submodule of the method, or None. It gets an optimiser of its own."""
        return None

    discriminator_recipe: Mapping[str, Any] = {}
    """Optimiser of the discriminator: {"name": "adam", "lr": 4e-4, "betas": (0.9, 0.99)}. `setup` may set another."""

    def discriminator_loss(self, step: Step) -> Tensor:
        """The discriminator's own scalar loss. The student's maps come detached."""
        raise NotImplementedError(f"{self.name} has no discriminator")


T = TypeVar("T")


def memo(teacher: Maps, key: Hashable, compute: Callable[[], T]) -> T:
    """What follows from the teacher's maps (and the batch) alone, computed once a batch for all students that ask.

    Students that are trained together ask the same teacher about the same batch. Whatever a method derives from the
    teacher's side without its own student, drawn numbers or learned adapters (a frozen translator's latent, logits
    resized, softmaxes) may be asked for through this: the value is the one that `compute` would give, and must not be
    changed in place. Maps that remember nothing are no obstacle: then it is computed.

    Args:
        teacher: the teacher's maps of a step.
        key: names the value; with every parameter that it depends on, modules included.
        compute: gives it. Called without gradients.
    """
    ask = getattr(teacher, "memo", None)
    if ask is not None:
        return cast(T, ask(key, compute))
    with torch.no_grad():
        return compute()


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the grid of `like`, corners not aligned; the same tensor when equal."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def resize_labels(labels: Tensor, like: Tensor) -> Tensor:
    """Nearest resize of (B, H, W) labels to the grid of `like` (B, C, h, w)."""
    if labels.shape[-2:] == like.shape[-2:]:
        return labels
    resized = F.interpolate(labels[:, None].to(torch.float32), size=like.shape[-2:], mode="nearest")
    return resized[:, 0].to(labels.dtype)
