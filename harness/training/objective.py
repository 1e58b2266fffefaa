"""What a stage minimises: cross-entropy plus a method's weighted terms, or a translator's own terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base import Network
from harness.builders.distiller import Distiller
from harness.training.randomness import seed_all
from methods.base import IGNORE, Maps, Step, Translator


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


class SegmentationObjective(nn.Module):
    """Cross-entropy of a network, plus a method's weighted terms. Teachers are trained by it with no terms."""

    def __init__(self, network: Network, distiller: Distiller, seed: int) -> None:
        super().__init__()
        self.network, self.distiller, self.seed = network, distiller, seed
        self._last_step: Step | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether `forward` must be given a teacher's maps."""
        return self.distiller.needs_teacher

    def forward(
        self, images: Tensor, labels: Tensor, iteration: int, iterations: int, teacher: Maps | None = None
    ) -> Losses:
        seed_all(self.seed, "network", iteration)
        student = self.network(images)
        total = cross_entropy(student.logits, labels)
        terms = {"ce": total}
        step = Step(student, teacher, images, labels, iteration, iterations)
        seed_all(self.seed, "method", iteration)
        for name, (value, weight) in self.distiller(step).items():
            total = total + weight * value
            terms[name] = value
        self._last_step = step
        return Losses(total, terms)

    def discriminator_loss(self, discriminator: nn.Module) -> Tensor:
        """The discriminator's loss on the maps of the iteration just done."""
        assert self._last_step is not None
        return self.distiller.discriminator_loss(discriminator, self._last_step)

    def forget(self) -> None:
        """The iteration is over: its maps need not be kept while other students take their steps."""
        self._last_step = None


class TranslatorObjective(nn.Module):
    """The weighted terms of a translator over the frozen teacher's maps."""

    needs_teacher = True

    def __init__(self, translator: Translator, seed: int) -> None:
        super().__init__()
        self.network, self.seed = translator, seed

    def forward(
        self, images: Tensor, labels: Tensor, iteration: int, iterations: int, teacher: Maps | None = None
    ) -> Losses:
        assert teacher is not None
        seed_all(self.seed, "translator", iteration)
        terms = self.network(teacher)
        total = sum((self.network.terms[name].weight * value for name, value in terms.items()), images.new_zeros(()))
        return Losses(total, terms)
