"""Parts that several methods share: learned adapters, grids, full precision, and the one per-pixel KL term.

Two rules hold in every method that is built from these parts.

*Grids.* Student and teacher maps of different strides are brought to one grid by `regrid`: bilinear where the target
is finer, area averages where it is coarser. Which of the two grids is used is a parameter, `align`; the teacher's is
the default, so that nothing the teacher says is lost. `teacher-corners` and `student-corners` are the same grids with
bilinear resizing that aligns the corners, both ways: what most published code does.

*Precision.* Losses are computed in float32 at least, also under autocast; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import IGNORE, Maps, Params, Sizes, Step, Term, resize_labels

Grid = Literal["teacher", "student", "teacher-corners", "student-corners"]
"""The grid on which student and teacher are compared, and how the other map is resized to it."""
Source = Literal["last", "deep"]
"""Which map a feature method reads: what the classifier reads, or the backbone's deepest map."""
Reduction = Literal["pixels", "elements", "batch"]


# --- precision -------------------------------------------------------------------------------------------------------


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Switch autocast off on the device of `like`, so that what is cast up stays up."""
    with torch.autocast(device_type=like.device.type, enabled=False):
        yield


def precise(x: Tensor) -> Tensor:
    """The tensor in float32 at least: half precision is cast up, float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root of what is non-negative up to rounding; 0 with gradient 0 (not infinity) at and below zero."""
    positive = x > torch.finfo(x.dtype).tiny
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))


def unit(x: Tensor, dim: int = 1, eps: float = 1e-6) -> Tensor:
    """x / max(‖x‖₂, eps) along `dim`. A zero vector stays zero, and its gradient stays finite."""
    norm = safe_sqrt((x * x).sum(dim, keepdim=True))
    return x / norm.clamp_min(eps)


def p_norm(x: Tensor, p: float) -> Tensor:
    """‖x‖_p over channels, (B, C, ...) -> (B, ...), p ≥ 1. Its gradient is finite where it is zero."""
    if p == 1:
        return x.abs().sum(dim=1)
    if p == 2:
        return safe_sqrt(x.square().sum(dim=1))
    # Taken relative to the largest entry, so that no power over- or underflows.
    largest = x.abs().amax(dim=1, keepdim=True).detach()
    ratio = x.abs() / largest.clamp_min(torch.finfo(x.dtype).tiny)
    total = ratio.pow(p).sum(dim=1)
    return torch.where(total > 0, total.clamp_min(1e-30).pow(1 / p), torch.zeros_like(total)) * largest[:, 0]


# --- grids -----------------------------------------------------------------------------------------------------------


def regrid(x: Tensor, like: Tensor) -> Tensor:
    """Bring (B, C, h, w) to the grid of `like`: area averages where that is coarser, bilinear where it is finer.

    Bilinear does not align corners. The same tensor comes back when the grids are equal.
    """
    (h, w), (height, width) = x.shape[-2:], like.shape[-2:]
    if (h, w) == (height, width):
        return x
    if height > h or width > w:
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    if h % height == 0 and w % width == 0:
        # Same numbers as below; but its backward pass is deterministic on a GPU.
        return F.avg_pool2d(x, (h // height, w // width))
    return F.adaptive_avg_pool2d(x, (height, width))


def align(student: Tensor, teacher: Tensor, grid: Grid = "teacher") -> tuple[Tensor, Tensor]:
    """(student, teacher) on one grid, the teacher's or the student's, by `regrid` or with aligned corners."""
    whose, _, corners = grid.partition("-")
    resized = _with_corners if corners else regrid
    if whose == "teacher":
        return resized(student, teacher), teacher
    return student, resized(teacher, student)


def _with_corners(x: Tensor, like: Tensor) -> Tensor:
    """Bring (B, C, h, w) to the grid of `like`, bilinearly, with corners aligned."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def pick(maps: Maps, source: Source) -> Tensor:
    """The feature map a method reads: `last`, or the deepest of the backbone's."""
    return maps.last if source == "last" else maps.features[-1]


def channels(sizes: Sizes, source: Source) -> int:
    """Channels of the map that `pick` gives."""
    return sizes.last if source == "last" else sizes.features[-1]


# --- adapters --------------------------------------------------------------------------------------------------------


