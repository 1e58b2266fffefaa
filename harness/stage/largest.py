"""An evaluation of the largest image before training: what it cannot take is said in the first seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backbones.base import Network
from harness.data.base import Sample, Split
from harness.evaluation.evaluate import Evaluation, evaluate
from harness.stage.member import Member


class Noise(Split):
    """So many images of one size, of noise."""

    def __init__(self, size: tuple[int, int], count: int) -> None:
        self._size, self._count = size, count

    @property
    def names(self) -> Sequence[str]:
        return [f"noise-{index}" for index in range(self._count)]

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*self._size, 3), np.uint8)
        return Sample(self.names[index], image, np.zeros(self._size, np.uint8))


def evaluate_noise(member: Member, size: tuple[int, int], count: int) -> Evaluation:
    """The stage's network on so many images of a size (height, width), as its recipe evaluates.

    Raises:
        HarnessError: memory does not suffice, even in tiles.
    """
    context, network, recipe = member.context, member.trained, member.context.spec.recipe
    assert isinstance(network, Network)
    return evaluate(
        network,
        Noise(size, count),
        classes=context.classes,
        mean=network.backbone.mean,
        std=network.backbone.std,
        eval_size=recipe.eval_size,
        device=context.device,
        precision=member.decision.precision,
        channels_last=member.decision.channels_last,
        batch_size=count,
        protocol=recipe.evaluation,
    )
