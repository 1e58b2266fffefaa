"""The frozen teacher of a cohort: run once per batch for all students that learn from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from backbones.base import Backbone, Network
from backbones.folding import fold_batch_norms
from harness.numerics.frozen import pack_convolutions
from harness.numerics.modes import autocast
from harness.specs.spec import Precision
from harness.training.timing import Piece

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TeacherNorm = Literal["running", "batch"]


@dataclass(frozen=True)
class TeacherMaps:
    """A teacher's maps of one batch, shared by students, with a cache of values derived from them.

    Attributes:
        logits, last, features: as in `NetworkMaps`, without gradients.
        work: time of the teacher's forward pass.
        asked, computed: derived values that the current student requested, and those of them computed in its step.
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
        """The implementation of `methods.base.memo`."""
        # Autocast changes the results of operators, so it is part of the cache key.
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
        """Whether no tensor was modified in place."""
        return all(tensor._version == version for tensor, version in self._versions)

    def begin(self) -> None:
        """Start the step of a student."""
        self.asked[:] = [self.work]
        self.computed.clear()


class Teacher:
    """A frozen network that computes each batch's maps once per precision of the students.

    Batch norms with running statistics are folded into the convolutions, and on a CPU the convolutions' weights are
    packed once. The maps depend only on the batch and the precision, not on the students.

    Args:
        network: the network, on its device.
        norm: see `freeze`.
        size: (H, W) of the images.
        layout: precision -> memory layout in which its convolutions are right; asked once for each precision.
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
        pack_convolutions(self._network)
        self._layout = cache(layout)
        self._now: torch.memory_format = torch.contiguous_format
        self._maps: dict[tuple[Precision, tuple[int, int]], TeacherMaps] = {}
        self.passes: list[Piece] = []
        """Times of forward passes; the reader clears the list."""

    def maps(
        self, images: Tensor, source: Backbone, precision: Precision, rows: tuple[int, int] | None = None
    ) -> TeacherMaps:
        """The maps of the current batch, or of a part of it.

        Args:
            images: (B, 3, H, W), normalised for `source`; equal in all calls until `forget`.
            precision: precision of the student.
            rows: first and last + 1 image of the part; by default all.
        """
        place = (precision, rows or (0, len(images)))
        found = self._maps.get(place)
        if found is None or not found.intact():  # third-party code may have modified them
            found = self._maps[place] = self._ask(renormalise(images, source, self.backbone), precision)
            self.passes.append(found.work)
        found.begin()
        return found

    @property
    def network(self) -> nn.Module:
        """The frozen network, with folded batch norms."""
        return self._network

    def forget(self) -> None:
        """Drop the maps before the next batch."""
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
    """Convert images normalised for one backbone to the normalisation of another."""
    if (source.mean, source.std) == (target.mean, target.std):
        return images
    as_row = lambda values: images.new_tensor(values)[:, None, None]  # noqa: E731
    pixels = images * as_row(source.std) + as_row(source.mean)
    return (pixels - as_row(target.mean)) / as_row(target.std)


def freeze(network: AnyModule, norm: TeacherNorm = "running") -> AnyModule:
    """Set a network to eval mode and disable gradients of its parameters.

    Args:
        norm: "batch" makes batch norms use each batch's statistics, without updating their running averages.
    """
    network.eval().requires_grad_(False)
    if norm == "batch":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
                module.track_running_stats = False
    return network
