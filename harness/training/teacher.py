"""The frozen teacher of a cohort: run once per batch for all students that learn from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from backbones.base import Backbone, Network
from backbones.folding import fold_batch_norms
from harness.numerics.modes import autocast
from harness.specs.spec import Precision
from harness.training.timing import Piece

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TeacherNorm = Literal["running", "batch"]


@dataclass(frozen=True)
class TeacherMaps:
    """A teacher's maps of one batch, shared by students, and what was computed from them alone.

    Attributes:
        logits, last, features: as in `NetworkMaps`; without gradients, fit for a backward pass through what reads them.
        work: the time of the teacher's forward pass.
        asked, computed: the work that the student at hand has asked for, and of that what was done in its own step.
    """

    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]
    work: Piece
    asked: list[Piece] = field(default_factory=list)
    computed: list[Piece] = field(default_factory=list)
    _remembered: dict[Hashable, tuple[Any, Piece]] = field(default_factory=dict)
    _versions: list[tuple[Tensor, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._watch(self.logits, self.last, *self.features)

    def memo(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What `methods.base.memo` gives."""
        # Autocast changes what operators give, so that what was computed under it is another value.
        kind = self.logits.device.type
        place = (key, torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind))
        if place not in self._remembered:
            with Piece(self.logits.device) as work, torch.no_grad():
                value = compute()
            self._remembered[place] = (value, work)
            self._watch(*(value if isinstance(value, tuple) else (value,)))
            self.computed.append(work)
        value, work = self._remembered[place]
        if work not in self.asked:
            self.asked.append(work)
        return value

    def _watch(self, *values: Any) -> None:
        self._versions.extend((value, value._version) for value in values if isinstance(value, Tensor))

    def intact(self) -> bool:
        """Nothing of it was changed in place."""
        return all(tensor._version == version for tensor, version in self._versions)

    def begin(self) -> None:
        """A student begins its step."""
        self.asked[:] = [self.work]
        self.computed.clear()


class Teacher:
    """A frozen network that gives each batch's maps once for every precision in which students are trained.

    Its batch norms are folded into its convolutions where they use running statistics. What it gives depends on the
    batch and on the precision alone, and not on who asks or how many do.

    Args:
        network: on its device.
        norm: see `freeze`.
        size: (H, W) of the images that it will see.
        layout: precision -> memory layout in which its convolutions are right.
    """

    def __init__(
        self,
        network: Network,
        norm: TeacherNorm = "running",
        size: tuple[int, int] = (64, 64),
        layout: Callable[[Precision], torch.memory_format] = lambda _: torch.contiguous_format,
    ) -> None:
        freeze(network, norm)
        self.backbone = network.backbone
        self._network = fold_batch_norms(network, size) if norm == "running" else network
        self._layout = layout
        self._now: torch.memory_format = torch.contiguous_format
        self._maps: dict[tuple[Precision, tuple[int, int]], TeacherMaps] = {}
        self.passes: list[Piece] = []
        """The work of forward passes; whoever reads it clears it."""

    def maps(
        self, images: Tensor, source: Backbone, precision: Precision, rows: tuple[int, int] | None = None
    ) -> TeacherMaps:
        """The maps of the batch at hand, or of a part of it.

        Args:
            images: (B, 3, H, W), normalised for `source`, the same for all that ask until `forget`.
            precision: that of the student.
            rows: first and last + 1 of the images in the batch; all by default.
        """
        place = (precision, rows or (0, len(images)))
        found = self._maps.get(place)
        if found is None or not found.intact():  # a method of others may have written to what it was given
            found = self._maps[place] = self._ask(renormalise(images, source, self.backbone), precision)
            self.passes.append(found.work)
        found.begin()
        return found

    @property
    def network(self) -> nn.Module:
        """The frozen network itself, folded."""
        return self._network

    def forget(self) -> None:
        """The next batch begins."""
        self._maps.clear()

    def _ask(self, images: Tensor, precision: Precision) -> TeacherMaps:
        layout = self._layout(precision)
        if layout is not self._now:
            self._network.to(memory_format=layout)  # type: ignore[call-overload]
            self._now = layout
        with Piece(images.device) as work, torch.no_grad(), autocast(images.device, precision):
            maps = self._network(images.contiguous(memory_format=layout))
        return TeacherMaps(maps.logits, maps.last, tuple(maps.features), work)


def renormalise(images: Tensor, source: Backbone, target: Backbone) -> Tensor:
    """Images normalised for one backbone, normalised for another."""
    if (source.mean, source.std) == (target.mean, target.std):
        return images
    as_row = lambda values: images.new_tensor(values)[:, None, None]  # noqa: E731
    pixels = images * as_row(source.std) + as_row(source.mean)
    return (pixels - as_row(target.mean)) / as_row(target.std)


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
