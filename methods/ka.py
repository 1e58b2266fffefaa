"""Knowledge Adaptation: match a latent space learned from the teacher, and the affinity of all pairs of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Maps, Method, MethodParams, Sizes, Step, Term, Translator, memo
from methods.parts.adapters import Adapter, IdentityAdapter, adapter
from methods.parts.grids import check_same_shape, regrid
from methods.parts.pairwise import row_norms, squared_distance, unit_columns
from methods.parts.precision import full_precision, p_norm, precise

Norm = Literal["batch", "none"]
Activation = Literal["relu", "none"]


def _block(conv: nn.Module, outputs: int, norm: Norm, activation: Activation) -> list[nn.Module]:
    layers = [conv]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(outputs))
    if activation == "relu":
        layers.append(nn.ReLU())
    return layers


class Encoder(Adapter):
    """E: three 3×3 convolutions. (B, C_t, h, w) -> (B, C, h', w'), h' = ⌈h / total stride⌉."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, ...], norm: Norm, activation: Activation) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate(strides):
            conv = nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, stride, padding=1, bias=norm == "none")
            layers += _block(conv, outputs, norm, activation if index == len(strides) - 1 else "relu")
        super().__init__(*layers)


class Decoder(Adapter):
    """D: the encoder's mirror in transposed convolutions, the last one bare. (B, C, h', w') -> (B, C_t, h, w)."""

    def __init__(self, inputs: int, outputs: int, strides: tuple[int, ...], norm: Norm) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate(reversed(strides)):
            last = index == len(strides) - 1
            wide = outputs if last else inputs
            conv = nn.ConvTranspose2d(
                inputs, wide, 3, stride, padding=1, output_padding=stride - 1, bias=last or norm == "none"
            )
            layers += [conv] if last else _block(conv, wide, norm, "relu")
        super().__init__(*layers)


class Standard(nn.BatchNorm2d):
    """Every channel to mean 0 and variance 1, by statistics over all batches seen in training. (B, C, h, w) -> same.

    The teacher is frozen, so its statistics are an average over all batches, not a moving average. A channel that
    hardly varies relative to its mean is not amplified: half precision rounds it by as much as it varies.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-8, momentum=None, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise; batch statistics while training, as in any batch norm."""
        if self.training:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        assert mean is not None and variance is not None
        return F.batch_norm(x, mean, torch.maximum(variance, 2**-14 * mean.square()), eps=self.eps)