class Adapter(nn.Module):
    """A learned map between feature spaces, used while training and then dropped.

    Every learned map of a method or translator that merely carries features from one space to another is one of these
    (or extends it), so that `identity_adapters` finds it.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h', w')."""
        result: Tensor = self.layers(x)
        return result


class IdentityAdapter(Adapter):
    """What `identity_adapters` puts in an adapter's place."""

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        return x


def adapter(
    inputs: int, outputs: int, kernel: int = 1, *, bias: bool = False, norm: bool = False, relu: bool = False
) -> Adapter:
    """A convolution of stride 1 that keeps the grid, then batch norm and ReLU if asked.

    Args:
        inputs, outputs: channels.
        kernel: odd size of the convolution.
        bias: give the convolution a bias.
        norm: batch norm after it.
        relu: ReLU at the end.
    """
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    if relu:
        layers.append(nn.ReLU())
    return Adapter(*layers)


def identity_adapters(module: nn.Module) -> int:
    """Replace every `Adapter` inside `module` by the identity; how many there were.

    This is how a loss is compared with another implementation, or with its formula, on given arrays. Student and
    teacher then need equal channels. A method's translator is no submodule of it: call this on the translator too.
    """
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, Adapter):
            setattr(module, name, IdentityAdapter())
            count += 1
        else:
            count += identity_adapters(child)
    return count


def has_adapters(module: nn.Module) -> bool:
    """Whether `module` holds any `Adapter`."""
    return any(isinstance(child, Adapter) for child in module.modules())


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuse maps that cannot be subtracted.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student map {tuple(student.shape)} and teacher map {tuple(teacher.shape)} cannot be compared: "
            "their shapes (B, C, h, w) must be equal"
        )


# --- per-pixel distillation of logits --------------------------------------------------------------------------------


def pixel_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    tau: float = 1.0,
    reduction: Reduction = "pixels",
    labels: Tensor | None = None,
) -> Tensor:
    """τ² · KL(softmax(T/τ) ‖ softmax(S/τ)) over classes, at every pixel (Hinton et al., 2015).

    Args:
        student, teacher: logits (B, K, h, w) on one grid.
        tau: temperature τ.
        reduction: divide the sum by the number of pixels ("pixels": B·h·w), of elements ("elements": B·K·h·w), or of
            images ("batch": B).
        labels: (B, H, W); pixels labelled `IGNORE` (after nearest resizing) are left out of the sum and of the count.
            None to keep all.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        target = F.log_softmax(precise(teacher) / tau, dim=1)
        log_student = F.log_softmax(precise(student) / tau, dim=1)
        kl = (target.exp() * (target - log_student)).sum(dim=1)
        batch, classes, height, width = student.shape
        count = torch.full((), batch * height * width, dtype=kl.dtype, device=kl.device)
        if labels is not None:
            valid = resize_labels(labels, student) != IGNORE
            kl = kl * valid
            count = valid.sum().to(kl.dtype)
        divisor = {"pixels": count, "elements": count * classes, "batch": torch.full_like(count, batch)}[reduction]
        return kl.sum() / divisor.clamp_min(1) * tau**2


KD_TERM = Term(weight=1.0, summary="KL of the teacher's and the student's class distributions at every pixel")
"""The term `kd` that CIRKD's recipes add to every method. Take it off by `-kd`."""


class KDFields(Params):
    """Fields of a method that adds the term `kd`. Computed by `kd_term`."""

    kd_tau: float = Field(1.0, gt=0, description="temperature of the kd term")
    kd_align: Grid = Field("teacher", description="grid on which the kd term compares logits")
    kd_mask_ignored: bool = Field(False, description="leave ignored pixels out of the kd term")
    kd_reduction: Reduction = Field("pixels", description="what the kd term's sum is divided by the number of")


def kd_term(step: Step, params: KDFields) -> Tensor:
    """The term `kd`: `pixel_kl` of a step's logits, under the method's fields."""
    student, teacher = align(step.student.logits, step.taught.logits, params.kd_align)
    return pixel_kl(
        student,
        teacher,
        tau=params.kd_tau,
        reduction=params.kd_reduction,
        labels=step.labels if params.kd_mask_ignored else None,
    )
