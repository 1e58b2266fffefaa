"""The frozen teacher of a cohort."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones.base import NetworkMaps
from backbones.folding import fold_batch_norms
from harness.builders.models import build_model
from harness.specs.spec import parse_model
from harness.training.teacher import Teacher, TeacherMaps
from methods.base import memo


def network(word: str = "timm:test_resnet/linear@16") -> nn.Module:
    """A network whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    built = build_model(parse_model(word), 3).eval()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return built.requires_grad_(False)


def norms(module: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d) for each in module.modules())


@pytest.mark.parametrize("word", ["timm:test_resnet/linear@16", "timm:mobilenetv2_100/aspp@8", "smp:resnet18/fpn@32"])
def test_folded_batch_norms_give_the_same_maps(word: str) -> None:
    whole = network(word)
    before = norms(whole)
    folded = fold_batch_norms(whole, (32, 32))  # type: ignore[arg-type]
    images = torch.randn(2, 3, 64, 64)
    expected, found = whole(images), folded(images)
    for a, b in zip((expected.logits, *expected.features), (found.logits, *found.features), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)
    assert norms(folded) == 0 and norms(whole) == before > 5


class Peeks(nn.Module):
    """A network that adds what comes out of its convolution to what comes out of the norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> NetworkMaps:
        y = self.conv(x)
        maps = self.norm(y) + y
        return NetworkMaps(maps, maps, (maps,))


def test_a_convolution_whose_output_is_used_beside_its_norm_is_left_as_it_is() -> None:
    peeks = Peeks().eval().requires_grad_(False)
    assert peeks.norm.running_mean is not None
    peeks.norm.running_mean.normal_()
    assert fold_batch_norms(peeks, (8, 8)) is peeks  # type: ignore[type-var, arg-type]


def test_a_teacher_is_asked_once_a_batch_whoever_asks() -> None:
    teacher = Teacher(network())  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 32)
    first = teacher.maps(images, teacher.backbone, "fp32")
    assert teacher.maps(images.clone(), teacher.backbone, "fp32") is first
    assert teacher.maps(images, teacher.backbone, "bf16") is not first
    teacher.forget()
    again = teacher.maps(images, teacher.backbone, "fp32")
    assert again is not first and torch.equal(again.logits, first.logits) and len(teacher.passes) == 3


def test_its_layout_is_chosen_once_for_each_precision() -> None:
    asked: list[str] = []

    def layout(precision: str) -> torch.memory_format:
        asked.append(precision)
        return torch.channels_last

    teacher = Teacher(network(), layout=layout)  # type: ignore[arg-type]
    for precision in ("fp32", "bf16", "fp32"):
        teacher.forget()
        teacher.maps(torch.randn(1, 3, 32, 32), teacher.backbone, precision)  # type: ignore[arg-type]
    assert asked == ["fp32", "bf16"]


def test_maps_that_somebody_wrote_to_are_computed_again() -> None:
    teacher = Teacher(network())  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 32)
    first = teacher.maps(images, teacher.backbone, "fp32")
    right = first.last.clone()
    first.last.mul_(2)
    assert torch.equal(teacher.maps(images, teacher.backbone, "fp32").last, right)


def count(maps: TeacherMaps, key: str, calls: list[str]) -> torch.Tensor:
    def compute() -> torch.Tensor:
        calls.append(key)
        assert not torch.is_grad_enabled()
        return maps.logits * 2

    return memo(maps, key, compute)


def test_what_follows_from_the_maps_is_computed_once_a_batch() -> None:
    teacher = Teacher(network())  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 32)
    calls: list[str] = []
    for _ in range(2):
        for _student in range(3):
            maps = teacher.maps(images, teacher.backbone, "fp32")
            first = count(maps, "a", calls)
            assert count(maps, "a", calls) is first and torch.equal(first, maps.logits * 2)
            count(maps, "b", calls)
        teacher.forget()
    assert calls == ["a", "b"] * 2


def test_under_autocast_it_is_another_value() -> None:
    maps = Teacher(network()).maps(torch.randn(1, 3, 32, 32), network().backbone, "fp32")  # type: ignore[arg-type]
    weight = torch.randn(maps.logits.shape[-1], 2)
    plain = memo(maps, "product", lambda: maps.logits @ weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = memo(maps, "product", lambda: maps.logits @ weight)
    assert plain.dtype is torch.float32 and cast.dtype is torch.bfloat16


def test_maps_that_remember_nothing_are_no_obstacle() -> None:
    class Plain:
        logits = last = torch.ones(1)
        features = ()

    calls: list[int] = []
    for _ in range(2):
        assert memo(Plain(), "x", lambda: calls.append(1) or 3) == 3  # type: ignore[func-returns-value]
    assert len(calls) == 2
