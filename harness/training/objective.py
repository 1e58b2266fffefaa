"""The objective of a stage: a supervised loss plus a method's weighted terms, or a translator's terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base import Network
from harness.builders.distiller import Distiller
from harness.losses.base import Loss, LossParams
from harness.losses.cross_entropy import CrossEntropy
from harness.training.auxiliary import shallower
from harness.training.randomness import seed_all
from methods.base import Maps, Step, Translator

LABELS, AUXILIARY = "ce", "aux"
"""Names in records of the supervised loss and of the auxiliary head's loss."""


@dataclass
class Losses:
    """Losses of one iteration: the weighted sum, each unweighted term, and the discriminators' losses by method."""

    total: Tensor
    terms: dict[str, Tensor]
    discriminators: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of a global batch, computed in turn or by several processes.

    Attributes:
        number: index of the part, from 0.
        loss: weight of its loss, such that the sum over parts is the loss of the whole batch.
        images: its share of the images, the weight of methods' terms, which are means over images.
    """

    number: int = 0
    loss: Tensor | float = 1.0
    images: Tensor | float = 1.0


WHOLE = Part()
"""The whole batch in one process, without weighting."""


def purpose_of(purpose: str, part: Part) -> str:
    """The purpose of random numbers, distinct for each part of a batch."""
    return f"{purpose} {part.number}" if part.number else purpose


class SegmentationObjective(nn.Module):
    """A network's supervised loss plus a method's weighted terms. Teachers have no terms.

    Args:
        loss: cross-entropy by default.
        auxiliary: an auxiliary head, trained by the same loss with `auxiliary_weight`.
    """

    def __init__(
        self,
        network: Network,
        distiller: Distiller,
        seed: int,
        loss: Loss | None = None,
        auxiliary: nn.Module | None = None,
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.distiller, self.seed = network, distiller, seed
        self.loss = loss or CrossEntropy(LossParams())
        self.auxiliary, self.auxiliary_weight = auxiliary, auxiliary_weight
        self._steps: list[tuple[Step, Part]] = []

    @property
    def needs_teacher(self) -> bool:
        """Whether `forward` needs a teacher's maps."""
        return self.distiller.needs_teacher

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every term, by name."""
        auxiliary = {AUXILIARY: self.auxiliary_weight} if self.auxiliary is not None else {}
        return {LABELS: 1.0, **auxiliary, **self.distiller.weights}

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        iteration: int,
        iterations: int,
        teacher: Maps | None = None,
        part: Part = WHOLE,
    ) -> Losses:
        seed_all(self.seed, purpose_of("network", part), iteration)
        student = self.network(images)
        terms = {LABELS: self.loss(resized(student.logits, labels), labels)}
        if self.auxiliary is not None:
            shallow = self.auxiliary(shallower(student.features))
            terms[AUXILIARY] = self.loss(resized(shallow, labels), labels)
        step = Step(student, teacher, images, labels, iteration, iterations)
        seed_all(self.seed, purpose_of("method", part), iteration)
        total = weighted(terms[LABELS], 1.0, part.loss)
        if AUXILIARY in terms:
            total = total + weighted(terms[AUXILIARY], self.auxiliary_weight, part.loss)
        for name, (value, weight) in self.distiller(step).items():
            total = total + weighted(value, weight, part.images)
            terms[name] = value
        if self.distiller.discriminators():
            self._steps.append((step, part))
        return Losses(total, terms)

    def amount(self, labels: Tensor) -> Tensor:
        """The weight of a part's labels, a scalar."""
        return self.loss.amount(labels)

    def share_of(self, name: str, part: Part) -> Tensor | float:
        """The weight of a part in a term."""
        return part.loss if name in (LABELS, AUXILIARY) else part.images

    def discriminator_loss(self, discriminator: nn.Module) -> Tensor:
        """The discriminator's loss on the maps of the last iteration."""
        losses = (
            weighted(self.distiller.discriminator_loss(discriminator, step), 1.0, part.images)
            for step, part in self._steps
        )
        total = next(losses)
        for loss in losses:
            total = total + loss
        return total

    def forget(self) -> None:
        """Free the maps of the iteration, so that they do not occupy memory during other students' steps."""
        self._steps.clear()


def resized(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K, H, W), float32: logits (B, K, h, w), resized bilinearly to the size of labels (B, H, W)."""
    return F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)


def weighted(value: Tensor, weight: float, share: Tensor | float) -> Tensor:
    """A term times its weight, and times its share of the batch if there are several parts."""
    value = value if weight == 1.0 else weight * value
    return value if isinstance(share, float) and share == 1.0 else value * share


class TranslatorObjective(nn.Module):
    """The weighted terms of a translator on the frozen teacher's maps."""

    needs_teacher = True

    def __init__(self, translator: Translator, seed: int) -> None:
        super().__init__()
        self.network, self.seed = translator, seed

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        iteration: int,
        iterations: int,
        teacher: Maps | None = None,
        part: Part = WHOLE,
    ) -> Losses:
        assert teacher is not None
        seed_all(self.seed, purpose_of("translator", part), iteration)
        terms = self.network(teacher)
        total = sum((self.network.terms[name].weight * value for name, value in terms.items()), images.new_zeros(()))
        return Losses(weighted(total, 1.0, part.images), terms)

    def amount(self, labels: Tensor) -> Tensor:
        """Labels are not used."""
        return labels.new_zeros(())

    def share_of(self, name: str, part: Part) -> Tensor | float:
        """The weight of a part in a term."""
        return part.images
