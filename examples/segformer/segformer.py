"""SegFormer (Xie et al., NeurIPS 2021) from Hugging Face's transformers, as a family of whole networks.

    model = SegformerForSemanticSegmentation.from_pretrained("nvidia/segformer-b2-finetuned-cityscapes-1024-1024")
    torch.save(model.state_dict(), "segformer-b2.pt")

    harness sweep --plugin segformer.py --teachers segformer:b2 --teacher-weights segformer-b2.pt ...

Not the file that `save_pretrained` writes: its names of weights are those of another version of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from backbones.whole import NetworkFamily, Taps

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
    "b0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b1": {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "b2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    "b3": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 18, 3], "decoder_hidden_size": 768},
    "b4": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 8, 27, 3], "decoder_hidden_size": 768},
    "b5": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3], "decoder_hidden_size": 768},
}
"""Of the paper's table 7; `tiny` is for trying things."""


class Readable(SegformerForSemanticSegmentation):
    """The same network with the same names of weights; its encoder's maps pass submodules, where they can be read."""

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__(config)
        self.stages = nn.ModuleList(nn.Identity() for _ in config.depths)

    def forward(self, images: Tensor) -> Tensor:
        encoded = self.segformer(images, output_hidden_states=True, return_dict=True).hidden_states
        return self.decode_head([stage(x) for stage, x in zip(self.stages, encoded, strict=True)])


class Segformer(NetworkFamily):
    """SegFormer's five sizes."""

    name: ClassVar[str] = "segformer"
    summary: ClassVar[str] = "Hugging Face's SegFormer, b0 to b5; whole networks with their own head"

    def encoders(self) -> Sequence[str]:
        return sorted(SIZES)

    def module(self, name: str, classes: int, options: Mapping[str, Any]) -> tuple[nn.Module, Taps]:
        if name not in SIZES:
            raise ValueError(f"segformer:{name} is unknown: there are {', '.join(sorted(SIZES))}")
        config = SegformerConfig(num_labels=classes, **SIZES[name], **options)
        taps = Taps("decode_head.classifier", tuple(f"stages.{i}" for i in range(4)), multiple=32)
        return Readable(config), taps
