"""Knowledge Adaptation as implemented by torchdistill (KTAAD): a different loss under the same name."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from methods.base import Maps, Method, MethodParams, Sizes, Step, Term, Translator
from methods.ka import KATranslator, frozen_latent
from methods.parts.adapters import Adapter, adapter
from methods.parts.grids import Grid, align, check_same_shape
from methods.parts.pairwise import squared_distance
from methods.parts.precision import full_precision, p_norm, precise, safe_sqrt, unit


class LogitsTranslator(KATranslator):
    """The auto-encoder on the teacher's logits, at their own grid.

    Three 3×3 convolutions of stride 1 encode K classes into C channels, three transposed ones decode them; batch norm
    and LeakyReLU(0.1) follow each. Logits are not standardised. Norms are means over elements, not sums over channels.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__(classes, channels, (1, 1, 1), standardise=False)
        self.encoder = Adapter(*_blocks(nn.Conv2d, (classes, classes, channels, channels)))
        self.decoder = Adapter(*_blocks(nn.ConvTranspose2d, (channels, channels, classes, classes)))

    def source(self, teacher: Maps) -> Tensor:
        """The encoder's input: the logits (B, K, h, w)."""
        return teacher.logits

    def forward(self, teacher: Maps) -> dict[str, Tensor]:
        """{"reconstruction", "sparsity"}, unweighted."""
        terms = super().forward(teacher)
        classes = teacher.logits.shape[1]
        return {
            "reconstruction": terms["reconstruction"] / classes,
            "sparsity": terms["sparsity"] / self.channels,
        }


def _blocks(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels: tuple[int, ...]) -> list[nn.Module]:
    """3×3 convolutions with these numbers of channels, each followed by batch norm and LeakyReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [kind(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    return layers


def map_adaptation(student: Tensor, latent: Tensor, p: float = 1.0, q: float = 2.0) -> Tensor:
    """Distance of maps, each divided by *one* q-norm over all its channels and positions; mean over images.

    With p = 1 it is the mean absolute difference of elements, otherwise the p-norm of the difference. Since the norm
    runs over the whole map, the p = 1 term shrinks about twofold with each halving of the stride.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, latent)
    with full_precision(student):
        s, t = (precise(x).flatten(1) for x in (student, latent))
        difference = s / p_norm(s, q)[:, None].clamp_min(1e-6) - t / p_norm(t, q)[:, None].clamp_min(1e-6)
        return difference.abs().mean() if p == 1 else p_norm(difference, p).mean()


def channel_affinity(student: Tensor, latent: Tensor) -> Tensor:
    """1/(h·w) · Σ_c ‖ s_c s_cᵀ − t_c t_cᵀ ‖_F, mean over images; s_c, t_c are unit-length maps of one channel each.

    Positions are compared within a channel, not by the cosine of their feature vectors as in the paper. The outer
    products are never made: `methods.parts.pairwise` with one channel at a time.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, latent)
    batch, channels, height, width = student.shape
    with full_precision(student):
        s, t = (unit(precise(x).flatten(2), dim=2).reshape(batch * channels, 1, -1) for x in (student, latent))
        return safe_sqrt(squared_distance(s, t, s - t)).sum() / (batch * height * width)


class KATorchdistill(Method):
    """L = β·L_kta + γ·L_aff on logits. Kept in addition to `ka` to show how far the two readings differ.

    The auto-encoder encodes the teacher's logits on their own grid; `map_adaptation` and `channel_affinity` compare its
    latent with the student's adapted logits.
    """

    name = "ka_torchdistill"
    version = 2
    summary = "torchdistill's reading of ka: on logits, one norm over the map, affinity channel by channel"
    paper = (
        "He, Shen, Tian, Gong, Sun, Yan: Knowledge Adaptation for Efficient Semantic Segmentation; CVPR 2019; "
        "arXiv 1903.04688; as implemented by Matsubara: torchdistill; RRPR 2020; arXiv 2011.12913"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "adapt": Term(50.0, "beta", "distance of maps normalised as a whole"),
        "affinity": Term(1.0, "gamma", "distance of each channel's outer product of positions"),
    }
    reads = frozenset({"logits"})

    class Params(MethodParams):
        """torchdistill's defaults."""

        p: float = Field(1.0, ge=1, description="norm of the difference; 1 is a mean over elements")
        q: float = Field(2.0, ge=1, description="norm over the whole map by which it is divided")
        ratio: float = Field(0.5, gt=0, le=1, description="channels of the latent as a fraction of the classes")
        align: Grid = Field("teacher", description="grid on which maps are compared; the other's are resized to it")

    params: Params

    def setup(self) -> None:
        """Build an adapter for each active term.

        Raises:
            ValueError: the translator is missing.
        """
        if not self.active:
            return
        if not isinstance(self.translator, LogitsTranslator):
            raise ValueError("ka_torchdistill needs the translator that was learned from its teacher")
        sizes = self.student.classes, self.translator.channels
        if "adapt" in self.active:
            self.adapter = adapter(*sizes, kernel=3, norm=True, relu=True)
        if "affinity" in self.active:
            self.affinity_adapter = adapter(*sizes, kernel=3)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"adapt", "affinity"}, those active."""
        if not self.active:
            return {}
        assert isinstance(self.translator, LogitsTranslator)
        latent = frozen_latent(self.translator, step.teacher_maps)
        terms: dict[str, Tensor] = {}
        if "adapt" in self.active:
            maps = align(self.adapter(step.student.logits), latent, self.params.align)
            terms["adapt"] = map_adaptation(*maps, self.params.p, self.params.q)
        if "affinity" in self.active:
            maps = align(self.affinity_adapter(step.student.logits), latent, self.params.align)
            terms["affinity"] = channel_affinity(*maps)
        return terms

    @classmethod
    def translator_key(
        cls, params: MethodParams, active: frozenset[str], student: Sizes, teacher: Sizes
    ) -> dict[str, Any] | None:
        """Channels of the latent."""
        assert isinstance(params, cls.Params)
        return {"channels": max(int(teacher.classes * params.ratio), 1)} if active else None

    @classmethod
    def build_translator(cls, key: Mapping[str, Any], teacher: Sizes) -> Translator:
        """The untrained auto-encoder of the logits."""
        return LogitsTranslator(teacher.classes, key["channels"])
