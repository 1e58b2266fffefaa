"""Test cases: sizes of fictitious networks at various output strides, and random maps of those sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.base import IGNORE, Sizes, Step

CLASSES = 5


@dataclass(frozen=True)
class Case:
    """Sizes of a student and a teacher, and of a batch."""

    label: str
    student: Sizes
    teacher: Sizes
    batch: int
    size: tuple[int, int]


def sizes(stride: int, channels: Sequence[int], last: int, last_stride: int | None = None) -> Sizes:
    """Sizes of a network with one backbone map per entry of `channels`, the deepest at the output stride.

    Args:
        stride: output stride.
        channels: channels of the backbone's maps, shallow to deep.
        last: channels of the classifier's input.
        last_stride: stride of the classifier's input, if the head upsamples; by default the output stride.
    """
    first = 6 - len(channels)
    strides = tuple(min(2**level, stride) for level in range(first, 6))
    head = last_stride or stride
    return Sizes(CLASSES, last, head, head, tuple(channels), strides)


SMALL, LARGE = (6, 8, 10, 12, 14), (9, 12, 15, 18)
CASES = (
    Case("teacher 8, student 16, odd sizes", sizes(16, SMALL, 14), sizes(8, LARGE, 20), 2, (65, 97)),
    Case("teacher 8, student 32, one image", sizes(32, SMALL, 14), sizes(8, LARGE, 20), 1, (96, 72)),
    Case("equal networks at stride 8", sizes(8, LARGE, 20), sizes(8, LARGE, 20), 3, (64, 64)),
    Case("teacher 16, student 4", sizes(4, SMALL, 14), sizes(16, LARGE, 20), 2, (40, 56)),
    Case("heads that upsample", sizes(16, SMALL, 16, 4), sizes(8, LARGE, 16, 4), 2, (64, 48)),
)
LABELS = ("blocks", "all ignored", "a class absent", "no pixel ignored")


@dataclass
class RandomMaps:
    """Random maps of given sizes."""

    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]

    def tensors(self) -> list[Tensor]:
        """All maps, in a fixed order."""
        return [self.logits, self.last, *self.features]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> RandomMaps:
        """Maps from tensors in the order of `tensors`."""
        return cls(tensors[0], tensors[1], tuple(tensors[2:]))

    def each(self, change: Callable[[Tensor], Tensor]) -> RandomMaps:
        """Apply a function to every map; the results are leaves that require gradients where the originals do."""
        return self.of([change(t.detach()).requires_grad_(t.requires_grad) for t in self.tensors()])

    def to(self, dtype: torch.dtype) -> RandomMaps:
        """The same values in another data type."""
        return self.each(lambda t: t.to(dtype))

    def at(self, order: Tensor) -> RandomMaps:
        """The maps with the images of the batch reordered."""
        return self.each(lambda t: t[order])


def random_maps(of: Sizes, batch: int, size: tuple[int, int], generator: torch.Generator, grad: bool) -> RandomMaps:
    """Maps of a network of these sizes for (batch, 3, *size) images, in float64."""

    def draw(channels: int, stride: int) -> Tensor:
        shape = (batch, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)

    features = tuple(draw(c, s) for c, s in zip(of.features, of.strides, strict=True))
    # If the head does not change the map, the classifier's input is the backbone's last map.
    return RandomMaps(draw(of.classes, of.logits_stride), draw(of.last, of.last_stride), features)


def made_labels(kind: str, batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Labels (batch, *size) in blocks of 8×8 pixels, as `LABELS` names them."""
    rows, columns = math.ceil(size[0] / 8), math.ceil(size[1] / 8)
    blocks = torch.randint(0, CLASSES, (batch, rows, columns), generator=generator)
    if kind == "a class absent":
        blocks[blocks == 1] = 0
    elif kind != "no pixel ignored":
        hidden = torch.rand(blocks.shape, generator=generator) < 0.15
        blocks = blocks.masked_fill(hidden, IGNORE)
    if kind == "all ignored":
        blocks = torch.full_like(blocks, IGNORE)
    return blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]].contiguous()


def random_step(
    case: Case, seed: int = 0, labels: str = "blocks", dtype: torch.dtype = torch.float64, iteration: int = 0
) -> Step:
    """One iteration of a case: maps of student (requiring gradients) and teacher, images and labels."""
    generator = torch.Generator().manual_seed(seed)
    student = random_maps(case.student, case.batch, case.size, generator, grad=True).to(dtype)
    teacher = random_maps(case.teacher, case.batch, case.size, generator, grad=False).to(dtype)
    images = torch.randn((case.batch, 3, *case.size), generator=generator, dtype=torch.float64).to(dtype)
    return Step(student, teacher, images, made_labels(labels, case.batch, case.size, generator), iteration, 10)


def step_to(step: Step, dtype: torch.dtype) -> Step:
    """A random step with maps and images in another data type; labels are unchanged."""
    assert isinstance(step.student, RandomMaps)
    teacher = step.teacher.to(dtype) if isinstance(step.teacher, RandomMaps) else None
    return replace(step, student=step.student.to(dtype), teacher=teacher, images=step.images.to(dtype))


def step_tensors(step: Step) -> dict[str, Tensor]:
    """All tensors of a random step, by a name for error messages."""
    found = {"images": step.images, "labels": step.labels}
    for who, maps in (("student", step.student), ("teacher", step.teacher)):
        if isinstance(maps, RandomMaps):
            names = ["logits", "last", *(f"features[{i}]" for i in range(len(maps.features)))]
            found |= {f"{who} {name}": t for name, t in zip(names, maps.tensors(), strict=True)}
    return found
