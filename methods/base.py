"""The contract of a distillation method.

A method is a class in one file. It *declares* its terms, its parameters, the maps it reads and the translator it needs;
it *computes* named, unweighted, scalar terms. The harness multiplies by the weights, adds the cross-entropy, logs
everything, and owns every optimiser. `docs/architecture.md` defines the terminology.
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
"""The label of pixels without ground truth, in every data set of the harness."""


class Maps(Protocol):
    """Outputs of a network for a batch of images, not upsampled."""

    @property
    def logits(self) -> Tensor:
        """(B, K, h, w): class scores at head resolution."""
        ...

    @property
    def last(self) -> Tensor:
        """(B, C, h, w): the input of the classifier."""
        ...

    @property
    def features(self) -> Sequence[Tensor]:
        """Backbone maps, shallow to deep, each (B, C_i, h_i, w_i)."""
        ...


@dataclass(frozen=True)
class Sizes:
    """Channels and strides of a network's maps, measured by a forward pass on the meta device."""

    classes: int
    last: int
    last_stride: int
    logits_stride: int
    features: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stride(self) -> int:
        """The output stride: the stride of the backbone's last map."""
        return self.strides[-1]


@dataclass(frozen=True)
class Step:
    """The inputs of a method in one iteration.

    Attributes:
        student: the student's maps; gradients flow into them.
        teacher: the teacher's maps, without gradients; None for methods that need no teacher.
        images: (B, 3, H, W), normalised for the student.
        labels: (B, H, W), int64, `IGNORE` for pixels without ground truth.
        iteration: counts from 0.
        iterations: total number of iterations.
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
            ValueError: there is no teacher; the method should declare `needs_teacher = False`.
        """
        if self.teacher is None:
            raise ValueError("this step has no teacher")
        return self.teacher


@dataclass(frozen=True)
class Term:
    """One named, unweighted scalar loss.

    Attributes:
        weight: default weight, taken from the reference.
        symbol: the paper's symbol for the weight, accepted in expressions: `ka[beta=10]`.
        summary: what the term compares, in a few words.
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
            raise ValueError(f"{str(value).lower()} is not a number")
        return value


MethodParams = Params
"""An alias of `Params`, for use inside the body of a method, where `Method.Params` shadows it."""


class Translator(nn.Module, ABC):
    """A module that a method learns from the teacher before any student: KA's auto-encoder, MasKD's receptive tokens.

    It is trained as a separate stage, once for all students that share the teacher and `key`; then it is frozen, put in
    eval mode and passed to the method as `self.translator`. The sweep's recipe sets its budget; `recipe` overrides
    fields that the paper prescribes (optimizer, weight_decay, ...).
    """

    terms: ClassVar[Mapping[str, Term]] = {}
    recipe: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def forward(self, teacher: Maps) -> dict[str, Tensor]:
        """The unweighted terms of the translator's own training, given the frozen teacher's maps."""

    def health(self, teacher: Maps) -> dict[str, float]:
        """Diagnostics of the trained translator to log (latent variance, reconstruction error).

        Raises:
            ValueError: the translator is useless (a dead latent); the stage fails with this message.
        """
        return {}


class Method(nn.Module, ABC):
    """A distillation method. Adapters are ordinary submodules, trained with the student and then dropped.

    A subclass declares the class variables, builds its adapters in `setup`, and computes its terms in `forward`.

    Attributes:
        params: an instance of the class's `Params`.
        active: the terms with a nonzero weight; build and compute nothing for the others.
        student: sizes of the student's maps.
        teacher: sizes of the teacher's maps, or None.
        translator: the frozen translator, or None.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    """Part of every key: increase it when the method's results change, so that old rows are not reused."""
    terms: ClassVar[Mapping[str, Term]] = {}
    reads: ClassVar[frozenset[str]] = frozenset()
    """The subset of "logits", "last", "features", "images", "labels" that it reads."""
    needs_teacher: ClassVar[bool] = True
    permutable: ClassVar[bool] = True
    """The terms are invariant under permutation of the images of a batch."""
    exact_gradients: ClassVar[bool] = True
    """The gradients are the exact derivatives of the terms: nothing that depends on the student is detached."""
    cost: ClassVar[str] = "linear"
    """Growth of time and memory with the number of positions: "linear", "quadratic in pooled nodes", ...

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
        # In a tuple, so that it is not a submodule: it is neither trained nor saved with the method.
        self._translator = (translator,)
        self.setup()

    @property
    def translator(self) -> Translator | None:
        """The frozen translator, or None for a method that declares none."""
        return self._translator[0]

    def setup(self) -> None:
        """Build adapters, memories and discriminators for the active terms. By default there are none."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """The active terms, each an unweighted scalar."""

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """Default weight of every term. Override it if a variant of the method has different weights."""
        return {name: term.weight for name, term in cls.terms.items()}

    @classmethod
    def skip(cls, params: MethodParams, student: Sizes, teacher: Sizes | None) -> str | None:
        """The reason why the method cannot be used in this cell, shown in the plan; None if it can."""
        return None

    @classmethod
    def translator_key(
        cls, params: MethodParams, active: frozenset[str], student: Sizes, teacher: Sizes
    ) -> dict[str, Any] | None:
        """What the translator stage depends on in addition to the teacher, or None if the method needs no translator.

        Cells with equal keys share one stage: leave out whatever does not change the translator.
        """
        return None

    @classmethod
    def build_translator(cls, key: Mapping[str, Any], teacher: Sizes) -> Translator:
        """The untrained translator for a key returned by `translator_key`."""
        raise NotImplementedError(f"{cls.name} declares no translator")

    def get_discriminator(self) -> nn.Module | None:
        """The discriminator, a submodule of the method with its own optimiser, or None."""
        return None

    discriminator_recipe: Mapping[str, Any] = {}
    """Optimiser of the discriminator: {"name": "adam", "lr": 4e-4, "betas": (0.9, 0.99)}. `setup` may override it."""

    def discriminator_loss(self, step: Step) -> Tensor:
        """The discriminator's loss, a scalar. The student's maps are already detached."""
        raise NotImplementedError(f"{self.name} has no discriminator")


T = TypeVar("T")


def memo(teacher: Maps, key: Hashable, compute: Callable[[], T]) -> T:
    """A value derived from the teacher's maps (and the batch) alone, computed once per batch for all students.

    Students that are trained together share one teacher and one batch. Use this for whatever a method derives from the
    teacher without its student, random numbers or learned adapters: a frozen translator's latent, resized logits,
    softmaxes. The result equals `compute()` and must not be modified in place. Without a cache in `teacher`, it is
    computed on every call.

    Args:
        teacher: the teacher's maps of a step.
        key: identifies the value; include every parameter that it depends on, modules too.
        compute: computes the value. Called without gradients.
    """
    ask = getattr(teacher, "memo", None)
    if ask is not None:
        return cast(T, ask(key, compute))
    with torch.no_grad():
        return compute()


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of (B, C, h, w) to the grid of `like`, corners not aligned; `x` itself if the grids are equal."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def resize_labels(labels: Tensor, like: Tensor) -> Tensor:
    """Nearest resize of (B, H, W) labels to the grid of `like` (B, C, h, w)."""
    if labels.shape[-2:] == like.shape[-2:]:
        return labels
    resized = F.interpolate(labels[:, None].to(torch.float32), size=like.shape[-2:], mode="nearest")
    return resized[:, 0].to(labels.dtype)