class KATranslator(Translator):
    """The auto-encoder of a teacher's last map Φ: L_ae = ‖Φ − D(E(Φ))‖² + α‖E(Φ)‖₁.

    Norms run over channels; both terms are means over images and positions.

    Args:
        inputs: channels of the teacher's last map.
        channels: channels of the latent map.
        strides: of the encoder's convolutions.
        norm: batch norm inside encoder and decoder, or none. With it the paper's learning rate of 0.1 is stable.
        activation: at the end of the encoder. ReLU, since the student's adapter C_f ends in one and cannot match
            negative values.
        standardise: first bring every channel of Φ to mean 0 and variance 1, and reconstruct that. Teachers' maps
            differ in scale by orders of magnitude, so no single learning rate would suit them otherwise.
    """

    terms: ClassVar[Mapping[str, Term]] = {
        "reconstruction": Term(1.0, summary="squared error of the teacher's map and its reconstruction"),
        "sparsity": Term(1e-7, "alpha", "1-norm of the latent map"),
    }
    # The paper's optimiser; gradients are clipped because early steps of a small batch can be steep at this rate.
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "clip_grad": 5.0,
    }

    def __init__(
        self,
        inputs: int,
        channels: int = 128,
        strides: tuple[int, ...] = (2, 1, 1),
        norm: Norm = "batch",
        activation: Activation = "relu",
        standardise: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.standard: Adapter = Adapter(Standard(inputs)) if standardise else IdentityAdapter()
        self.encoder: Adapter = Encoder(inputs, channels, strides, norm, activation)
        self.decoder: Adapter = Decoder(channels, inputs, strides, norm)

    def source(self, teacher: Maps) -> Tensor:
        """The encoder's input before standardisation: the teacher's last map (B, C_t, h, w)."""
        return teacher.last

    def latent(self, teacher: Maps) -> Tensor:
        """E(Φ): (B, C, h', w')."""
        return self._coded(teacher)[1]

    def _coded(self, teacher: Maps) -> tuple[Tensor, Tensor]:
        """(Φ, E(Φ)), in full precision, as the translator was trained."""
        source = self.source(teacher)
        with full_precision(source):
            target = self.standard(precise(source))
            return target, self.encoder(target)

    def forward(self, teacher: Maps) -> dict[str, Tensor]:
        """{"reconstruction", "sparsity"}, unweighted."""
        target, latent = self._coded(teacher)
        error = precise(target) - precise(self._restored(latent, target))
        return {
            "reconstruction": error.square().sum(dim=1).mean(),
            "sparsity": precise(latent).abs().sum(dim=1).mean(),
        }

    def _restored(self, latent: Tensor, target: Tensor) -> Tensor:
        """D(latent), cropped to the target's grid, which the strides may not divide."""
        height, width = target.shape[-2:]
        restored: Tensor = self.decoder(latent)
        return restored[..., :height, :width]

    @torch.no_grad()
    def health(self, teacher: Maps) -> dict[str, float]:
        """Statistics of the learned latent, on a batch.

        Returns:
            latent_variance: mean over channels of the variance over images and positions.
            latent_mean_abs: mean |E(Φ)|.
            dead_channels: fraction of the channels that do not vary (standard deviation below 1e-4 of the latent's
                root mean square).
            reconstruction_error: squared error relative to that of the per-channel mean of Φ: 0 is perfect, 1 is
                no better than the mean.

        Raises:
            ValueError: the latent is not finite, or no channel of it varies.
        """
        standard, coded = self._coded(teacher)
        target, latent = precise(standard), precise(coded)
        if not bool(torch.isfinite(latent).all()):
            raise ValueError("the translator's latent is not finite: its training diverged (lower its learning rate)")
        variance = latent.var(dim=(0, 2, 3), unbiased=False)
        dead = variance.sqrt() <= 1e-4 * latent.square().mean().sqrt() + 1e-8
        if bool(dead.all()):
            raise ValueError(
                "the translator's latent is dead: none of its channels varies over the images, so a student would "
                "learn nothing from it (lower the translator's learning rate, or train it longer)"
            )
        error = (target - precise(self._restored(coded, target))).square().mean()
        spread = target.var(dim=(0, 2, 3), unbiased=False).mean()
        return {
            "latent_variance": float(variance.mean()),
            "latent_mean_abs": float(latent.abs().mean()),
            "dead_channels": float(dead.float().mean()),
            "reconstruction_error": float(error / spread.clamp_min(1e-12)),
        }


def frozen_latent(translator: KATranslator, teacher: Maps) -> Tensor:
    """E(Φ) of a frozen translator, computed once per batch for all students that share it."""
    return memo(teacher, ("latent", translator), lambda: translator.latent(teacher))


def encoder_strides(teacher_stride: int, latent_stride: int) -> tuple[int, int, int]:
    """Strides of the three convolutions that bring a teacher's map to a latent stride, the first ones largest.

    1 and 1 → (1, 1, 1); 8 and 16 → (2, 1, 1); 4 and 32 → (2, 2, 2). For a latent finer than the teacher's map the
    strides are 1, which keeps the teacher's grid.

    Raises:
        ValueError: the ratio is not a power of two.
    """
    ratio = max(latent_stride // teacher_stride, 1)
    if ratio & (ratio - 1) or (latent_stride > teacher_stride and latent_stride % teacher_stride):
        raise ValueError(f"latent stride {latent_stride} is not a power of two times the teacher's {teacher_stride}")
    doublings = ratio.bit_length() - 1
    first, second, third = ((doublings + 2 - index) // 3 for index in range(3))
    return 2**first, 2**second, 2**third


class KnowledgeAdaptation(Method):
    """L = β·L_adapt + γ·L_aff on the student's last map Φs and the teacher's latent E(Φt).

        L_adapt = 1/|I| Σ_j ‖ C_f(Φs)_j/‖C_f(Φs)_j‖_q − E(Φt)_j/‖E(Φt)_j‖_q ‖_p      mean over images and positions j
        L_aff   = Σ_i ‖ (A_s)_i − (A_t)_i ‖₂,   A = cosines of all pairs of positions / m      mean over images

    What the paper leaves open is a parameter; docs/knowledge-adaptation.md has the evidence for p = 2, q = 1: with
    these, the weight of 50 makes the term a few times the cross-entropy; with q = 2, tens of times. The affinity never
    forms an m×m matrix (`methods.parts.pairwise`).
    """

    name = "ka"
    version = 2
    summary = "match a latent space learned from the teacher, and the affinity of all pairs of positions"
    paper = (
        "He, Shen, Tian, Gong, Sun, Yan: Knowledge Adaptation for Efficient Semantic Segmentation; "
        "CVPR 2019; arXiv 1903.04688"
    )
    terms: ClassVar[Mapping[str, Term]] = {
        "adapt": Term(50.0, "beta", "distance of normalised feature vectors in the teacher's latent space"),
        "affinity": Term(1.0, "gamma", "distance of the rows of the affinity matrices"),
    }
    reads = frozenset({"last"})

    class Params(MethodParams):
        """Choices of this implementation. `[open]` marks what the paper does not specify."""

        p: float = Field(2.0, ge=1, description="[open] norm of the difference of feature vectors")
        q: float = Field(1.0, ge=1, description="[open] norm by which feature vectors are normalised")
        affinity_adapter: Literal["own", "shared", "none"] = Field(
            "own", description="[open] C_a: an adapter of its own like C_f, C_f itself, or the student's map as it is"
        )
        normalise: Literal["positions", "none"] = Field(
            "positions", description="divide affinities by the number of positions, or not"
        )
        form: Literal["row", "squared"] = Field(
            "row", description="sum of the rows' norms (the paper), or of their squares"
        )
        latent: Literal["shared", "student"] = Field(
            "shared",
            description="[open] one latent of `latent_stride` for all students, regridded to each one's map; or one "
            "latent on the grid of each student stride",
        )
        latent_stride: int = Field(16, ge=1, description="input size divided by the size of the shared latent")
        channels: int = Field(128, ge=1, description="[open] channels of the latent")
        norm: Norm = Field("batch", description="[open] norm layers of the translator")
        activation: Activation = Field("relu", description="[open] end of the translator's encoder")
        standardise: bool = Field(
            True, description="[open] bring the channels of the teacher's map to mean 0, variance 1 for the translator"
        )

    params: Params

    def setup(self) -> None:
        """Build C_f and C_a, if their terms are active.

        Raises:
            ValueError: the translator is missing.
        """
        if not self.active:
            return
        if not isinstance(self.translator, KATranslator):
            raise ValueError("ka needs the translator that was learned from its teacher")
        own = self.params.affinity_adapter == "own" and "affinity" in self.active
        shared = self.params.affinity_adapter == "shared" and "affinity" in self.active
        if "adapt" in self.active or shared:
            self.adapter = self._adapter(self.translator.channels)
        if own:
            self.affinity_adapter = self._adapter(self.translator.channels)

    def _adapter(self, channels: int) -> Adapter:
        """3×3 convolution, batch norm, ReLU: the paper's C_f."""
        return adapter(self.student.last, channels, kernel=3, norm=True, relu=True)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """{"adapt", "affinity"}, those active."""
        if not self.active:
            return {}
        assert isinstance(self.translator, KATranslator)
        latent = regrid(frozen_latent(self.translator, step.teacher_maps), step.student.last)
        terms: dict[str, Tensor] = {}
        adapted = self.adapter(step.student.last) if "adapter" in self._modules else None
        if "adapt" in self.active:
            assert adapted is not None
            terms["adapt"] = adaptation(adapted, latent, self.params.p, self.params.q)
        if "affinity" in self.active:
            choice = self.params.affinity_adapter
            own = self.affinity_adapter(step.student.last) if choice == "own" else None
            features = own if own is not None else adapted if choice == "shared" else step.student.last
            assert features is not None
            terms["affinity"] = affinity(features, latent, self.params.form, self.params.normalise)
        return terms

    @classmethod
    def skip(cls, params: MethodParams, student: Sizes, teacher: Sizes | None) -> str | None:
        """Refuse a latent stride that is not a power of two times the teacher's."""
        assert isinstance(params, cls.Params)
        if teacher is None:
            return None
        try:
            encoder_strides(teacher.last_stride, cls._latent_stride(params, student))
        except ValueError as error:
            return str(error)
        return None

    @staticmethod
    def _latent_stride(params: Params, student: Sizes) -> int:
        return params.latent_stride if params.latent == "shared" else student.last_stride

    @classmethod
    def translator_key(
        cls, params: MethodParams, active: frozenset[str], student: Sizes, teacher: Sizes
    ) -> dict[str, Any] | None:
        """Strides, channels, norm and activation of the auto-encoder: all it depends on except the teacher."""
        assert isinstance(params, cls.Params)
        if not active:
            return None
        strides = encoder_strides(teacher.last_stride, cls._latent_stride(params, student))
        return {
            "strides": list(strides),
            "channels": params.channels,
            "norm": params.norm,
            "activation": params.activation,
            "standardise": params.standardise,
        }

    @classmethod
    def build_translator(cls, key: Mapping[str, Any], teacher: Sizes) -> Translator:
        """The untrained auto-encoder."""
        return KATranslator(
            teacher.last,
            key["channels"],
            tuple(key["strides"]),
            key["norm"],
            key["activation"],
            key["standardise"],
        )


def adaptation(student: Tensor, latent: Tensor, p: float = 2.0, q: float = 1.0) -> Tensor:
    """Mean over images and positions of ‖ s/‖s‖_q − t/‖t‖_q ‖_p: (B, C, h, w), (B, C, h, w) -> scalar.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_shape(student, latent)
    with full_precision(student):
        s, t = precise(student), precise(latent)
        return p_norm(_normalised(s, q) - _normalised(t, q), p).mean()


def _normalised(x: Tensor, q: float) -> Tensor:
    return x / p_norm(x, q).unsqueeze(1).clamp_min(1e-6)


def affinity(
    student: Tensor,
    latent: Tensor,
    form: Literal["row", "squared"] = "row",
    normalise: Literal["positions", "none"] = "positions",
) -> Tensor:
    """Distance of cosine affinities, mean over images: (B, C, h, w), (B, C', h, w) -> scalar.

    "row" is Σ_i ‖row_i‖₂, "squared" Σ_i ‖row_i‖₂²; normalised by positions, every affinity is divided by m = h·w, so
    that "squared" is the mean squared entry.

    Raises:
        ValueError: batch or grid differ.
    """
    columns = unit_columns(student, latent)
    scale = 1 / columns[0].shape[2] if normalise == "positions" else 1.0
    if form == "row":
        return row_norms(*columns).sum(dim=1).mean() * scale
    return squared_distance(*columns).mean() * scale**2
