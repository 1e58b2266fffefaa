"""A batch in parts gives the gradient of the whole; what is frozen stays, and layers learn at their own rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.builders.distiller import build_distiller
from harness.builders.expression import resolve
from harness.builders.models import build_model, model_sizes
from harness.data.loading import Batch
from harness.specs.spec import Optimizer, Recipe, parse_model
from harness.training.auxiliary import build_auxiliary
from harness.training.learner import Control, Learner
from harness.training.objective import SegmentationObjective
from harness.training.optimizers import layers_of, make_optimizer
from harness.training.teacher import Teacher
from harness.workspace.events import Events
from methods.base import IGNORE

CLASSES = 3
VIT = "timm:test_vit/linear@16"
"""It has no batch norms, so that parts of a batch know nothing of each other."""
SGD = Optimizer(lr=0.5, momentum=0.0, weight_decay=0.0)


def batch(count: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, 64, 64, generator=generator)
    labels = torch.randint(CLASSES, (count, 64, 64), generator=generator)
    for i in range(count):
        labels[i, : 12 * i] = IGNORE  # each image counts differently
    return Batch(images, labels, ("",) * count, torch.arange(count))


def learner(word: str, recipe: Recipe, method: str = "none", auxiliary: float = 0.0) -> Learner:
    torch.manual_seed(0)
    spec, teacher = parse_model(word), parse_model("timm:test_resnet/linear@16")
    network, sizes = build_model(spec, CLASSES), model_sizes(spec, CLASSES)
    distiller = build_distiller(resolve(method)[0], sizes, model_sizes(teacher, CLASSES), {}, seed=0)
    head = build_auxiliary(sizes, word, 1) if auxiliary else None
    if head is not None:
        head[1] = torch.nn.Identity()  # a batch norm
        head[3] = torch.nn.Identity()  # dropout draws anew for every part
    objective = SegmentationObjective(network, distiller, 0, None, head, auxiliary)
    control = Control(Events(None))
    return Learner(objective, recipe, torch.device("cpu"), "fp32", False, control, reads=network.backbone)


def stepped(one: Learner, data: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The weights after a step of plain gradient descent, and the logged terms."""
    torch.manual_seed(1)
    one.step(data, Teacher(build_model(parse_model("timm:test_resnet/linear@16"), CLASSES)))
    ((total, terms, _),) = one.read()
    return {n: p.detach() for n, p in one.objective.named_parameters()}, {"total": total, **terms}


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(parts: int) -> None:
    found = [
        stepped(learner(VIT, Recipe(batch_size=5, accumulate=n, optimizer=SGD, iterations=9), "kd", 0.4), batch())
        for n in (1, parts)
    ]
    before = {n: p.detach() for n, p in learner(VIT, Recipe(optimizer=SGD), "kd", 0.4).objective.named_parameters()}
    for name, weight in found[0][0].items():
        moved, again = weight - before[name], found[1][0][name] - before[name]
        assert torch.allclose(moved, again, rtol=1e-3, atol=1e-6), name
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    assert {"total", "ce", "aux"} < set(found[0][1])


def test_a_discriminator_learns_from_all_parts() -> None:
    """Its batch norms see a part each; that it takes one step on the maps of all is what is looked at."""
    recipe = Recipe(batch_size=4, accumulate=2, optimizer=SGD, iterations=9)
    one = learner("timm:test_resnet/linear@16", recipe, "skd.holistic")
    before = {n: p.detach().clone() for n, p in one.objective.named_parameters() if "discriminator" in n}
    stepped(one, batch(4))
    assert before and any(not torch.equal(dict(one.objective.named_parameters())[n], p) for n, p in before.items())
    assert one.objective._steps == []  # type: ignore[attr-defined]


def test_what_one_part_computes_is_dropped_before_the_next() -> None:
    seen: list[int] = []
    one = learner(VIT, Recipe(batch_size=5, accumulate=5, optimizer=SGD, iterations=9))
    one.objective.network.register_forward_pre_hook(  # type: ignore[union-attr]
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    stepped(one, batch())
    assert seen == [1] * 5


def test_accumulation_has_no_more_parts_than_images() -> None:
    with pytest.raises(ValueError, match="a batch of 2 has no 3 parts"):
        Recipe(batch_size=2, accumulate=3)


def scales(word: str, **optimizer: Any) -> dict[str, float]:
    recipe = Recipe(optimizer=Optimizer(**optimizer))
    torch.manual_seed(0)
    objective = learner(word, recipe).objective
    names = {id(p): n for n, p in objective.named_parameters()}
    groups = make_optimizer(objective, recipe).param_groups
    return {names[id(p)]: group["scale"] for group in groups for p in group["params"]}


def test_layers_of_a_transformer_learn_at_decaying_rates() -> None:
    """test_vit has six blocks: the stem is layer 0, and learns at decay^7 of the head's rate."""
    found = scales(VIT, layer_decay=0.5, head_lr=3.0)
    inner = "network.backbone.model.model."
    assert found[f"{inner}patch_embed.proj.weight"] == found[f"{inner}pos_embed"] == 0.5**7
    assert [found[f"{inner}blocks.{i}.mlp.fc1.weight"] for i in range(6)] == [0.5 ** (6 - i) for i in range(6)]
    assert {value for name, value in found.items() if name.startswith("network.head.")} == {3.0}
    assert set(scales(VIT).values()) == {1.0}


def test_blocks_of_a_convolutional_encoder_are_layers_in_order() -> None:
    backbone = build_model(parse_model("timm:test_efficientnet/linear@16"), CLASSES).backbone
    layers = layers_of(backbone)
    assert set(layers) == {name for name, _ in backbone.named_parameters()}
    order = list(layers.values())
    assert order == sorted(order) and len(set(order)) > 4
    assert len({layer for name, layer in layers.items() if name.startswith("model.blocks.1.0.")}) == 1
