"""Af-DCD: masked reconstruction, and dense contrasts between channel groups and positions without augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from methods.base import Method, MethodParams, Step, Term
from methods.mgd import generator, random_mask, squared_error
from methods.parts.adapters import Adapter, adapter
from methods.parts.grids import Grid, Source, align, channels, check_same_shape, pick
from methods.parts.logits_kd import KD_TERM, KDFields, kd_term
from methods.parts.precision import full_precision, precise

Variant = Literal["cityscapes", "voc", "camvid"]
_WEIGHTS: Mapping[str, tuple[float, float]] = {
    "cityscapes": (2e-6, 0.005),
    "voc": (1e-6, 0.005),
    "camvid": (8e-6, 0.01),
}


def channel_groups(width: int, wanted: int) -> int:
    """The largest number of equal channel groups that is at most `wanted`: 256, 16 -> 16; 40, 16 -> 10."""
    return max(count for count in range(1, min(width, wanted) + 1) if width % count == 0)


def max_pool(x: Tensor, side: int) -> Tensor:
    """Max pooling in side×side windows; an incomplete window at the border is dropped. Deterministic."""
    if side == 1:
        return x
    batch, width, height, breadth = x.shape
    rows, columns = height // side, breadth // side
    windows = x[..., : rows * side, : columns * side].reshape(batch, width, rows, side, columns, side)
    return windows.amax(dim=(3, 5))


def patches(x: Tensor, side: int, groups: int) -> Tensor:
    """Cut a map into side×side patches and its channels into groups: (B, C, h, w) -> (patches, side²·groups, C/groups).

    The vectors of a patch are ordered by position, then by group. Incomplete patches at the border are dropped.
    """
    batch, width, height, breadth = x.shape
    rows, columns = height // side, breadth // side
    x = x[..., : rows * side, : columns * side]
    x = x.reshape(batch, groups, width // groups, rows, side, columns, side)
    return x.permute(0, 3, 5, 4, 6, 1, 2).reshape(batch * rows * columns, side * side * groups, width // groups)


def omni_contrast(
    student: Tensor, teacher: Tensor, *, tau: float = 0.07, groups: int = 16, patch: int = 4, pool: int = 4
) -> Tensor:
    """Contrast every (position, channel group) of a patch with the teacher's, summed over images.

    With s_a, t_b the vectors of a patch, a = (position n, group g) and d = ‖s_a − t_b‖₁ / τ,

        L = 1/(h·w) Σ_patches Σ_a −log( e^{−d_aa} / (e^{−d_aa} + Σ_{b: group(b) ≠ group(a)} e^{−d_ab}) )

    where h×w is the pooled grid. Divide by B for the term.

    Args:
        student, teacher: (B, C, h, w) on one grid.
        tau: temperature τ.
        groups: maximum number of channel groups; the largest number that divides C is used.
        patch: side of the patches; smaller on maps too small for one.
        pool: side of the max pooling before; smaller on maps that would be too small for a patch after it.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, teacher)
    with full_precision(student):
        height, width = student.shape[-2:]
        patch = min(patch, height, width)
        pool = max(1, min(pool, height // patch, width // patch))
        groups = channel_groups(student.shape[1], groups)
        s = patches(max_pool(precise(student), pool), patch, groups)
        t = patches(max_pool(precise(teacher), pool), patch, groups)
        similarity = -torch.cdist(s, t, p=1.0) / tau
        group = torch.arange(groups, device=s.device).repeat(patch * patch)
        twin = (group[:, None] == group[None, :]).fill_diagonal_(False)
        positive = similarity.diagonal(dim1=-2, dim2=-1)
        everything = similarity.masked_fill(twin, -torch.inf).logsumexp(dim=-1)
        positions = (height // pool // patch * patch) * (width // pool // patch * patch)
        return (everything - positive).sum() / positions


def centre_mask(like: Tensor) -> Tensor:
    """(1, 1, h, w) of ones with the middle third of rows and columns 0."""
    height, width = like.shape[-2:]
    mask = like.new_ones(1, 1, height, width)
    mask[..., height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 0
    return mask


class Enhanced(Adapter):
    """Two stages of 3×3 convolution and ReLU, a 3×3 convolution after each, and the mean of both."""

    def __init__(self, width: int) -> None:
        def conv() -> nn.Conv2d:
            return nn.Conv2d(width, width, 3, padding=1)

        super().__init__(nn.Sequential(conv(), nn.ReLU()), nn.Sequential(conv(), nn.ReLU()), conv(), conv())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        first_stage, second_stage, first_exit, second_exit = self.layers
        first = first_stage(x)
        result: Tensor = (first_exit(first) + second_exit(second_stage(first))) / 2
        return result


class AfDCD(Method):
    """L = λ_f·L_rec + λ_c·L_omni + L_kd on features: G(mask ⊙ align(S)) against T.

        L_rec  = 1/B Σ (G − T)²
        L_omni = 1/B `omni_contrast`(G, T)

    with G a small convolutional generator, as in masked generative distillation.
    """

    name = "afdcd"
    summary = "masked reconstruction of the teacher's map, and contrasts between its positions and channel groups"
    paper = (
        "Fan, Li, Liu, Song, Yao: Augmentation-Free Dense Contrastive Knowledge Distillation for Efficient Semantic "
        "Segmentation; NeurIPS 2023; arXiv 2312.04168"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "rec": Term(2e-6, "lambda_fd", "squared error of the generated map, summed over an image"),
        "omni": Term(0.005, "lambda_ctr", "contrast of positions and channel groups inside patches"),
        "kd": KD_TERM,
    }
    reads = frozenset({"features", "last", "logits", "labels"})
    permutable = False

    class Params(KDFields):
        """The published recipe and its options; explicit values override those of the variant."""

        variant: Variant = Field("cityscapes", description="data set whose recipe is used: sets weights and pool")
        source: Source = Field("deep", description="which map is read: the backbone's deepest, or the classifier's")
        mask: Literal["random", "centre"] = Field("random", description="mask random positions, or the middle third")
        mask_ratio: float = Field(0.75, ge=0, le=1, description="probability that a position is masked")
        projector: Literal["plain", "enhanced"] = Field("plain", description="the generator: two convolutions, or four")
        tau: float = Field(0.07, gt=0, description="temperature of the contrast")
        groups: int = Field(16, ge=2, description="maximum number of channel groups")
        patch: int = Field(4, ge=1, description="side of the patches within which vectors are contrasted")
        pool: int = Field(4, ge=1, description="side of the max pooling before the contrast")
        align: Grid = Field("teacher", description="grid on which features are compared; the other's are resized to it")

        @model_validator(mode="before")
        @classmethod
        def _variant(cls, data: Any) -> Any:
            if isinstance(data, dict) and data.get("variant") == "camvid":
                return {"pool": 1, **data}
            return data

    params: Params

    @classmethod
    def weights(cls, params: MethodParams) -> dict[str, float]:
        """The weights of the data set's published recipe."""
        assert isinstance(params, cls.Params)
        rec, omni = _WEIGHTS[params.variant]
        return {"rec": rec, "omni": omni, "kd": 1.0}

    def setup(self) -> None:
        """Build the 1×1 alignment where channels differ, and the generator."""
        if not self.active & {"rec", "omni"}:
            return
        assert self.teacher is not None
        inputs, width = channels(self.student, self.params.source), channels(self.teacher, self.params.source)
        self.adapter = adapter(inputs, width, bias=True) if inputs != width else None
        self.generator = Enhanced(width) if self.params.projector == "enhanced" else generator(width)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"rec", "omni", "kd"}, those active."""
        terms: dict[str, Tensor] = {}
        if self.active & {"rec", "omni"}:
            generated, teacher = self._generate(step)
            if "rec" in self.active:
                terms["rec"] = squared_error(generated, teacher)
            if "omni" in self.active:
                terms["omni"] = self._omni(generated, teacher)
        if "kd" in self.active:
            terms["kd"] = kd_term(step, self.params)
        return terms

    def _generate(self, step: Step) -> tuple[Tensor, Tensor]:
        """The map generated from the masked student, and the teacher's map."""
        source = self.params.source
        ours = pick(step.student, source)
        adapted = self.adapter(ours) if self.adapter is not None else ours
        student, teacher = align(adapted, pick(step.teacher_maps, source), self.params.align)
        mask = random_mask(student, self.params.mask_ratio) if self.params.mask == "random" else centre_mask(student)
        generated: Tensor = self.generator(student * mask)
        return generated, teacher

    def _omni(self, generated: Tensor, teacher: Tensor) -> Tensor:
        params = self.params
        total = omni_contrast(
            generated, teacher, tau=params.tau, groups=params.groups, patch=params.patch, pool=params.pool
        )
        return total / teacher.shape[0]
