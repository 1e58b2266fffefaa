"""The discriminator of adversarial terms: it separates the teacher's score maps from the student's, given the image.

    hinge    L_D = E[max(0, 1 − D(T))] + E[max(0, 1 + D(S))],   expectations over images and patches
    wgan-gp  L_D = −E[D(T)] + E[D(S)] + λ_gp E[(‖∇D(x̂)‖₂ − 1)²],   x̂ on the line between T and S
    student  L_S = −E[D(S)]   under both

A method with an adversarial term is an `AdversarialMethod`: in `setup` it calls `build_discriminator()` when the term
is active, and its `adversarial_loss(step)` is the term.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Method, Params, Step
from methods.parts.grids import Grid, align, regrid
from methods.parts.precision import full_precision, precise, safe_sqrt
from methods.parts.spectral import SpectralConv2d

AdversarialLoss = Literal["hinge", "wgan-gp"]

DISCRIMINATOR_RECIPE: Mapping[str, Any] = {"name": "adam", "lr": 4e-4, "betas": (0.9, 0.99)}
"""Optimiser of the discriminator. The references' loss weight of 0.1 is left out: Adam cancels it."""


class DiscriminatorFields(Params):
    """Fields of a method with an adversarial term."""

    adv_loss: AdversarialLoss = Field("hinge", description="loss of the discriminator")
    adv_image: bool = Field(True, description="give the discriminator the image in addition to the scores")
    adv_width: int = Field(64, ge=1, description="channels of the discriminator's first layer")
    adv_size: int = Field(64, ge=1, description="scores larger than this, on either side, are averaged down to it")
    adv_penalty: float = Field(10.0, ge=0, description="weight λ_gp of the gradient penalty of wgan-gp")

    def build_discriminator(self, classes: int) -> Discriminator:
        """The untrained discriminator for that many classes."""
        return Discriminator(
            classes,
            loss=self.adv_loss,
            image=self.adv_image,
            width=self.adv_width,
            size=self.adv_size,
            penalty=self.adv_penalty,
        )


class AdversarialMethod(Method):
    """A method with one adversarial term on logits; its parameters are `DiscriminatorFields` with a field `align`."""

    adversarial_term: ClassVar[str] = "adversarial"
    discriminator_recipe = DISCRIMINATOR_RECIPE
    discriminator: Discriminator

    def build_discriminator(self) -> None:
        """Build the discriminator, in `setup`."""
        assert isinstance(self.params, DiscriminatorFields)
        self.discriminator = self.params.build_discriminator(self.student.classes)

    def adversarial_loss(self, step: Step) -> Tensor:
        """The term: the discriminator's loss for the student."""
        student, _ = self._logits(step)
        return self.discriminator.student_loss(student, step.images)

    def get_discriminator(self) -> nn.Module | None:
        """The discriminator, or None while its term is not active."""
        return self.discriminator if self.adversarial_term in self.active else None

    def discriminator_loss(self, step: Step) -> Tensor:
        """The discriminator's loss on logits brought to one grid."""
        student, teacher = self._logits(step)
        return self.discriminator.discriminator_loss(student, teacher, step.images)

    def _logits(self, step: Step) -> tuple[Tensor, Tensor]:
        grid: Grid = self.params.align  # type: ignore[attr-defined]  # declared by the method
        return align(step.student.logits, step.teacher_maps.logits, grid)


class SelfAttention(nn.Module):
    """Self-attention over positions, added with a learned factor that starts at zero: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = SpectralConv2d(channels, inner, 1)
        self.key = SpectralConv2d(channels, inner, 1)
        self.value = SpectralConv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, parts: int = 1) -> Tensor:
        """x + gain · softmax(QᵀK) V; `parts` as in `SpectralConv2d`."""
        query, key, value = (layer(x, parts).flatten(2) for layer in (self.query, self.key, self.value))
        attention = (query.mT @ key).softmax(dim=-1)
        result: Tensor = x + self.gain * (value @ attention.mT).reshape(x.shape)
        return result


class Discriminator(nn.Module):
    """Four strided convolutions under spectral norm, self-attention, one score per patch.

    It works at the resolution of the scores, up to `size`, so its cost scales with their grid.

    Args:
        classes: channels of the score maps.
        loss: "hinge" or "wgan-gp".
        image: append the image, brought to the scores' grid, to its input.
        width: channels of the first layer; each further layer has twice as many.
        size: larger maps are averaged down to this.
        penalty: λ_gp of "wgan-gp".
    """

    def __init__(
        self,
        classes: int,
        *,
        loss: AdversarialLoss = "hinge",
        image: bool = True,
        width: int = 64,
        size: int = 64,
        penalty: float = 10.0,
    ) -> None:
        super().__init__()
        self.loss, self.image, self.size, self.penalty = loss, image, size, penalty
        layers: list[nn.Module] = []
        wide = classes + 3 * image
        for index in range(4):
            layers += [SpectralConv2d(wide, width << index, 3, 2, padding=1), nn.LeakyReLU(0.1)]
            wide = width << index
            if index == 2:
                layers.append(SelfAttention(wide))
        self.layers = nn.Sequential(*layers, SpectralConv2d(wide, 1, 1))

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Scores (B, patches), high for maps like the teacher's: logits (B, K, h, w), images (B, 3, H, W)."""
        return self._scores((logits,), images)[0]

    def _scores(self, maps: Sequence[Tensor], images: Tensor) -> Sequence[Tensor]:
        """The scores of each map, as if one were passed after the other; in one pass over the layers."""
        with full_precision(maps[0]):
            x = self._inputs(torch.cat([precise(logits) for logits in maps]), images)
            for layer in self.layers:
                x = layer(x, len(maps)) if isinstance(layer, SpectralConv2d | SelfAttention) else layer(x)
            return x.flatten(1).chunk(len(maps))

    def student_loss(self, student: Tensor, images: Tensor) -> Tensor:
        """−E[D(S)]. Gradients flow into the student, not into the discriminator."""
        with _frozen(self):
            return -self.forward(student, images).mean()

    def discriminator_loss(self, student: Tensor, teacher: Tensor, images: Tensor) -> Tensor:
        """L_D for logits of student and teacher on one grid; both are detached."""
        student, teacher = student.detach(), teacher.detach()
        real, fake = self._scores((teacher, student), images)
        if self.loss == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return fake.mean() - real.mean() + self.penalty * self._gradient_penalty(student, teacher, images)

    def _inputs(self, logits: Tensor, images: Tensor) -> Tensor:
        height, width = logits.shape[-2:]
        if max(height, width) > self.size:
            grid = logits.new_empty(0, 1, min(height, self.size), min(width, self.size))
            logits = regrid(logits, grid)
        if not self.image:
            return logits.contiguous()
        beside = regrid(images.to(logits.dtype), logits)
        beside = beside.repeat(len(logits) // len(images), 1, 1, 1)
        return torch.cat((logits.contiguous(), beside.contiguous()), dim=1)

    def _gradient_penalty(self, student: Tensor, teacher: Tensor, images: Tensor) -> Tensor:
        with torch.enable_grad(), full_precision(student):
            student, teacher = precise(student), precise(teacher)
            mix = torch.rand(student.shape[0], 1, 1, 1, device=student.device, dtype=student.dtype)
            between = (mix * teacher + (1 - mix) * student).requires_grad_()
            (gradient,) = torch.autograd.grad(self(between, images).mean(dim=1).sum(), between, create_graph=True)
            return (safe_sqrt(gradient.flatten(1).square().sum(dim=1)) - 1).square().mean()


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Freeze the module's parameters for computations inside this context."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
