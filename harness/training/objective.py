"""What a stage minimises: cross-entropy plus a method's weighted terms, or a translator's own terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base import Maps, Network
from harness.builders.distiller import Distiller
from harness.training.randomness import seed_all
from methods.base import IGNORE, Step, Translator

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TeacherNorm = Literal["running", "batch"]


@dataclass
class Losses:
    """Of one iteration: the weighted sum, each unweighted term, and the discriminators' own losses by method."""

    total: Tensor
    terms: dict[str, Tensor]
    discriminators: dict[str, Tensor] = field(default_factory=dict)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over pixels that count; zero, with zero gradients, where none does.

    Args:
        logits: (B, K, h, w), brought to the labels' size bilinearly.
        labels: (B, H, W), `IGNORE` for pixels that do not count.
    """
    logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def renormalise(images: Tensor, source: Network, target: Network) -> Tensor:
    """Images normalised for one network, normalised for another."""
    if (source.backbone.mean, source.backbone.std) == (target.backbone.mean, target.backbone.std):
        return images
    as_row = lambda values: images.new_tensor(values)[:, None, None]  # noqa: E731
    pixels = images * as_row(source.backbone.std) + as_row(source.backbone.mean)
    return (pixels - as_row(target.backbone.mean)) / as_row(target.backbone.std)


class SegmentationObjective(nn.Module):
    """Cross-entropy of a network, plus a method's weighted terms. Teachers are trained by it with no terms.

    The teacher is held outside the module tree: it is frozen, in eval mode, and neither saved nor wrapped.
    """

    def __init__(
        self,
        network: Network,
        distiller: Distiller,
        teacher: Network | None,
        seed: int,
        teacher_norm: TeacherNorm = "running",
    ) -> None:
        super().__init__()
        self.network, self.distiller, self.seed = network, distiller, seed
        self._teacher = (freeze(teacher, teacher_norm) if teacher is not None and distiller.needs_teacher else None,)

    def forward(self, images: Tensor, labels: Tensor, iteration: int, iterations: int) -> Losses:
        seed_all(self.seed, "network", iteration)
        student = self.network(images)
        total = cross_entropy(student.logits, labels)
        terms = {"ce": total}
        step = Step(student, self._taught(images), images, labels, iteration, iterations)
        seed_all(self.seed, "method", iteration)
        for name, (value, weight) in self.distiller(step).items():
            total = total + weight * value
            terms[name] = value
        self._last_step = step
        return Losses(total, terms)

    def discriminator_loss(self, discriminator: nn.Module) -> Tensor:
        """The discriminator's loss on the maps of the iteration just done."""
        return self.distiller.discriminator_loss(discriminator, self._last_step)

    def _taught(self, images: Tensor) -> Maps | None:
        teacher = self._teacher[0]
        if teacher is None:
            return None
        return frozen_maps(teacher, renormalise(images, self.network, teacher))


class TranslatorObjective(nn.Module):
    """The weighted terms of a translator over the frozen teacher's maps."""

    def __init__(
        self, translator: Translator, teacher: Network, seed: int, teacher_norm: TeacherNorm = "running"
    ) -> None:
        super().__init__()
        self.network, self.seed = translator, seed
        self._teacher = (freeze(teacher, teacher_norm),)

    def forward(self, images: Tensor, labels: Tensor, iteration: int, iterations: int) -> Losses:
        seed_all(self.seed, "translator", iteration)
        terms = self.network(self.maps(images))
        total = sum((self.network.terms[name].weight * value for name, value in terms.items()), images.new_zeros(()))
        return Losses(total, terms)

    def maps(self, images: Tensor) -> Maps:
        """The teacher's maps, fit for a backward pass through the translator."""
        return frozen_maps(self._teacher[0], images)


def frozen_maps(network: nn.Module, images: Tensor) -> Maps:
    """A frozen network's maps, fit for a backward pass through what reads them."""
    with torch.inference_mode():
        maps = network(images)
    # Inference tensors cannot be saved for backward; a clone made outside inference mode can.
    return Maps(maps.logits.clone(), maps.last.clone(), tuple(f.clone() for f in maps.features))


def freeze(network: AnyModule, norm: TeacherNorm = "running") -> AnyModule:
    """Eval mode, and no gradients to its parameters.

    Args:
        norm: "batch" lets batch norms use each batch's own statistics; their running averages stay as they are.
    """
    network.eval().requires_grad_(False)
    if norm == "batch":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
                module.track_running_stats = False
    return network
