"""Cross-image relational distillation: similarities of pixels across the images of a batch, and to memories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.base import IGNORE, Maps, Method, MethodParams, Step, Term, resize_labels
from methods.parts.adapters import Adapter
from methods.parts.grids import Grid, Source, align, channels, from_teacher, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise, unit
from methods.parts.products import products

BLOCK = {"cpu": 1 << 20}
"""Similarities computed at once, so that they stay in a processor's cache."""
LARGE_BLOCK = 1 << 22
"""The same on other devices."""


# --- relations -------------------------------------------------------------------------------------------------------


def relation_kl(
    student: Tensor, teacher: Tensor, student_keys: Tensor, teacher_keys: Tensor, tau: float, block: int | None = None
) -> Tensor:
    """Σ over rows and groups of KL( softmax(t·K_t/τ) ‖ softmax(s·K_s/τ) ), softmax over the keys of a group.

    The gradient is computed together with the value, block by block, so that no matrix of similarities is kept.

    Args:
        student: rows (n, C). Student and teacher may differ in channels; each must match its own keys.
        teacher: rows (n, C'). No gradient flows into the teacher's rows and keys.
        student_keys: (G, m, C).
        teacher_keys: (G, m, C').
        tau: temperature τ.
        block: at most this many similarities are computed at once (but at least one row's).

    Returns:
        A scalar; 0 when there are no rows.
    """
    block = block or BLOCK.get(student.device.type, LARGE_BLOCK)
    count = max(1, block // max(student_keys.shape[0] * student_keys.shape[1], 1))
    with full_precision(student):
        return _RelationKL.apply(student, teacher, student_keys, teacher_keys, tau, count)  # type: ignore[no-untyped-call,no-any-return]


class _RelationKL(torch.autograd.Function):
    """With z the student's similarities over τ, the gradient is ∂KL/∂z = softmax(z) − softmax(teacher's)."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, student_keys: Tensor, teacher_keys: Tensor, tau: float, count: int
    ) -> Tensor:
        """`count` rows are computed at once."""
        total = student.new_zeros(())
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        to_rows: list[Tensor] = []
        to_keys = torch.zeros_like(student_keys) if wanted[1] else None
        for s, t in zip(torch.split(student, count), torch.split(teacher, count), strict=True):
            with torch.set_grad_enabled(any(wanted)):
                leaves = [x.detach().requires_grad_(asked) for x, asked in zip((s, student_keys), wanted)]
                similar = _similarities(leaves[0], leaves[1], tau)
            target = F.log_softmax(_similarities(t, teacher_keys, tau), dim=-1)
            ours = F.log_softmax(similar.detach(), dim=-1)
            expected = target.exp()
            total += (target.sub_(ours).mul_(expected)).sum()
            if any(wanted):
                asked = [leaf for leaf in leaves if leaf.requires_grad]
                found = list(torch.autograd.grad(similar, asked, ours.exp_().sub_(expected)))
                if wanted[0]:
                    to_rows.append(found.pop(0))
                if to_keys is not None:
                    to_keys += found.pop(0)
        ctx.save_for_backward(torch.cat(to_rows) if to_rows else None, to_keys)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_rows, to_keys = (None if saved is None else saved * gradient for saved in ctx.saved_tensors)
        return to_rows, None, to_keys, None, None, None


def _similarities(rows: Tensor, keys: Tensor, tau: float) -> Tensor:
    """(n, C), (G, m, C) -> (n, G, m)."""
    return products(rows / tau, keys.flatten(0, 1)).reshape(rows.shape[0], keys.shape[0], keys.shape[1])


def unit_positions(x: Tensor, pool: int = 1) -> Tensor:
    """Unit feature vectors, position by position: (B, C, h, w) -> (B, m, C), after average pooling to m positions."""
    x = F.avg_pool2d(precise(x), pool, ceil_mode=True) if pool > 1 else precise(x)
    return unit(x.flatten(2)).mT


def pixel_relations(
    student: Tensor,
    teacher: Tensor,
    tau: float = 0.1,
    anchors: Tensor | None = None,
    block: int | None = None,
) -> Tensor:
    """Mean over ordered pairs of images (i, j), i = j too, and positions a of i, of KL between rows of similarities.

        L = 1/(B² m) Σ_ij Σ_a KL( softmax(T_i,a · T_jᵀ / τ) ‖ softmax(S_i,a · S_jᵀ / τ) )

    Args:
        student: unit vectors (B, m, C).
        teacher: unit vectors (B, m, C'). Only similarities are compared, so channels may differ.
        tau: temperature τ.
        anchors: indices of the positions a, the same in every image; None for all m.
        block: see `relation_kl`.

    Raises:
        ValueError: batch or number of positions differ.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(f"relations of {tuple(student.shape)} and {tuple(teacher.shape)} (B, m, C) cannot be compared")
    s, t = (student, teacher) if anchors is None else (student[:, anchors], teacher[:, anchors])
    total = relation_kl(s.flatten(0, 1), t.flatten(0, 1), student, teacher, tau, block)
    return total / (s.shape[0] * s.shape[1] * student.shape[0])


# --- randomness ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeds:
    """Seeds of an iteration's random choices, so that no choice depends on which terms are active."""

    anchors: int
    pixels: int
    pixel_keys: int
    region_keys: int

    @classmethod
    def draw(cls) -> Seeds:
        """New seeds, from torch's CPU generator, which trainers seed and resume."""
        return cls(*torch.randint(1 << 62, (4,)).tolist())


def _random(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


# --- memories --------------------------------------------------------------------------------------------------------


class Memory(nn.Module):
    """A ring buffer of unit vectors for every class; the oldest is overwritten first. All state is in buffers.

    Args:
        classes: K.
        size: N, vectors kept for each class. At first they are random directions, as in the reference.
        width: C, their length.
        seed: seed of those directions.
    """

    gathers = True
    """All processes push the same gathered vectors, so buffers are equal everywhere and need no broadcast."""

    vectors: Tensor
    """(K, N, C)."""
    next: Tensor
    """(K,): index at which each class's next vector is stored."""

    def __init__(self, classes: int, size: int, width: int, seed: int = 0) -> None:
        super().__init__()
        start = torch.randn(classes, size, width, generator=_random(seed, torch.device("cpu")))
        self.register_buffer("vectors", unit(start, dim=-1))
        self.register_buffer("next", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, vectors: Tensor, classes: Tensor) -> None:
        """Append vectors (n, C) of the classes (n,), in order. A class with more than N keeps the last N."""
        size = self.vectors.shape[1]
        counted = F.one_hot(classes, self.next.shape[0])
        totals = counted.sum(dim=0)
        rank = counted.cumsum(dim=0).gather(1, classes[:, None])[:, 0] - 1
        kept = rank >= totals[classes] - size
        classes, rank = classes[kept], rank[kept]
        self.vectors[classes, (self.next[classes] + rank) % size] = vectors[kept].to(self.vectors.dtype)
        self.next.copy_((self.next + totals) % size)

    def sample(self, total: int, seed: int) -> Tensor:
        """The same ⌊total/K⌋ + 1 random entries of every class, at most N: (1, keys, C)."""
        classes, size, _ = self.vectors.shape
        device = self.vectors.device
        places = torch.randperm(size, device=device, generator=_random(seed, device))[: total // classes + 1]
        return self.vectors[:, places].flatten(0, 1).unsqueeze(0)


@torch.no_grad()
def class_pixels(teacher: Tensor, member: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Up to `count` random pixels of every class in every image.

    Args:
        teacher: unit vectors (B, m, C).
        member: (B, m, K), true where a position has the class.
        count: maximum number of pixels per class and image.
        seed: seed of the choice.

    Returns:
        Vectors (B, K, c, C) with c = min(count, m), and a mask of the valid ones (B, K, c).
    """
    draw = torch.rand(member.shape[:2], device=member.device, generator=_random(seed, member.device))
    draw = draw.unsqueeze(-1).masked_fill(~member, -1.0).mT
    drawn, places = draw.topk(min(count, member.shape[1]), dim=-1)
    images = torch.arange(teacher.shape[0], device=teacher.device)[:, None, None]
    return teacher[images, places], drawn >= 0


@torch.no_grad()
def class_means(teacher: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Unit mean vector of every class in every image (B, K, 1, C), and a mask of the classes present (B, K, 1)."""
    count = member.sum(dim=1)
    means = member.to(teacher.dtype).mT @ teacher / count.unsqueeze(-1).clamp_min(1)
    return unit(means, dim=-1).unsqueeze(2), (count > 0).unsqueeze(2)


def push_real(memory: Memory, found: tuple[Tensor, Tensor]) -> None:
    """Push the result of `class_pixels` or `class_means`, gathered from all processes, image by image."""
    vectors, real = _from_all_processes(found[0]), _from_all_processes(found[1].to(torch.uint8)).bool()
    memory.push(vectors[real], real.nonzero()[:, 1])


def _from_all_processes(x: Tensor) -> Tensor:
    """The tensors of all processes, concatenated, so that every process stores the same vectors."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


# --- the method ------------------------------------------------------------------------------------------------------


class CIRKD(Method):
    """L = λ_b·L_batch + λ_p·L_pixel + λ_r·L_region + kd.

        L_batch   similarities between the pixels of every ordered pair of images: `pixel_relations`
        L_pixel   1/P Σ_a KL( softmax(T_a · Qᵀ / τ) ‖ softmax(h(S)_a · Qᵀ / τ) ),  Q sampled from a memory of pixels
        L_region  the same with a memory of class means

    over the P labelled pixels a; all vectors have unit length. h is two 1×1 convolutions with batch norm and ReLU
    between them. Both memories are rings of teacher vectors by class; while training, each image adds up to 16 random
    pixels and the mean of every class it shows, before the terms are computed. Ignored pixels enter neither.

    The reference takes its random pixels from the first positions of the image, whatever their class; here they belong
    to the class.
    """

    name = "cirkd"
    summary = "similarities of pixels across images, and to memories of teacher pixels and regions"
    paper = (
        "Yang, Zhou, An, Jiang, Xu, Zhang: Cross-Image Relational Knowledge Distillation for Semantic Segmentation; "
        "CVPR 2022; arXiv 2204.06986"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "batch": Term(1.0, "lambda_batch", "similarities of pixels between the images of a batch"),
        "pixel": Term(0.1, "lambda_pixel", "similarities of pixels to a memory of teacher pixels"),
        "region": Term(0.1, "lambda_region", "similarities of pixels to a memory of teacher class means"),
        "kd": KD_TERM,
    }
    reads = frozenset({"last", "features", "logits", "labels"})
    permutable = False
    cost = "quadratic in the positions of all images (batch), linear with a large factor (pixel, region); memory linear"

    class Params(KDFields):
        """The published recipe and its options."""

        variant: Literal["cityscapes", "voc"] = Field("cityscapes", description="data set whose weights are used")
        tau: float = Field(0.1, gt=0, description="temperature of similarities")
        pixel_memory: int = Field(20000, ge=1, description="teacher pixels remembered for each class")
        region_memory: int = Field(2000, ge=1, description="teacher class means remembered for each class")
        pixel_keys: int = Field(4096, ge=1, description="pixels compared with in each iteration, over all classes")
        region_keys: int = Field(1024, ge=1, description="class means compared with in each iteration")
        pixels_per_image: int = Field(16, ge=1, description="new pixels remembered of each class in each image")
        anchors: int | None = Field(
            None, ge=1, description="random positions of each image whose similarities are compared; null: all"
        )
        pool: int = Field(1, ge=1, description="side of the average pooling before the batch term")
        source: Source = Field("last", description="map: what the classifier reads, or the backbone's deepest")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")

    params: Params

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """The weights of the data set's published recipe."""
        assert isinstance(params, cls.Params)
        memory = 0.01 if params.variant == "voc" else 0.1
        return {"batch": 1.0, "pixel": memory, "region": memory, "kd": 1.0}

    def setup(self) -> None:
        """Build the projection and the memories of the active terms."""
        if not self.active & {"pixel", "region"}:
            return
        assert self.teacher is not None
        ours, width = channels(self.student, self.params.source), channels(self.teacher, self.params.source)
        self.projection: Adapter = Adapter(
            nn.Conv2d(ours, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        classes, seeds = self.student.classes, Seeds.draw()
        if "pixel" in self.active:
            self.pixels = Memory(classes, self.params.pixel_memory, width, seeds.pixel_keys)
        if "region" in self.active:
            self.regions = Memory(classes, self.params.region_memory, width, seeds.region_keys)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"batch", "pixel", "region", "kd"}, those active. In training mode teacher vectors enter the memories."""
        terms: dict[str, Tensor] = {}
        source = self.params.source
        if self.active & {"batch", "pixel", "region"}:
            ours, seeds = pick(step.student, source), Seeds.draw()
            if "batch" in self.active:
                terms["batch"] = self._batch(ours, step.teacher_maps, seeds)
            if self.active & {"pixel", "region"}:
                terms |= self._memories(self.projection(ours), step.teacher_maps, step.labels, seeds)
        if "kd" in self.active:
            terms["kd"] = kd_term(step, self.params)
        return terms

    def _anchors(self, x: Tensor, seed: int) -> Tensor | None:
        """Random positions of (B, m, C); None for all."""
        wanted, positions = self.params.anchors, x.shape[1]
        if wanted is None or wanted >= positions:
            return None
        return torch.randperm(positions, device=x.device, generator=_random(seed, x.device))[:wanted]

    def _positions(self, maps: Maps, teacher: Tensor, pool: int = 1) -> Tensor:
        """The teacher's unit vectors on a grid, computed once per batch for all students."""
        what, grid = f"unit positions of {self.params.source}", self.params.align
        return from_teacher(maps, what, teacher, grid, lambda x: unit_positions(x, pool), pool)

    def _batch(self, ours: Tensor, maps: Maps, seeds: Seeds) -> Tensor:
        student, teacher = align(ours, pick(maps, self.params.source), self.params.align)
        with full_precision(student):
            s, t = unit_positions(student, self.params.pool), self._positions(maps, teacher, self.params.pool)
            return pixel_relations(s, t, self.params.tau, self._anchors(s, seeds.anchors))

    def _memories(self, projected: Tensor, maps: Maps, labels: Tensor, seeds: Seeds) -> dict[str, Tensor]:
        """The memory terms; zero for a batch without labels."""
        projected, teacher = align(projected, pick(maps, self.params.source), self.params.align)
        label = resize_labels(labels, teacher).flatten(1)
        classes, params = self.student.classes, self.params
        valid = (label != IGNORE) & (label >= 0) & (label < classes)
        with full_precision(projected):
            s, t = unit_positions(projected), self._positions(maps, teacher)
            if self.training:
                member = F.one_hot(label.masked_fill(~valid, classes), classes + 1)[..., :classes].bool()
                self._remember(t, member, seeds)
            anchors = self._anchors(s, seeds.anchors)
            if anchors is not None:
                s, t, valid = s[:, anchors], t[:, anchors], valid[:, anchors]
            s, t = s[valid], t[valid]
            terms: dict[str, Tensor] = {}
            if "pixel" in self.active:
                terms["pixel"] = self._relation(s, t, self.pixels.sample(params.pixel_keys, seeds.pixel_keys))
            if "region" in self.active:
                terms["region"] = self._relation(s, t, self.regions.sample(params.region_keys, seeds.region_keys))
        return terms

    def _remember(self, teacher: Tensor, member: Tensor, seeds: Seeds) -> None:
        if "pixel" in self.active:
            push_real(self.pixels, class_pixels(teacher, member, self.params.pixels_per_image, seeds.pixels))
        if "region" in self.active:
            push_real(self.regions, class_means(teacher, member))

    def _relation(self, student: Tensor, teacher: Tensor, keys: Tensor) -> Tensor:
        """Mean over rows; without rows it is zero, with a gradient of zero."""
        keys = keys.to(student.dtype)
        return relation_kl(student, teacher, keys, keys, self.params.tau) / max(student.shape[0], 1)
